"""How well requests went lately: error rate and latency over a window, for guarded changes to be judged by."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.metrics import LATENCY_BUCKETS_S, Distribution

STEP_S: Final = 5.0
STEPS: Final = 120

LEAST_RATE: Final = 0.02
"""An error rate that grew by less than this is no worse, whatever the factor: one error in fifty can be chance."""
LEAST_LATENCY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted since the start.

    Args:
        latency: requests by duration, as `Distribution.counts` of `LATENCY_BUCKETS_S`.
    """

    requests: float
    failures: float
    latency: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen within a time.

    Args:
        p95_s: None while nothing was seen.
    """

    requests: int
    error_rate: float
    p95_s: float | None

    @classmethod
    def between(cls, before: Totals, after: Totals) -> "Window":
        """Take the difference of two totals."""
        requests = int(after.requests - before.requests)
        latency = Distribution(LATENCY_BUCKETS_S)
        latency.counts = [new - old for old, new in zip(before.latency, after.latency, strict=True)]
        rate = (after.failures - before.failures) / requests if requests else 0.0
        return cls(requests, rate, latency.quantile(0.95))

    def as_json(self) -> dict[str, float]:
        """Write it for a revision."""
        return {"requests": self.requests, "errorRate": self.error_rate, "p95": self.p95_s or 0.0}

    @classmethod
    def from_json(cls, written: dict[str, float]) -> "Window":
        """Read what `as_json` wrote."""
        return cls(int(written["requests"]), written["errorRate"], written["p95"] or None)


def verdict(before: Window, after: Window, *, factor: float, least_requests: int) -> str | None:
    """Tell how a window is worse than the one before; None if it is not, or if too little was seen to tell.

    Args:
        factor: how many times worse is too much.
        least_requests: in the window after; for latency also in the one before.
    """
    if after.requests < least_requests:
        return None
    grown = after.error_rate - before.error_rate
    if after.error_rate > before.error_rate * factor and grown >= LEAST_RATE:
        return f"the error rate went from {before.error_rate:.1%} to {after.error_rate:.1%} ({after.requests} requests)"
    if before.p95_s is None or after.p95_s is None or before.requests < least_requests:
        return None
    if after.p95_s > before.p95_s * factor and after.p95_s - before.p95_s >= LEAST_LATENCY_S:
        slower = f"{before.p95_s * 1000:.0f} ms to {after.p95_s * 1000:.0f} ms"
        return f"the p95 latency went from {slower} ({after.requests} requests)"
    return None


class Vitals:
    """Keeps totals of the last ten minutes, one every five seconds.

    Args:
        read: gives the totals now.
        clock: monotonic seconds.
    """

    def __init__(self, read: Callable[[], Totals], clock: Callable[[], float]) -> None:
        self.read = read
        self._clock = clock
        self._kept: deque[tuple[float, Totals]] = deque(maxlen=STEPS)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        self._kept.append((self._clock(), self.read()))
        self._timer = asyncio.get_running_loop().call_later(STEP_S, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def last(self, span_s: float) -> Window:
        """Sum up the last seconds, as far back as is known, to the next step."""
        now = self.read()
        since_s = self._clock() - span_s
        earlier = [totals for at_s, totals in self._kept if at_s <= since_s]
        if not self._kept:
            return Window.between(now, now)
        return Window.between(earlier[-1] if earlier else self._kept[0][1], now)
