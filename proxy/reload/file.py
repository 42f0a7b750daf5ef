"""The configuration file while the program runs: an edit is applied as a revision, or refused with the reason."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from watchfiles import Change, awatch

from proxy.config.document import MAX_FILE_BYTES, read_regular_file
from proxy.config.loader import read
from proxy.errors import ConfigError, ProxyError
from proxy.events import Events
from proxy.plugin import Issue
from proxy.reload.configuration import Configuration
from proxy.reload.order import Order, Outcome

QUIET_MS: Final = 100
"""An editor writes in several steps: look when nothing has happened for so long."""
LONGEST_MS: Final = 400
LOOK_EVERY_MS: Final = 500
"""A file on a network mount, and one that changed before the watch had begun, is found by looking."""
WATCH_AGAIN_S: Final = 5.0

WHY: Final = "The edit is not in force, and a restart would fail: what runs is the configuration from before it."


class ConfigFile:
    """The file that was named at the start.

    Args:
        is_watched: whether edits are applied by themselves, asked at each one.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        configuration: Configuration,
        *,
        is_watched: Callable[[], bool],
        events: Events,
    ) -> None:
        self.path = path
        self._environ = environ
        self._configuration = configuration
        self._is_watched = is_watched
        self._events = events
        self._seen = self._content()
        self._looked_at = self._signature()

    async def apply(self, order: Order) -> Outcome:
        """Read the file and apply it.

        Raises:
            ConfigError: it is refused; also told in the log, in `/health` and in `/config/issues` until it is mended.
        """
        troubles = self._configuration.record.troubles
        self._seen = await asyncio.to_thread(self._content)
        try:
            outcome = await self._configuration.apply_file(lambda: read(self.path, self._environ), order)
        except ConfigError as error:
            if not order.is_dry_run:
                message = f"the edit of the configuration file is refused: {error.message}"
                where = error.faults[0].path if error.faults else ""
                troubles["file_refused"] = Issue(
                    "file_refused", "error", where, message, WHY, command=f"$EDITOR {self.path}"
                )
                self._events.emit("ERROR", "config_refused", message, file=str(self.path))
            raise
        if not order.is_dry_run:
            troubles.pop("file_refused", None)
        return outcome

    async def apply_edit(self, author: str) -> None:
        """Apply what somebody may have written; a refusal is told in the log, not raised."""
        try:
            await self.apply(Order(author=author, cause="file"))
        except ConfigError:
            return  # told by `apply`
        except ProxyError as error:
            message = f"the edit of the configuration file could not be applied: {error.message}"
            self._events.emit("ERROR", "config_refused", message, file=str(self.path))

    async def watch(self) -> None:
        """Apply each edit within half a second, until cancelled.

        Folders are watched, not the file: editors put a new one in its place, and container platforms a link.
        """
        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # a line for each change, also of the log itself
        while True:
            try:
                folders = {self.path.absolute().parent, self.path.resolve().parent}
                await self._apply_edit_if_new()  # made while nobody watched
                async for _ in awatch(
                    *folders,
                    watch_filter=self._is_ours,
                    debounce=LONGEST_MS,
                    step=QUIET_MS,
                    rust_timeout=LOOK_EVERY_MS,
                    yield_on_timeout=True,
                    recursive=False,
                ):
                    await self._apply_edit_if_new()
            except (OSError, RuntimeError) as error:  # the folder is gone, or there are too many watches
                message = f"{self.path} cannot be watched, SIGHUP still applies edits: {error}"
                self._events.emit("WARN", "config_unwatched", message, file=str(self.path))
            await asyncio.sleep(WATCH_AGAIN_S)

    def _is_ours(self, change: Change, path: str) -> bool:
        """Tell whether a change in the folders can be one of the file; container platforms swap the link `..data`."""
        return Path(path).name in (self.path.name, self.path.resolve().name, "..data")

    async def _apply_edit_if_new(self) -> None:
        if self._is_watched() and await asyncio.to_thread(self._is_new):
            await self.apply_edit("file")

    def _is_new(self) -> bool:
        """Tell whether the file holds something else than when it was last applied or refused."""
        signature = self._signature()
        if signature == self._looked_at:
            return False
        is_new = self._content() != self._seen
        self._looked_at = signature
        return is_new

    def _signature(self) -> tuple[int, ...]:
        """Tell by what changes with the content; empty where there is no file."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _content(self) -> bytes | str:
        try:
            return read_regular_file(self.path, MAX_FILE_BYTES)
        except (OSError, ValueError) as error:
            return str(error)
