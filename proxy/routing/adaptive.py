"""How many calls a provider bears at once, found out from its latency and its refusals."""

import math
from typing import Final, NamedTuple

ROUND_CALLS: Final = 20
"""Calls of a round at least, and as many as the limit: single requests differ in length far too much."""

TOLERANCE: Final = math.log(1.6)
"""How far latency may be above the baseline; as all latencies here a logarithm."""

HELPED: Final = TOLERANCE / 3
"""How far latency must have come down after a cut; else it was not the number of calls that made it rise."""

UNDERSHOOT: Final = 0.8
"""How far below what should do a cut for latency goes, so that the baseline is seen without a queue once more."""

LARGEST_CUT: Final = 0.5
REFUSED_CUT: Final = 0.7

REFUSALS: Final = 0.1
REFUSALS_WEIGHT: Final = 0.02
"""Share of refusals that cuts, and weight of the newest call in it: six in a row do, two in a hundred hardly ever."""

LOADED_FALL: Final = 0.1
UNLOADED_FALL: Final = 0.7
UNLOADED_RISE: Final = 0.3
"""Weight of a round in the baseline. Where there is load latency never raises it, else a queue would become usual."""

SLOW_START: Final = 1.5
"""Growth in a round below the limit that was good before the first of several cuts."""

REST: Final = 1.5
"""Time in usual latencies until what calls tell is of the limit after a cut."""

SHORTEST_S: Final = 1e-6


class _Trial(NamedTuple):
    """A cut for latency, while it is not known whether it helped: what was before it."""

    limit: float
    latency: float


class AimdLimit:
    """A limit on calls at once that grows while the provider keeps up, and is cut when it does not.

    It is judged by rounds of calls that succeeded. A round in which the limit was used (half of it in flight or more)
    adds one call, or half of the limit in a slow start; a round whose latency is 1.6 times the baseline cuts to where
    the queue should be gone, to the half at most. When latency has not come down after such a cut, the requests or the
    provider are others than before: the cut is taken back, and this latency is the baseline from then on. Refusals cut
    by 30 %. After a cut nothing is learnt until the calls above the limit have ended and a latency has passed.

    Latency is the mean of its logarithm, which few very long requests do not move. The baseline follows rounds after a
    cut and rounds of little load, and is drawn down by all others: it is what latency is without a queue.

    It is the better the less a latency depends on the length of the answer: of a stream the time to the first byte
    says more than the time to the last. Kinds of calls that alternate within a few rounds look like load that does.

    Args:
        most: bound of the limit; None for none.
        least: the other bound, from 1 to `most`.
        start: where it begins, if that is within the bounds.
    Raises:
        ValueError: `least` is below 1 or above `most`.
    Source:
        Slow start and one cut for each flight of calls as in TCP, RFC 5681; the baseline as in TCP Vegas (Brakmo,
        O'Malley, Peterson, 1994); a cut that was in vain is taken back as in RFC 4015. The idea of limiting calls to a
        service by such means is that of Netflix's concurrency-limits.
    """

    def __init__(self, most: int | None, *, least: int = 1, start: int = 20) -> None:
        self._limit = float(start)
        self._slow_until = math.inf
        self._is_grown = True
        self._trial: _Trial | None = None
        self._is_draining = False
        self._rest_until_s = -math.inf
        self._usual_s = 1.0
        self._baseline: float | None = None
        self._refused = 0.0
        self._calls = self._used_calls = 0
        self._seconds = self._logarithms = 0.0
        self.resettle(most, least=least)

    @property
    def limit(self) -> int:
        """Calls at once, now."""
        return int(self._limit)

    def resettle(self, most: int | None, *, least: int = 1) -> int:
        """Change the bounds; what was learnt is kept.

        Returns:
            The limit now.
        Raises:
            ValueError: `least` is below 1 or above `most`; nothing has changed then.
        """
        if least < 1 or (most is not None and most < least):
            raise ValueError(f"least is {least}; it must be from 1 to {most}")
        self._least, self._most = least, math.inf if most is None else most
        self._set(self._limit)
        return self.limit

    def observe(self, latency_s: float, in_flight: int, *, is_refused: bool, now_s: float) -> int:
        """Learn from a call that ended with an answer or a refusal; cancelled and otherwise failed ones tell nothing.

        Args:
            latency_s: its duration, or its time to the first byte; all calls alike. Not read of a refused one.
            in_flight: calls at work when it ended, itself included.
            is_refused: the provider wanted fewer calls (429, 503, 529), or did not answer in time.
            now_s: monotonic clock.
        Returns:
            The limit from now on.
        """
        if self._is_draining and in_flight <= self.limit:
            self._is_draining = False
            self._rest_until_s = now_s + REST * self._usual_s
        if self._is_draining or now_s < self._rest_until_s:
            return self.limit
        self._refused += REFUSALS_WEIGHT * (is_refused - self._refused)
        if not is_refused:
            self._calls += 1
            self._used_calls += in_flight * 2 >= self.limit
            self._seconds += latency_s
            self._logarithms += math.log(max(latency_s, SHORTEST_S))
            if self._calls >= max(ROUND_CALLS, self.limit):
                self._judge()
        elif self._refused > REFUSALS:
            self._trial = None
            self._cut(REFUSED_CUT)
        return self.limit

    def _judge(self) -> None:
        """End a round: cut, grow, or take a cut back."""
        latency, is_used = self._logarithms / self._calls, self._used_calls * 2 >= self._calls
        trial, self._trial = self._trial, None
        self._begin_round()
        if trial is not None and latency > trial.latency - HELPED:
            self._baseline, self._slow_until = latency, trial.limit
            self._set(trial.limit)
            return
        baseline = self._baseline = self._follow(latency, is_loaded=is_used and trial is None)
        if is_used and latency > baseline + TOLERANCE:
            before = _Trial(self._limit, latency)
            self._cut(max(LARGEST_CUT, math.exp(baseline - latency) * UNDERSHOOT))
            self._trial = before
        elif is_used:
            self._set(self._limit * SLOW_START if self._limit < self._slow_until else self._limit + 1)
            self._is_grown = True

    def _follow(self, latency: float, *, is_loaded: bool) -> float:
        """Tell the baseline after a round."""
        if self._baseline is None:
            return latency
        if latency < self._baseline:
            weight = LOADED_FALL if is_loaded else UNLOADED_FALL
        else:
            weight = 0.0 if is_loaded else UNLOADED_RISE
        return self._baseline + weight * (latency - self._baseline)

    def _cut(self, factor: float) -> None:
        if self._is_grown:  # the first of several cuts: it is known best what was good before
            self._slow_until = self._limit * factor
            self._is_grown = False
        self._set(self._limit * factor)
        self._refused = 0.0
        self._begin_round()
        self._is_draining = True

    def _set(self, limit: float) -> None:
        self._limit = float(max(self._least, min(limit, self._most)))

    def _begin_round(self) -> None:
        if self._calls:
            self._usual_s = self._seconds / self._calls
        self._calls = self._used_calls = 0
        self._seconds = self._logarithms = 0.0
