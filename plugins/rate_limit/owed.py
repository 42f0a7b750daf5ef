"""Places of requests in work that a server may still hold although nobody needs them: given back once it answers."""

from collections.abc import Callable, Sequence
from typing import Final

from plugins.rate_limit.shared import LEASE_US, Answer, SharedCharge, SharedCounts, SharedHold
from plugins.rate_limit.waiting import Sleep
from proxy.plugin import Spawn
from proxy.store import SharedStore, StoreUnavailable

AGAIN_S: Final = 1.0
"""Between two tries while the server gives no answer."""

MOST: Final = 10_000

UNKNOWN: Final = Answer(0, 0, 0, 0, 0, 0)
"""Of a server that was not waited for."""


class Owed:
    """What is to be given back.

    A request whose client left while it was asked for, one that the server answered too late, and one that ended while
    the server was away: each may hold its places until they run out. Only places are given back: what else was taken
    stays taken, because to give back what was never taken would let others pass the limit.

    Args:
        store: gives the server that is configured now; raises StoreUnavailable where there is none.
        now_us: the wall clock.
        spawn: for giving back, which nobody waits for.
    """

    def __init__(
        self,
        counts: SharedCounts,
        store: Callable[[], SharedStore],
        now_us: Callable[[], int],
        spawn: Spawn,
        sleep: Sleep,
    ) -> None:
        self._counts = counts
        self._store = store
        self._now_us = now_us
        self._spawn = spawn
        self._sleep = sleep
        self._places: dict[str, tuple[int, list[SharedCharge]]] = {}
        self._is_paying = False

    def add(self, request_id: str, charges: Sequence[SharedCharge]) -> None:
        """Give back the places among what a request has taken, or may have."""
        places = [charge for charge in charges if charge.rule.counts == "concurrent"]
        if not places:
            return
        if len(self._places) >= MOST:
            del self._places[next(iter(self._places))]
        self._places[request_id] = self._now_us() + LEASE_US, places
        if not self._is_paying:
            self._is_paying = True
            self._spawn(self._pay(), name="rate limit: give places back")

    async def _pay(self) -> None:
        """Give back until nothing is owed; what has run out by itself is dropped."""
        try:
            while self._places:
                for request_id, (until_us, places) in list(self._places.items()):
                    if self._now_us() < until_us and not await self._give_back(request_id, places):
                        await self._sleep(AGAIN_S)
                        break
                    self._places.pop(request_id, None)
        finally:
            self._is_paying = False

    async def _give_back(self, request_id: str, places: Sequence[SharedCharge]) -> bool:
        try:
            await self._counts.settle(self._store(), [(SharedHold(place, UNKNOWN), 0) for place in places], request_id)
        except StoreUnavailable:
            return False
        return True
