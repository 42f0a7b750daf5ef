"""A simulated provider that bears so many calls at once, and clients that want more; by a fake clock."""

import random
from collections.abc import Callable
from heapq import heappop, heappush

from proxy.routing.adaptive import AimdLimit

REFUSAL_S = 0.05

SERVICE_S = 2.0


class CrowdedServer:
    """Carries calls under a limit that learns from them, until a time.

    Args:
        capacity: calls it works on at once, at a time; what is above waits in its queue, or is refused.
        spread: of the logarithm of how much work a call is; 0.8 means that one of 20 is 3.7 times the usual one.
        demand: calls that clients want at once.
        work_s: seconds that the usual call takes, at a time.
        refused_share: calls that are refused for no reason of load.
    """

    def __init__(
        self,
        limit: AimdLimit,
        capacity: Callable[[float], float] = lambda _: float("inf"),
        *,
        refuses: bool = False,
        spread: float = 0.0,
        demand: float = float("inf"),
        work_s: Callable[[float], float] = lambda _: SERVICE_S,
        refused_share: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.limit = limit
        self.changes: list[tuple[float, int]] = [(0.0, limit.limit)]
        """When the limit changed, and to what."""
        self.now_s = 0.0
        self._capacity = capacity
        self._refuses = refuses
        self._spread = spread
        self._demand = demand
        self._work_s = work_s
        self._refused_share = refused_share
        self._random = random.Random(seed)
        self._ends: list[tuple[float, int, float, bool]] = []
        self._begun = 0
        self._working = 0
        self._queue: list[tuple[float, int]] = []

    def run(self, until_s: float) -> None:
        while self.now_s < until_s:
            while len(self._ends) + len(self._queue) < min(self.limit.limit, self._demand):
                self._begin()
            self._end()

    def mean(self, from_s: float, to_s: float) -> float:
        """Average the limit over a time that has been."""
        later = [at_s for at_s, _ in self.changes[1:]] + [to_s]
        spans = (
            (max(0.0, min(end_s, to_s) - max(at_s, from_s)), limit)
            for (at_s, limit), end_s in zip(self.changes, later, strict=True)
        )
        return sum(span_s * limit for span_s, limit in spans) / (to_s - from_s)

    def most(self, from_s: float, to_s: float) -> int:
        return max(limit for at_s, limit in self.changes if from_s <= at_s <= to_s)

    def _begin(self) -> None:
        self._begun += 1
        if self._random.random() < self._refused_share or (
            self._refuses and self._working >= self._capacity(self.now_s)
        ):
            heappush(self._ends, (self.now_s + REFUSAL_S, self._begun, self.now_s, True))
        else:
            heappush(self._queue, (self.now_s, self._begun))
            self._work()

    def _work(self) -> None:
        while self._queue and self._working < self._capacity(self.now_s):
            begun_s, number = heappop(self._queue)
            work_s = self._work_s(self.now_s) * self._random.lognormvariate(0.0, self._spread)
            self._working += 1
            heappush(self._ends, (self.now_s + work_s, number, begun_s, False))

    def _end(self) -> None:
        in_flight = len(self._ends) + len(self._queue)
        self.now_s, _, begun_s, is_refused = heappop(self._ends)
        limit = self.limit.observe(self.now_s - begun_s, in_flight, is_refused=is_refused, now_s=self.now_s)
        if limit != self.changes[-1][1]:
            self.changes.append((self.now_s, limit))
        self._working -= not is_refused
        self._work()
