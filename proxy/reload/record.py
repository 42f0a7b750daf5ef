"""What is written down of the configuration: each revision, and what went wrong with any of it."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeVar

from proxy.config.history import History
from proxy.config.patch import Json
from proxy.config.proposal import diff_of
from proxy.config.restore import Restored
from proxy.config.revisions import Pending, Revision
from proxy.config.secrets import SecretStore, redact
from proxy.config.shape import Shape
from proxy.config.standing import Standing
from proxy.errors import StorageFailed, StorageFull
from proxy.events import Events, Level
from proxy.plugin import Issue, Severity
from proxy.reload.order import Order

FoundT = TypeVar("FoundT")

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MOST_PATHS_TOLD: Final = 10
NO_CHANGE: Final = "No change is possible before the disk takes it."


class Record:
    """Writes revisions, and tells of changes and of troubles.

    Args:
        wall_clock: seconds since 1970.
    """

    def __init__(self, history: History, events: Events, wall_clock: Callable[[], float]) -> None:
        self.history = history
        self.troubles: dict[str, Issue] = {}
        """What went wrong with the configuration outside of any call, by kind, until it is mended."""
        self._current: Revision | None = None
        """The one in force as it was written, so that it can be written again, and what that takes."""
        self._store: SecretStore | None = None
        self._shape = Shape({})
        self._keep = 2
        self._events = events
        self._wall_clock = wall_clock

    def begin(self, restored: Restored, store: SecretStore, newest: Revision | None) -> None:
        """Take note of what the start found, and write down what it begins with; blocks on the disk.

        To be called when the start has succeeded: a start that fails must leave the disk as it was.

        Args:
            newest: the newest revision of an earlier process.
        """
        self._current, self._store = newest, store
        self._keep = restored.standing.loaded.settings.changes.keep
        if damage := self.history.take_damage():
            self._tell_of_damage(damage)
        if restored.trouble is not None:
            self.troubles[restored.trouble.kind] = restored.trouble
            self._events.emit("ERROR", "config_overlay_set_aside", restored.trouble.message)
        standing = restored.standing
        if restored.cause is None:
            count = len(diff_of(standing.base, standing.document))
            over = f", {count} live changes over the file" if count else ""
            self._events.emit("INFO", "config_restored", f"revision {standing.revision} goes on{over}")
            return
        order = Order(author=restored.cause, cause=restored.cause, reason=restored.reason[:500])
        try:
            self._current = self._revision(standing, order, restored.diff, store)
            self.history.save(self._current, store, standing.loaded.settings.changes.keep)
        except OSError as error:
            self.history.skip()
            message = f"revision {standing.revision} cannot be written to the state folder: {_reason(error)}"
            self._trouble("write_failed", "error", message, NO_CHANGE)

    def know(self, shape: Shape) -> None:
        """Know where secrets stand in one more document.

        The file may have sections of plugins that are no longer listed.
        """
        self._shape = self._shape.joined(shape)

    async def write(self, standing: Standing, order: Order, diff: Sequence[Json], store: SecretStore) -> None:
        """Write a revision that is to come into force. Raises StorageFailed, StorageFull: it is not there."""
        await self._save(lambda: self._revision(standing, order, diff, store), standing, store)

    async def write_pending(self, standing: Standing, store: SecretStore) -> None:
        """Write anew what is pending, where no setting changed. Raises as `write`."""
        current = self._current
        if current is not None:
            pending = _concealed(standing.pending, self._shape, store)
            await self._save(lambda: replace(current, pending=pending), standing, store)

    async def find(self, number: int) -> Revision | None:
        """Read a revision; None if it is not there. Raises StorageFailed."""
        return await self._read(lambda: self.history.get(number))

    async def numbers(self) -> list[int]:
        """List the revisions there are, oldest first. Raises StorageFailed."""
        return await self._read(self.history.numbers)

    async def summaries(self, summarise: Callable[[Revision], Json]) -> list[Json]:
        """Tell of every revision there is, newest first; only one of them is in memory at a time."""

        def read() -> list[Json]:
            found = (self.history.get(number) for number in reversed(self.history.numbers()))
            return [summarise(revision) for revision in found if revision is not None]

        return await self._read(read)

    async def _read(self, read: Callable[[], FoundT]) -> FoundT:
        try:
            found = await asyncio.to_thread(read)
        except OSError as error:
            raise StorageFailed(f"the state folder cannot be read: {_reason(error)}") from error
        if damage := self.history.take_damage():
            self._tell_of_damage(damage)
            await self._mend()
        return found

    async def _mend(self) -> None:
        """Write the revision in force again if its own file was the damaged one: the next start reads it."""
        current, store = self._current, self._store
        if current is None or store is None or current.number in await asyncio.to_thread(self.history.numbers):
            return
        with suppress(OSError):  # told already; the next change writes another one
            await asyncio.to_thread(self.history.save, current, store, self._keep)

    def tell_of_revert(self, message: str) -> None:
        """Tell that a change that should have ended is still in force."""
        self._trouble("revert_failed", "error", message, "It is tried again every minute, and at the next start.")

    def forget_revert(self) -> None:
        """No change that should have ended is in force any more."""
        self.troubles.pop("revert_failed", None)

    def _tell_of_damage(self, found: Sequence[str]) -> None:
        """Tell of files that were found damaged; each was set aside."""
        self._trouble("revision_corrupt", "warning", "; ".join(found), "What these files held is lost.")

    def tell(self, revision: int, order: Order, diff: Sequence[Json]) -> None:
        """Tell of a change that came into force, and forget what it mends."""
        for kind in ("overlay_set_aside", "write_failed", "revision_corrupt"):
            self.troubles.pop(kind, None)
        paths = [str(one["path"]) for one in diff]
        more = f" and {len(paths) - MOST_PATHS_TOLD} more" if len(paths) > MOST_PATHS_TOLD else ""
        what = ", ".join(paths[:MOST_PATHS_TOLD]) + more or "no setting in effect"
        why = f": {order.reason}" if order.reason else ""
        level: Level = "WARN" if order.cause == "guard" else "INFO"
        message = f"revision {revision} by {order.author} ({order.cause}) changed {what}{why}"
        self._events.emit(level, "config_changed", message, revision=revision, cause=order.cause, author=order.author)

    async def _save(self, make: Callable[[], Revision], standing: Standing, store: SecretStore) -> None:
        keep = standing.loaded.settings.changes.keep

        def save() -> Revision:
            revision = make()
            self.history.save(revision, store, keep)
            return revision

        try:
            self._current = await asyncio.to_thread(save)
            self._store, self._keep = store, keep
        except OSError as error:
            kind = StorageFull if error.errno in FULL else StorageFailed
            message = f"nothing was changed: the revision cannot be written to the state folder: {_reason(error)}"
            self._trouble("write_failed", "error", message, NO_CHANGE)
            raise kind(message) from error

    def _revision(self, standing: Standing, order: Order, diff: Sequence[Json], store: SecretStore) -> Revision:
        self.know(standing.loaded.shape)
        shape = self._shape
        return Revision(
            number=standing.revision,
            time_s=self._wall_clock(),
            author=order.author,
            reason=order.reason,
            cause=order.cause,
            document=redact(standing.document, shape, store),
            base=redact(standing.base, shape, store),
            diff=tuple(diff),
            pending=_concealed(standing.pending, shape, store),
        )

    def _trouble(self, kind: str, severity: Severity, message: str, why: str) -> None:
        self.troubles[kind] = Issue(kind, severity, "state.dir", message, why)
        self._events.emit("ERROR" if severity == "error" else "WARN", f"config_{kind}", message)


def _concealed(pending: Sequence[Pending], shape: Shape, store: SecretStore) -> tuple[Pending, ...]:
    return tuple(replace(one, inverse=redact(one.inverse, shape, store)) for one in pending)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
