"""Answers on their way into the shared store: who asked it before they were there finds them here."""

from collections import Counter

from plugins.cache.codec import decode
from plugins.cache.entry import Entry
from plugins.cache.shared import SharedEntries


class Landing:
    """Reads and writes the shared store as if writing took no time.

    Without it, of a thousand who ask the same at once, those whose question to the store was still under way when the
    answer came from the provider would learn that there is none, and have it asked for again.
    """

    def __init__(self, shared: SharedEntries) -> None:
        self._shared = shared
        self._coming: dict[bytes, Entry] = {}
        self._written: set[bytes] = set()
        """Those that are there, and held for questions that were asked before."""
        self._reads: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._coming)

    async def get(self, key: bytes) -> Entry | None:
        """Find an answer; one that is damaged is none.

        Raises:
            StoreUnavailable: the store gave no answer.
        """
        self._reads[key] += 1
        try:
            found = await self._shared.get(key)
            coming = self._coming.get(key)
            return coming if coming is not None or found is None else decode(found, key)
        finally:
            self._reads[key] -= 1
            if not self._reads[key]:
                del self._reads[key]
                if key in self._written:
                    self._let_go(key)

    def begin(self, entry: Entry) -> None:
        """Let an answer be found from now on."""
        self._coming[entry.key] = entry
        self._written.discard(entry.key)

    async def write(self, entry: Entry, data: bytes, ttl_s: float) -> None:
        """Write an answer that was begun.

        Raises:
            StoreUnavailable: it may not be there.
        """
        try:
            await self._shared.set(entry.key, data, ttl_s)
        finally:
            if self._coming.get(entry.key) is entry:
                if entry.key in self._reads:
                    self._written.add(entry.key)
                else:
                    self._let_go(entry.key)

    def forget(self) -> None:
        """Let nothing be found that is not there."""
        self._coming.clear()
        self._written.clear()

    def _let_go(self, key: bytes) -> None:
        self._coming.pop(key, None)
        self._written.discard(key)
