"""What one partition has spent under a limit: the base of all algorithms. Time is passed in; nothing waits here."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from plugins.rate_limit.limit import PARTS, SECOND_US, Limit

Spent = list[tuple[int, int]]
"""What was spent when, oldest first: (microseconds of the wall clock, amount). No time is earlier than the true one."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """An estimate that was taken.

    Args:
        taken_us: when.
        mark: what `reserve` answered.
    """

    amount: int
    taken_us: int
    mark: int = 0


NO_PARTS: Final[tuple[tuple[int, int], ...]] = ()


class Meter(ABC):
    """Counts what is spent by one algorithm.

    A caller asks `wait_us` and then, with no other call between, `add`. Both take O(1) but for the sliding log.
    The time is that of the wall clock in whole microseconds, and never earlier than at the last call.

    Besides its own count every meter notes what was spent in the last sixteen parts of the period, so that another
    algorithm can go on from there.

    Args:
        label: whose it is, for operators; no secret.
    """

    __slots__ = ("_earlier", "_in_part", "_part", "_part_ends_us", "label", "limit")

    def __init__(self, limit: Limit, label: str = "") -> None:
        self.limit = limit
        self.label = label
        self._part = 0
        self._part_ends_us = 0
        """The length of its parts never changes: under another period only a new meter can go on."""
        self._in_part = 0
        self._earlier = NO_PARTS

    @abstractmethod
    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell how long until an amount could be taken.

        Args:
            amount: from 0; 0 waits only while more was spent than the limit allows.
        Returns:
            0 if it can be taken now, `NEVER` if it exceeds all that there ever is.
        """

    def queue_us(self, now_us: int) -> int:
        """Tell how long what is taken now has to queue before it may go: 0 but for a leaky bucket."""
        return 0

    @abstractmethod
    def add(self, amount: int, now_us: int) -> None:
        """Take an amount, whether there is room or not."""

    def spend(self, now_us: int) -> tuple[int, int] | None:
        """Take one, if there is room.

        Returns:
            What is left, and the whole seconds until nothing that was spent counts any more; None if there was no room,
            and nothing was taken.
        """
        if self.wait_us(1, now_us):
            return None
        self.add(1, now_us)
        return self.remaining(now_us), -(-self.reset_us(now_us) // SECOND_US)

    def unspend(self, now_us: int) -> None:
        """Take back what `spend` took just now, at the same time: another rule had no room."""
        self.settle(-1, Reserved(1, now_us), now_us)

    def reserve(self, amount: int, now_us: int) -> int:
        """Take an estimate, to be settled by `settle`.

        Returns:
            A mark, to be given to `settle`.
        """
        self.add(amount, now_us)
        return 0

    @abstractmethod
    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """Correct what was reserved, now that the true amount is known.

        Args:
            delta: what was spent beyond it; below 0 it is given back to the time it was taken from, as far as it is
                still missing: by the true amount alone no less would have been left.
        """

    @abstractmethod
    def remaining(self, now_us: int) -> int:
        """Tell how much could be taken at once."""

    @abstractmethod
    def reset_us(self, now_us: int) -> int:
        """Tell how long until nothing that was spent counts any more."""

    def adopt(self, limit: Limit, now_us: int) -> bool:
        """Go on under another limit with all that was spent; False where only a new meter can, see `resumed`."""
        mine = self.limit
        if limit.period_us != mine.period_us or limit.algorithm != mine.algorithm:
            return False
        self.limit = limit
        return True

    def cap(self, now_us: int) -> None:
        """Let what was spent before a change of the limit keep nobody waiting for longer than one period."""
        return  # a window does so by itself

    def spent(self, now_us: int) -> Spent:
        """List what was spent within the last period, as far as it is remembered."""
        length_us, since_us = self.limit.part_us, now_us - self.limit.period_us
        parts = [*self._earlier, (self._part, self._in_part)]
        return [
            (min((part + 1) * length_us - 1, now_us), amount)
            for part, amount in parts
            if amount and (part + 1) * length_us > since_us
        ]

    def is_idle(self, now_us: int) -> bool:
        """Tell whether nothing distinguishes it from a new one, whatever the algorithm becomes."""
        return self.reset_us(now_us) <= 0 and not self.spent(now_us)

    def _note(self, amount: int, now_us: int) -> None:
        """Note what was spent now, or at a time for which nothing later was noted."""
        if now_us < self._part_ends_us:
            self._in_part += amount
        else:
            self._turn(now_us, amount)

    def _turn(self, now_us: int, amount: int) -> None:
        """Begin another part of the period."""
        part_us = self.limit.part_us
        part = now_us // part_us
        self._part_ends_us = (part + 1) * part_us
        if self._in_part:
            oldest = part - PARTS - 1
            kept = [each for each in self._earlier if each[0] >= oldest]
            self._earlier = (*kept, (self._part, self._in_part))
        self._part, self._in_part = part, amount

    def _correct(self, delta: int, taken_us: int, now_us: int) -> None:
        """Note more that was spent now, or less that was spent then."""
        if delta >= 0:
            self._note(delta, now_us)
            return
        part = taken_us // self.limit.part_us
        if part == self._part:
            self._in_part = max(self._in_part + delta, 0)
        elif self._earlier:
            self._earlier = tuple(
                (each, max(noted + delta, 0) if each == part else noted) for each, noted in self._earlier
            )
