"""One model at one provider: its circuit, its keys, and how long it takes lately."""

from bisect import bisect_left
from collections.abc import Sequence
from math import exp, inf
from operator import add
from typing import Final

from proxy.config.routing_models import BreakerSettings
from proxy.metrics import Distribution
from proxy.routing.breaker import Breaker, State
from proxy.routing.keys import KeyPool

FORGETS_S: Final = 10.0
"""Time constant of the average: a peak has lost two thirds of its weight after it."""

HALF_WINDOW_S: Final = 30.0
"""Percentiles speak of the running span of this length and the one before it."""

BUCKETS_S: Final = tuple(0.001 * 1.25**step for step in range(58))
"""Up to five minutes. Those of the metrics are so wide that 10 s can look like four times 5 s."""


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

    @property
    def is_blank(self) -> bool:
        """Nothing was ever seen."""
        return not self._at_s

    def value_s(self, now_s: float) -> float | None:
        """Give the average; it fades while nothing is seen, so that who was slow is tried again. None before all."""
        if not self._at_s:
            return None
        return self._value_s * exp((self._at_s - now_s) / FORGETS_S)


class Recent:
    """How long calls took in the last half to whole minute."""

    __slots__ = ("_before", "_now", "_turn_at_s")

    def __init__(self) -> None:
        self._now = [0] * (len(BUCKETS_S) + 1)
        self._before = [0] * (len(BUCKETS_S) + 1)
        self._turn_at_s = 0.0

    def observe(self, value_s: float, now_s: float) -> None:
        """Count one call."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        self._now[bisect_left(BUCKETS_S, value_s)] += 1

    def quantile(self, share: float, now_s: float, *, least: int = 1) -> float | None:
        """Estimate a quantile, at most a quarter too high or too low; None with fewer than `least` calls."""
        return _quantile(self.counts(now_s), share, least)

    def counts(self, now_s: float) -> list[int]:
        """Give the calls by bucket."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        return list(map(add, self._now, self._before))

    def _turn(self, now_s: float) -> None:
        is_stale = now_s - self._turn_at_s >= HALF_WINDOW_S
        self._before = [0] * (len(BUCKETS_S) + 1) if is_stale else self._now
        self._now = [0] * (len(BUCKETS_S) + 1)
        self._turn_at_s = now_s + HALF_WINDOW_S


class RecentOfBoth:
    """The same, with streams and whole replies told apart: the first byte of the latter comes with the last."""

    __slots__ = ("streams", "wholes")

    def __init__(self, wholes: Recent | None = None) -> None:
        self.streams = Recent()
        self.wholes = wholes or Recent()

    def quantile(self, share: float, now_s: float, *, least: int = 1, is_streaming: bool | None = None) -> float | None:
        """Estimate a quantile as `Recent` does; of both kinds together if `is_streaming` is None."""
        if is_streaming is not None:
            return (self.streams if is_streaming else self.wholes).quantile(share, now_s, least=least)
        both = map(add, self.streams.counts(now_s), self.wholes.counts(now_s))
        return _quantile(list(both), share, least)


def _quantile(counts: list[int], share: float, least: int) -> float | None:
    if sum(counts) < least:
        return None
    found = Distribution(BUCKETS_S)
    found.counts = counts
    return found.quantile(share)


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
        "rests_until_s",
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
        self.first_bytes = RecentOfBoth()
        self.durations = RecentOfBoth(self.first_bytes.wholes)
        self.rests_until_s = -inf
        """The provider, for which there are no keys, does not want to hear of it until then."""
        self.judged_at_s = 0.0
        """When it was last compared with its rivals; see `outliers`."""
        self.slow_until_s = 0.0
        """It is left out until then, because it is much slower than its rivals."""
        self.slow_reason = ""

    def observe(self, first_byte_s: float | None, duration_s: float, now_s: float, *, is_streaming: bool) -> None:
        """Take note of a call that went well.

        Args:
            first_byte_s: of a stream, None if all of it came at once; not read of a whole reply.
        """
        if is_streaming:
            first_byte_s = duration_s if first_byte_s is None else first_byte_s
            self.first_bytes.streams.observe(first_byte_s, now_s)
            self.streams.observe(first_byte_s, now_s)
            self.durations.streams.observe(duration_s, now_s)
        else:
            self.first_bytes.wholes.observe(duration_s, now_s)
            self.wholes.observe(duration_s, now_s)

    def gave_up(self, waited_s: float, now_s: float, *, is_streaming: bool) -> None:
        """Take note of a call that was dropped without an answer because another provider was faster.

        It would have taken longer than this: who loses all races must not look quick. A short wait says nothing.
        """
        usual_s = self.first_bytes.quantile(0.5, now_s, is_streaming=is_streaming)
        if usual_s is not None and waited_s > usual_s:
            (self.first_bytes.streams if is_streaming else self.first_bytes.wholes).observe(waited_s, now_s)
        average = self.streams if is_streaming else self.wholes
        if waited_s > (average.value_s(now_s) or 0.0):
            average.observe(waited_s, now_s)

    def rest(self, now_s: float, wait_s: float) -> None:
        """Note that the provider, for which there are no keys, wants to be left alone."""
        self.rests_until_s = max(self.rests_until_s, now_s + wait_s)

    def resettle(self, settings: BreakerSettings, credentials: Sequence[str], now_s: float) -> None:
        """Take over new settings; what was seen stays."""
        self.breaker.resettle(settings, now_s)
        if self.keys is None or not credentials:
            self.keys = KeyPool(credentials) if credentials else None
        else:
            self.keys.resettle(credentials)

    @property
    def is_blank(self) -> bool:
        """Nothing is known of it: it may be forgotten."""
        return self.is_forgettable and self.streams.is_blank and self.wholes.is_blank

    @property
    def is_forgettable(self) -> bool:
        """Nothing speaks against it: what is known of it are times."""
        keys = () if self.keys is None else self.keys.keys
        return self.breaker.is_calm and self.rests_until_s == -inf and all(key.free_s == -inf for key in keys)

    def cooldowns(self, now_s: float) -> int:
        """Count what makes it be left alone besides its circuit: keys that rest, and that it is slow."""
        keys = () if self.keys is None else self.keys.keys
        resting = sum(key.free_s > now_s for key in keys)
        return resting + (self.slow_until_s > now_s) + (self.rests_until_s > now_s)

    def forget_times(self) -> None:
        """Begin anew: what it takes after a rest says more than what it took before."""
        self.first_bytes = RecentOfBoth()
        self.durations = RecentOfBoth(self.first_bytes.wholes)
        self.streams = PeakAverage()
        self.wholes = PeakAverage()

    def reset(self, now_s: float) -> State | None:
        """Forget what went wrong; returns the new state of the circuit if this changed it."""
        self.slow_until_s = 0.0
        self.rests_until_s = -inf
        if self.keys is not None:
            self.keys.reset()
        return self.breaker.reset(now_s)
