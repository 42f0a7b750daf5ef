"""How often and after how long requests come again: a bounded table of single ones, counts of kinds."""

from array import array
from typing import Final, NamedTuple

SLOTS: Final = 1 << 16
"""Of 18 bytes each: 1.2 MB."""

SAME_MOMENT_S: Final = 1.0
"""What comes again sooner belongs to the same asking: one of many at once, or one that is tried again."""

WEIGHT_OF_NEWEST: Final = 0.1
"""In the mean interval of a request that came ten times or more; before, all count alike."""

MOST_KINDS: Final = 1000

HALVED_AT: Final = 1000.0
"""Requests of one kind; then its counts are halved, so that they follow a change."""


class Sighting(NamedTuple):
    """What is known of a request.

    Args:
        times: how often it was seen, this time included.
        interval_s: how long it takes to come again, a moving average; None if it never did.
        last_s: when it came last, on the clock of the calls.
    """

    times: int
    last_s: float
    interval_s: float | None = None


class Repeats:
    """Knows of single requests when they came last, how often, and at what interval.

    Each has two slots to be in. A new one takes the place of the one that was seen less often, whose count falls by
    one before that happens: so what comes once goes at once, and what came often, but no more, goes in time.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._mask = slots - 1
        self._prints = array("I", bytes(4 * slots))
        self._counts = array("H", bytes(2 * slots))
        self._last_s = array("d", bytes(8 * slots))
        self._intervals_s = array("f", bytes(4 * slots))

    def see(self, key: bytes, now_s: float) -> Sighting:
        """Note that a request came, a hit or not.

        Args:
            key: a digest of at least 12 bytes.
        """
        mark = int.from_bytes(key[4:8]) | 1
        slots = int.from_bytes(key[:4]) & self._mask, int.from_bytes(key[8:12]) & self._mask
        for slot in slots:
            if self._prints[slot] == mark:
                return self._see_again(slot, now_s)
        slot = min(slots, key=self._counts.__getitem__)
        if self._counts[slot] > 1:
            self._counts[slot] -= 1
            return Sighting(1, now_s)
        self._prints[slot], self._counts[slot] = mark, 1
        self._last_s[slot], self._intervals_s[slot] = now_s, 0.0
        return Sighting(1, now_s)

    def look(self, key: bytes) -> Sighting | None:
        """Tell what is known of a request without noting anything."""
        mark = int.from_bytes(key[4:8]) | 1
        for slot in (int.from_bytes(key[:4]) & self._mask, int.from_bytes(key[8:12]) & self._mask):
            if self._prints[slot] == mark:
                return self._sighting(slot)
        return None

    def _see_again(self, slot: int, now_s: float) -> Sighting:
        passed_s = now_s - self._last_s[slot]
        if passed_s >= SAME_MOMENT_S:
            earlier_s = self._intervals_s[slot]
            newest = max(1 / self._counts[slot], WEIGHT_OF_NEWEST) if earlier_s else 1.0
            self._intervals_s[slot] = earlier_s + newest * (passed_s - earlier_s)
            self._counts[slot] = min(self._counts[slot] + 1, 65_535)
        if passed_s >= SAME_MOMENT_S or passed_s < 0:
            self._last_s[slot] = now_s
        return self._sighting(slot)

    def _sighting(self, slot: int) -> Sighting:
        return Sighting(self._counts[slot], self._last_s[slot], self._intervals_s[slot] or None)


class Kinds:
    """Of each kind of request, the share that had come before: what is to be expected of a new one."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[float]] = {}
        """By kind: how many came, and how many of them again."""

    def see(self, kind: str, *, is_repeat: bool) -> None:
        """Note a request of a kind: of a caller and a model, say."""
        counts = self._kinds.get(kind)
        if counts is None:
            if len(self._kinds) >= MOST_KINDS:
                del self._kinds[next(iter(self._kinds))]
            counts = self._kinds[kind] = [0.0, 0.0]
        counts[0] += 1
        counts[1] += is_repeat
        if counts[0] >= HALVED_AT:
            counts[0], counts[1] = counts[0] / 2, counts[1] / 2

    def share(self, kind: str) -> float:
        """Tell which share of a kind's requests are repeats; of one that is hardly known, half."""
        came, again = self._kinds.get(kind, (0.0, 0.0))
        return (again + 2) / (came + 4)
