"""aiocache's Redis backend on the shared store's client, for values that are bytes.

No module imports this one: `shared` loads it when there is a store, as the library behind it takes 0.1 s.
"""

from collections.abc import Sequence
from typing import Any, Final

from aiocache import RedisCache  # type: ignore[import-untyped]  # the library has no types
from aiocache.serializers import BaseSerializer  # type: ignore[import-untyped]  # as above

BEGINNING_BYTES: Final = 4096


class BytesSerializer(BaseSerializer):  # type: ignore[misc]  # of a library without types
    """Leaves values as they are: an entry is written by `codec`, and nothing that is read can run."""

    DEFAULT_ENCODING = None

    def dumps(self, value: bytes) -> bytes:
        """Write a value."""
        return value

    def loads(self, value: bytes | None) -> bytes | None:
        """Read a value."""
        return value


class Backend(RedisCache):  # type: ignore[misc]  # as above
    """A cache on a client that is somebody else's: it has no connections and no deadline of its own.

    Args:
        redis: a `redis.asyncio.Redis` that answers in bytes.
        namespace: what its names begin with, before a colon; no character in it means something to SCAN.
    """

    def __init__(self, redis: Any, namespace: str) -> None:  # Any: as in SharedStore
        super().__init__(serializer=BytesSerializer(), namespace=namespace, timeout=None)
        self.client = redis  # aiocache 0.12 takes none, and has made one of its own, which has opened nothing

    async def find(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Look at some more of the server's names, ours or not.

        Returns:
            Where to go on, 0 when all were seen; and those that are ours, perhaps twice.
        """
        then, names = await self.raw("scan", cursor, match=f"{self.namespace}:*", count=count)
        return int(then), list(names)

    async def beginnings(self, names: Sequence[bytes]) -> list[bytes]:
        """Read how some values begin; empty for those that are gone."""
        async with self.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.getrange(name, 0, BEGINNING_BYTES - 1)
            return list(await pipeline.execute())

    async def unlink(self, names: Sequence[bytes] | Sequence[str]) -> int:
        """Delete some values; the server frees their memory in the background."""
        return int(await self.raw("unlink", *names)) if names else 0

    def name_of(self, key: str) -> str:
        """Give the name under which the server has a key."""
        return f"{self.namespace}:{key}"
