"""Windows of the wall clock: a fixed one, and one that slides by what the last window held."""

from plugins.rate_limit.limit import NEVER, SECOND_US, Limit
from plugins.rate_limit.meter import Meter, Reserved


class FixedWindow(Meter):
    """So much in each window of the wall clock: the whole minute, the whole hour, the day in UTC.

    Twice the amount may be spent around the turn of a window.
    """

    __slots__ = ("_index", "_used")

    def __init__(self, limit: Limit, label: str = "") -> None:
        super().__init__(limit, label)
        self._index = 0
        self._used = 0

    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell how long until the next window, if there is no room in this one."""
        limit = self.limit
        if amount > limit.amount:
            return NEVER
        if now_us // limit.period_us != self._index or self._used + amount <= limit.amount:
            return 0
        return limit.period_us - now_us % limit.period_us

    def add(self, amount: int, now_us: int) -> None:
        """Count in this window."""
        index = now_us // self.limit.period_us
        if index != self._index:
            self._index, self._used = index, 0
        self._used += amount
        self._note(amount, now_us)

    def spend(self, now_us: int) -> tuple[int, int] | None:
        """Take one, if there is one, and tell what is left: in one call, for the hot path."""
        limit = self.limit
        index, passed_us = divmod(now_us, limit.period_us)
        used = self._used + 1 if index == self._index else 1
        left = limit.amount - used
        if left < 0:
            return None
        self._index, self._used = index, used
        if now_us < self._part_ends_us:
            self._in_part += 1
        else:
            self._turn(now_us, 1)
        return left, -((passed_us - limit.period_us) // SECOND_US)

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """Count what more was spent now; give back what was taken from this window. An earlier one is over."""
        if delta >= 0:
            self.add(delta, now_us)
            return
        if reserved.taken_us // self.limit.period_us == self._index:
            self._used = max(self._used + delta, 0)
        self._correct(delta, reserved.taken_us, now_us)

    def remaining(self, now_us: int) -> int:
        """Tell what is left of this window."""
        limit = self.limit
        if now_us // limit.period_us != self._index:
            return limit.amount
        return max(limit.amount - self._used, 0)

    def reset_us(self, now_us: int) -> int:
        """Tell how long until the next window, if anything was spent in this one."""
        period_us = self.limit.period_us
        if now_us // period_us != self._index or not self._used:
            return 0
        return period_us - now_us % period_us


class SlidingWindow(Meter):
    """Two windows of the wall clock: the present one, and of the last one the share that a sliding window still covers.

    An approximation in constant space, by the assumption that the last window was filled evenly. Its bounds: never
    more than the amount within one window of the clock, always less than twice the amount within any period; and
    nobody is refused who finds room for all that both windows hold together.
    """

    __slots__ = ("_before", "_index", "_used")

    def __init__(self, limit: Limit, label: str = "") -> None:
        super().__init__(limit, label)
        self._index = 0
        self._used = 0
        self._before = 0

    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell how long until enough of the last window has slid out."""
        limit = self.limit
        period_us = limit.period_us
        if amount > limit.amount:
            return NEVER
        used, before = self._at(now_us)
        passed_us = now_us % period_us
        room = limit.amount - used - amount
        if before * (period_us - passed_us) <= room * period_us:
            return 0
        if room >= 0:
            return _passed_when(before, room, period_us) - passed_us
        return period_us - passed_us + _passed_when(used, limit.amount - amount, period_us)

    def add(self, amount: int, now_us: int) -> None:
        """Count in this window."""
        self._used, self._before = self._at(now_us)
        self._index = now_us // self.limit.period_us
        self._used += amount
        self._note(amount, now_us)

    def spend(self, now_us: int) -> tuple[int, int] | None:
        """Take one, if there is one, and tell what is left: in one call, for the hot path."""
        limit = self.limit
        period_us = limit.period_us
        index, passed_us = divmod(now_us, period_us)
        used, before = self._at(now_us) if index != self._index else (self._used, self._before)
        left_us = period_us - passed_us
        left = limit.amount - used - 1 + -(before * left_us) // period_us
        if left < 0:
            return None
        self._index, self._used, self._before = index, used + 1, before
        if now_us < self._part_ends_us:
            self._in_part += 1
        else:
            self._turn(now_us, 1)
        return left, -(-(left_us + period_us) // SECOND_US)

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """Count what more was spent now; give back to the window it was taken from, as far as that still counts."""
        if delta >= 0:
            self.add(delta, now_us)
            return
        age = self._index - reserved.taken_us // self.limit.period_us
        if age == 0:
            self._used = max(self._used + delta, 0)
        elif age == 1:
            self._before = max(self._before + delta, 0)
        self._correct(delta, reserved.taken_us, now_us)

    def remaining(self, now_us: int) -> int:
        """Tell what is left."""
        limit = self.limit
        used, before = self._at(now_us)
        counted = before * (limit.period_us - now_us % limit.period_us)
        return max(limit.amount - used + -counted // limit.period_us, 0)

    def reset_us(self, now_us: int) -> int:
        """Tell how long until both windows are empty."""
        period_us = self.limit.period_us
        used, before = self._at(now_us)
        left_us = period_us - now_us % period_us
        return left_us + period_us if used else left_us if before else 0

    def _at(self, now_us: int) -> tuple[int, int]:
        """Tell what this window and the last one hold."""
        age = now_us // self.limit.period_us - self._index
        if age == 0:
            return self._used, self._before
        return 0, self._used if age == 1 else 0


def _passed_when(before: int, room: int, period_us: int) -> int:
    """Tell how much of a window has passed when only `room` of what the one before held still counts."""
    return 0 if before <= room else -(-(before - room) * period_us // before)
