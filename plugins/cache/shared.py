"""The second store: entries in the shared Redis, where every proxy that shares it finds them."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from plugins.cache.codec import Line, line_of
from proxy.store import SharedStore, StoreUnavailable

T = TypeVar("T")

LIBRARY: Final = "plugins.cache.backend"
STEP: Final = 100
"""Names that one call looks at, reads or deletes: well below a millisecond, in which nobody else is answered."""
LEAST_TTL_S: Final = 0.001
MOST_TTL_S: Final = 10 * 365 * 86400.0


class SharedEntries:
    """Keeps entries, as bytes, under names `{store.prefix}:cache:{key}`; they go by themselves when their time is over.

    Each call asks the store that is in force then, within its deadline, and raises StoreUnavailable where there is no
    answer, or no store.

    Args:
        store: `PluginContext.store`.
    """

    def __init__(self, store: Callable[[], SharedStore | None]) -> None:
        self._store = store
        self._library: Any = None  # Any: the module, known by the methods of its Backend
        self._backend: Any = None
        self._client: object = None

    async def get(self, key: bytes) -> bytes | None:
        """Find what is kept under a key."""
        found: bytes | None = await self._ask(lambda backend: backend.get(key.hex()))
        return found

    async def set(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep a value for so many seconds from now, staleness included; below a millisecond it is not kept."""
        if ttl_s >= LEAST_TTL_S:
            await self._ask(lambda backend: backend.set(key.hex(), value, ttl=float(min(ttl_s, MOST_TTL_S))))

    async def delete(self, keys: Sequence[bytes]) -> int:
        """Delete what is kept under some keys; how many there were."""
        deleted = 0
        for at in range(0, len(keys), STEP):
            deleted += await self._delete_some(keys[at : at + STEP])
        return deleted

    async def clear(self, chosen: Callable[[Line], bool] | None = None) -> int:
        """Delete entries, a few at a time: the server goes on answering others, and each step has the deadline.

        Args:
            chosen: tells by the first line of an entry whether it goes; what has no line that can be read goes as
                well. Without it all go, unread.
        Returns:
            How many went. What is stored meanwhile may stay.
        Raises:
            StoreUnavailable: at some step; what went before is gone.
        """
        deleted, cursor = 0, 0
        while True:
            cursor, names = await self._find(cursor)
            for at in range(0, len(names), STEP):
                deleted += await self._clear_some(names[at : at + STEP], chosen)
            if not cursor:
                return deleted

    async def lines(self, chosen: Callable[[Line], bool], limit: int) -> list[Line]:
        """List what entries say of themselves, in no order, until there are enough. Raises StoreUnavailable."""
        found: list[Line] = []
        cursor = 0
        while True:
            cursor, names = await self._find(cursor)
            for at in range(0, len(names), STEP):
                beginnings = await self._beginnings(names[at : at + STEP])
                found += [line for line in map(line_of, beginnings) if line is not None and chosen(line)]
            if not cursor or len(found) >= limit:
                return found[:limit]

    async def _beginnings(self, names: Sequence[bytes]) -> list[bytes]:
        beginnings: list[bytes] = await self._ask(lambda backend: backend.beginnings(names))
        return beginnings

    async def _delete_some(self, keys: Sequence[bytes]) -> int:
        def act(backend: Any) -> Awaitable[int]:  # Any: as `_backend`
            unlinking: Awaitable[int] = backend.unlink([backend.name_of(key.hex()) for key in keys])
            return unlinking

        return await self._ask(act)

    async def _find(self, cursor: int) -> tuple[int, list[bytes]]:
        found: tuple[int, list[bytes]] = await self._ask(lambda backend: backend.find(cursor, STEP))
        return found

    async def _clear_some(self, names: Sequence[bytes], chosen: Callable[[Line], bool] | None) -> int:
        going = names
        if chosen is not None:
            lines = zip(names, map(line_of, await self._beginnings(names)), strict=True)
            going = [name for name, line in lines if line is None or chosen(line)]
        deleted: int = await self._ask(lambda backend: backend.unlink(going)) if going else 0
        return deleted

    async def _ask(self, act: Callable[..., Awaitable[T]]) -> T:
        store = self._store()
        if store is None:
            raise StoreUnavailable("no shared store is configured (store.url)")
        if self._library is None:  # not in the time of a call, and not on the loop
            self._library = await asyncio.to_thread(importlib.import_module, LIBRARY)
        return await store.call(lambda redis: act(self._backend_of(redis, store.prefix)))

    def _backend_of(self, redis: object, prefix: str) -> Any:
        if redis is not self._client:
            self._backend, self._client = self._library.Backend(redis, f"{prefix}:cache"), redis
        return self._backend
