"""One model at one provider: its circuit, its keys, and how long it takes lately."""

from collections.abc import Sequence
from math import exp
from typing import Final

from proxy.config.routing_models import BreakerSettings
from proxy.metrics import LATENCY_BUCKETS_S, Distribution
from proxy.routing.breaker import Breaker, State
from proxy.routing.keys import KeyPool

FORGETS_S: Final = 10.0
"""Time constant of the average: a peak has lost two thirds of its weight after it."""

HALF_WINDOW_S: Final = 30.0
"""Percentiles speak of the running span of this length and the one before it."""


class PeakAverage:
    """A moving average that follows a rise at once and a fall slowly.

    Source:
        Peak EWMA as in Finagle's load balancer: a sample above the average replaces it.
    """

    __slots__ = ("_at_s", "_value_s")

    def __init__(self) -> None:
        self._value_s = 0.0
        self._at_s = 0.0

    def observe(self, sample_s: float, now_s: float) -> None:
        """Take one sample."""
        value_s = self._value_s
        if sample_s >= value_s:
            self._value_s = sample_s
        else:
            weight = exp((self._at_s - now_s) / FORGETS_S)
            self._value_s = sample_s + (value_s - sample_s) * weight
        self._at_s = now_s

    def value_s(self, now_s: float) -> float | None:
        """Give the average; it fades while nothing is seen, so that who was slow is tried again. None before all."""
        if not self._at_s:
            return None
        return self._value_s * exp((self._at_s - now_s) / FORGETS_S)


class Recent:
    """How long calls took in the last half to whole minute."""

    __slots__ = ("_before", "_now", "_turn_at_s")

    def __init__(self) -> None:
        self._now = Distribution(LATENCY_BUCKETS_S)
        self._before = Distribution(LATENCY_BUCKETS_S)
        self._turn_at_s = 0.0

    def observe(self, value_s: float, now_s: float) -> None:
        """Count one call."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        self._now.observe(value_s)

    def quantile(self, share: float, now_s: float, *, least: int = 1) -> float | None:
        """Estimate a quantile; None with fewer than `least` calls."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        both = Distribution(LATENCY_BUCKETS_S)
        both.counts = [a + b for a, b in zip(self._now.counts, self._before.counts, strict=True)]
        return both.quantile(share) if sum(both.counts) >= least else None

    def _turn(self, now_s: float) -> None:
        is_stale = now_s - self._turn_at_s >= HALF_WINDOW_S
        self._before = Distribution(LATENCY_BUCKETS_S) if is_stale else self._now
        self._now = Distribution(LATENCY_BUCKETS_S)
        self._turn_at_s = now_s + HALF_WINDOW_S


class Lane:
    """One model at one provider.

    Args:
        model: the provider's name for it.
        credentials: the keys held for the provider; vendors limit each of them for each model by itself.
    """

    __slots__ = (
        "breaker",
        "durations",
        "first_bytes",
        "judged_at_s",
        "keys",
        "model",
        "slow_reason",
        "slow_until_s",
        "streams",
        "wholes",
    )

    def __init__(self, model: str | None, settings: BreakerSettings, credentials: Sequence[str] = ()) -> None:
        self.model = model
        self.breaker = Breaker(settings)
        self.keys = KeyPool(credentials) if credentials else None
        self.streams = PeakAverage()
        self.wholes = PeakAverage()
        self.first_bytes = Recent()
        self.durations = Recent()
        self.judged_at_s = 0.0
        """When it was last compared with its rivals; see `outliers`."""
        self.slow_until_s = 0.0
        """It is left out until then, because it is much slower than its rivals."""
        self.slow_reason = ""

    def observe(self, first_byte_s: float, duration_s: float, now_s: float, *, is_streaming: bool) -> None:
        """Take note of a call that went well."""
        self.first_bytes.observe(first_byte_s, now_s)
        self.durations.observe(duration_s, now_s)
        if is_streaming:
            self.streams.observe(first_byte_s, now_s)
        else:
            self.wholes.observe(duration_s, now_s)

    def resettle(self, settings: BreakerSettings, credentials: Sequence[str], now_s: float) -> None:
        """Take over new settings; what was seen stays."""
        self.breaker.resettle(settings, now_s)
        if self.keys is None or not credentials:
            self.keys = KeyPool(credentials) if credentials else None
        else:
            self.keys.resettle(credentials)

    def cooldowns(self, now_s: float) -> int:
        """Count what makes it be left alone besides its circuit: keys that rest, and that it is slow."""
        keys = () if self.keys is None else self.keys.keys
        return sum(key.free_s > now_s for key in keys) + (self.slow_until_s > now_s)

    def forget_times(self) -> None:
        """Begin anew: what it takes after a rest says more than what it took before."""
        self.first_bytes = Recent()
        self.durations = Recent()
        self.streams = PeakAverage()
        self.wholes = PeakAverage()

    def reset(self, now_s: float) -> State | None:
        """Forget what went wrong; returns the new state of the circuit if this changed it."""
        self.slow_until_s = 0.0
        if self.keys is not None:
            self.keys.reset()
        return self.breaker.reset(now_s)
