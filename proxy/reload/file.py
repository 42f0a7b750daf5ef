"""The configuration file while the program runs: an edit is applied as a revision, or refused with the reason."""

import asyncio
import logging
import shlex
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from watchfiles import awatch

from proxy.config.document import MAX_FILE_BYTES, read_regular_file
from proxy.config.loader import read
from proxy.errors import ConfigError, ProxyError, RevisionMismatch
from proxy.events import Events, Seldom
from proxy.plugin import Issue
from proxy.reload.configuration import Configuration
from proxy.reload.order import Order, Outcome
from proxy.upstream.dial import NO_FILE_LEFT

QUIET_MS: Final = 100
"""An editor writes in several steps: look when nothing has happened for so long."""
LONGEST_MS: Final = 400
LOOK_EVERY_MS: Final = 500
"""A file on a network mount, behind a link that leads elsewhere by now, or written before the watch, is found so."""
AGAIN_S: Final = 2.0
"""Until what failed is tried again: the watch, and an edit that did not come into force for no fault of the file."""
SAME_NEWS_EVERY_S: Final = 60.0
"""Most often that the log says that the file cannot be read or watched."""

WHY: Final = "The edit is not in force, and a restart would fail: what runs is the configuration from before it."


class ConfigFile:
    """The file that was named at the start.

    Args:
        content: what it held before it was read for the start.
        is_watched: whether edits are applied by themselves, asked at each one.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        configuration: Configuration,
        *,
        content: bytes | None,
        is_watched: Callable[[], bool],
        events: Events,
    ) -> None:
        self.path = path
        self._environ = environ
        self._configuration = configuration
        self._is_watched = is_watched
        self._events = events
        self._done: bytes | str | None = content
        """The content last applied or refused (or why it could not be read); None: it is to be tried again."""
        self._looked_at: tuple[int, ...] | None = None
        self._not_before_s = 0.0
        self._warned = Seldom[str](SAME_NEWS_EVERY_S)

    async def apply(self, order: Order) -> Outcome:
        """Read the file and apply it.

        Raises:
            ConfigError: it is refused; also told in the log, in `/health` and in `/config/issues` until it is mended,
                unless this process could open no file.
        """
        content = await asyncio.to_thread(self._content)
        try:
            outcome = await self._configuration.apply_file(lambda: read(self.path, self._environ), order)
        except ProxyError as error:
            if not order.is_dry_run and not isinstance(error, RevisionMismatch):
                self._note_failure(error, content)
            raise
        if not order.is_dry_run:
            self._done = content
            self._configuration.record.troubles.pop("file_refused", None)
        return outcome

    def _note_failure(self, error: ProxyError, content: bytes | str | None) -> None:
        """Tell why the file is not in force; what has nothing to do with it, such as a full disk, is tried again."""
        is_starved = _is_starved(error)
        if is_starved:
            self._warn("config_unreadable", f"{error.message}; what runs goes on, and the file is read again later")
            self._looked_at = None
        else:
            self._refuse(error)
            self._done = content if isinstance(error, ConfigError) else None
        if is_starved or self._done is None:
            self._not_before_s = asyncio.get_running_loop().time() + AGAIN_S

    def _warn(self, kind: str, message: str) -> None:
        """Tell of what may go on for long and mends itself; seldom."""
        if self._warned.admit(kind, asyncio.get_running_loop().time()) is not None:
            self._events.emit("WARN", kind, message, file=str(self.path))

    def _refuse(self, error: ProxyError) -> None:
        """Tell that the file is not in force; once for the same reason."""
        troubles = self._configuration.record.troubles
        message = f"the edit of the configuration file is refused: {error.message}"
        where = error.faults[0].path if isinstance(error, ConfigError) and error.faults else ""
        earlier = troubles.get("file_refused")
        troubles["file_refused"] = Issue(
            "file_refused", "error", where, message, WHY, command=f"$EDITOR {shlex.quote(str(self.path))}"
        )
        if earlier is None or earlier.message != message:
            self._events.emit("ERROR", "config_refused", message, file=str(self.path))

    async def apply_edit(self, author: str) -> None:
        """Apply what somebody may have written; a refusal is told in the log, not raised."""
        with suppress(ProxyError):  # told by `apply`
            await self.apply(Order(author=author, cause="file"))

    async def watch(self) -> None:
        """Apply each edit within a second, until cancelled."""
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each change, also of the log itself
        while True:
            try:
                await self._watch()
            except Exception as error:  # the folder is gone, there are too many watches, or a defect
                self._warn("config_unwatched", f"{self.path} cannot be watched, SIGHUP still applies edits: {error!r}")
                await asyncio.sleep(AGAIN_S)

    async def _watch(self) -> None:
        """Look at the file when something happens in its folders, and now and then whatever happens.

        Folders are watched, not the file: editors put a new one in its place, and container platforms a link.
        """
        folders, names = await asyncio.to_thread(self._places)
        watching = awatch(
            *folders,
            watch_filter=lambda _, path: Path(path).name in names,
            debounce=LONGEST_MS,
            step=QUIET_MS,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(watching):
            async for _ in watching:
                await self._apply_edit_if_new()

    def _places(self) -> tuple[set[Path], set[str]]:
        """Find the folders where the file's name and its content can change, and which names in them; asks the disk."""
        real = self.path.resolve()
        folders = {folder for folder in (self.path.absolute().parent, real.parent) if folder.is_dir()}
        return folders, {self.path.name, real.name, "..data"}  # container platforms swap this link

    async def _apply_edit_if_new(self) -> None:
        if asyncio.get_running_loop().time() < self._not_before_s:
            return
        if self._is_watched() and await asyncio.to_thread(self._is_new):
            await self.apply_edit("file")

    def _is_new(self) -> bool:
        """Tell whether the file holds something else than when it was last applied or refused."""
        signature = self._signature()
        if signature == self._looked_at and self._done is not None:
            return False
        content = self._content()
        self._looked_at = None if content is None else signature
        return content is None or content != self._done

    def _signature(self) -> tuple[int, ...]:
        """Tell by what changes with the content; empty where there is no file."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _content(self) -> bytes | str | None:
        """Read the file; why that fails tells one state of it from another, None that nothing is known of it."""
        try:
            return read_regular_file(self.path, MAX_FILE_BYTES)
        except (OSError, ValueError) as error:
            return None if _is_starved(error) else str(error)


def _is_starved(error: BaseException | None) -> bool:
    """Tell whether the process could open no more files, which says nothing about the file or its edit."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_FILE_LEFT:
            return True
        error = error.__cause__
    return False
