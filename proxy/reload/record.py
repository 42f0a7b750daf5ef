"""What is written down of the configuration: each revision, and what went wrong with any of it."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

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
        self._events = events
        self._wall_clock = wall_clock

    def begin(self, restored: Restored, store: SecretStore, corrupt: Sequence[str]) -> None:
        """Take note of what the start found, and write down what it begins with; blocks on the disk.

        Args:
            corrupt: files of the state folder that were damaged, a line each.
        """
        if corrupt:
            self._trouble("revision_corrupt", "warning", "; ".join(corrupt), "What these files held is lost.")
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
            revision = self._revision(standing, order, restored.diff, store)
            self.history.save(revision, store.known, standing.loaded.settings.changes.keep)
        except OSError as error:
            self.history.skip()
            message = f"revision {standing.revision} cannot be written to the state folder: {_reason(error)}"
            self._trouble("write_failed", "error", message, NO_CHANGE)

    async def write(self, standing: Standing, order: Order, diff: Sequence[Json], store: SecretStore) -> None:
        """Write a revision that is to come into force. Raises StorageFailed, StorageFull: it is not there."""
        await self._save(lambda: self._revision(standing, order, diff, store), standing, store)

    async def write_pending(self, standing: Standing, store: SecretStore) -> None:
        """Write anew what is pending, where no setting changed. Raises as `write`."""
        found = await asyncio.to_thread(self.history.get, standing.revision)
        if found is not None:
            pending = _concealed(standing.pending, standing.loaded.shape, store)
            await self._save(lambda: replace(found, pending=pending), standing, store)

    def tell(self, revision: int, order: Order, diff: Sequence[Json]) -> None:
        """Tell of a change that came into force, and forget what it mends."""
        for kind in ("overlay_set_aside", "write_failed"):
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
        try:
            await asyncio.to_thread(lambda: self.history.save(make(), store.known, keep))
        except OSError as error:
            kind = StorageFull if error.errno in FULL else StorageFailed
            message = f"nothing was changed: the revision cannot be written to the state folder: {_reason(error)}"
            self._trouble("write_failed", "error", message, NO_CHANGE)
            raise kind(message) from error

    def _revision(self, standing: Standing, order: Order, diff: Sequence[Json], store: SecretStore) -> Revision:
        shape = standing.loaded.shape
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
