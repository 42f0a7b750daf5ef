"""Which answers are worth keeping and for how long, from what was seen: repetition, size, price, time, determinism."""

from dataclasses import dataclass
from typing import Final, Literal

from plugins.cache.entry import Entry
from plugins.cache.repeats import Kinds, Repeats

TTL_INTERVALS: Final = 16.0
"""How many of its intervals an answer is fresh. Requests come in bunches: with 4, one in ten of the hits was lost in
the simulation, with 8 one in thirty."""

WEIGHT_OF_NEWEST: Final = 0.02
"""In moving averages over all requests."""

PRIOR_WEIGHT: Final = 2.0
"""How many repeats of its own weigh as much as what its kind lets expect of a request."""

RARER: Final = 2.0
"""How many mean intervals it takes a request that is hardly known: the mean is made by those that come often."""

MB: Final = 1 << 20

Why = Literal["room_enough", "worth_its_room", "not_worth_its_room", "not_deterministic"]


@dataclass(frozen=True, slots=True)
class SmartLimits:
    """What the operator sets.

    Args:
        ttl_s: of what is not known to be repeated.
        min_ttl_s: shortest that is chosen.
        max_ttl_s: longest that is chosen.
        second_usd: what it is worth that a client waits a second less, in dollars.
        allows_drawn: whether answers are kept that would be others the next time.
    """

    ttl_s: float
    min_ttl_s: float
    max_ttl_s: float
    second_usd: float = 0.0001
    allows_drawn: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an answer is kept, for how long, and why.

    Args:
        ttl_s: 0 where it is not.
        why: one of few, for counting.
    """

    is_kept: bool
    ttl_s: float
    why: Why


class SmartAdmission:
    """Decides by what an answer saves for each byte and hour that it stays.

    That is the price and the time of its call, times how often it will likely be asked for in an hour: of a request
    that came before, as often as so far; of a new one, as its kind lets expect. While there is room, all is kept;
    then only what is worth more than the one that would go for it.
    """

    def __init__(self, limits: SmartLimits) -> None:
        self.limits = limits
        self._repeats = Repeats()
        self._kinds = Kinds()
        self._mean_cost_usd = 0.0
        self._mean_interval_s = 0.0

    def see(self, key: bytes, kind: str, now_s: float) -> None:
        """Note that a request came, whatever becomes of it.

        Args:
            kind: as of `kind_of`.
            now_s: any clock that goes on evenly.
        """
        sighting = self._repeats.see(key, now_s)
        self._kinds.see(kind, is_repeat=sighting.times > 1)
        if sighting.interval_s is not None:
            newest = WEIGHT_OF_NEWEST if self._mean_interval_s else 1.0
            self._mean_interval_s += newest * (sighting.interval_s - self._mean_interval_s)

    def decide(self, entry: Entry, first_to_go: Entry | None, now_s: float, *, is_deterministic: bool) -> Decision:
        """Decide about an answer whose request was seen.

        Args:
            entry: as it would be kept; its `ttl_s` does not count.
            first_to_go: who would go for it, None while there is room.
            now_s: on the clock of `see`.
        """
        if not (is_deterministic or self.limits.allows_drawn):
            return Decision(False, 0.0, "not_deterministic")
        if entry.cost_usd is not None:
            self._mean_cost_usd += (entry.cost_usd - self._mean_cost_usd) * WEIGHT_OF_NEWEST
        ttl_s = self._ttl_of(entry.key)
        if first_to_go is None:
            return Decision(True, ttl_s, "room_enough")
        if self._worth_of(entry, now_s) < self._worth_of(first_to_go, now_s):
            return Decision(False, 0.0, "not_worth_its_room")
        return Decision(True, ttl_s, "worth_its_room")

    def _ttl_of(self, key: bytes) -> float:
        sighting = self._repeats.look(key)
        if sighting is None or sighting.interval_s is None:
            return self.limits.ttl_s
        return min(max(TTL_INTERVALS * sighting.interval_s, self.limits.min_ttl_s), self.limits.max_ttl_s)

    def _worth_of(self, entry: Entry, now_s: float) -> float:
        """Reckon what an entry saves, in dollars for a MB and hour."""
        again, own_interval_s, silent_s = 0, 0.0, 0.0
        if (sighting := self._repeats.look(entry.key)) is not None:
            silent_s = now_s - sighting.last_s
            if sighting.interval_s is not None:
                again, own_interval_s = sighting.times - 1, sighting.interval_s
        weight = again + PRIOR_WEIGHT
        chance = (again + PRIOR_WEIGHT * self._kinds.share(kind_of(entry))) / weight
        interval_s = (again * own_interval_s + PRIOR_WEIGHT * RARER * self._mean_interval_s) / weight
        cost_usd = self._mean_cost_usd if entry.cost_usd is None else entry.cost_usd
        saved_usd = cost_usd + entry.latency_s * self.limits.second_usd
        # Who has been silent for longer than usual is expected to stay so for as long again.
        return saved_usd * chance * 3600 / max(interval_s, silent_s, 1.0) * MB / entry.size_bytes


def kind_of(entry: Entry) -> str:
    """Requests of one caller for one model are taken to be repeated alike."""
    return f"{entry.partition}\0{entry.model}"
