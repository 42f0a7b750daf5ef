"""What a key has spent, and whether its budget has room for one more request.

Amounts are whole billionths of a US dollar, so that what is put back is exactly what was taken.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

from plugins.keys.windows import Windows

NANOS: Final = 1_000_000_000
"""Of one US dollar."""

MOST: Final = 1_000_000_000 * NANOS
"""That is counted, a billion dollars: a provider that tells of more errs, and the file takes no number above 2^63."""


def to_nanos(usd: float) -> int:
    """Turn dollars into billionths, rounded up: what costs anything never counts as nothing."""
    return math.ceil(usd * NANOS - 1e-6)  # what floats add beyond a whole number is no cost


def to_usd(nanos: int) -> float:
    """Turn billionths into dollars."""
    return nanos / NANOS


@dataclass(frozen=True, slots=True)
class Spent:
    """What a key had spent at some moment, as it is written down.

    Args:
        day, month: the windows that the amounts are of, such as `2026-01-31` and `2026-01`; empty before the first.
        last_used_s: seconds since 1970; None: never.
    """

    day: str = ""
    day_nanos: int = 0
    month: str = ""
    month_nanos: int = 0
    total_nanos: int = 0
    last_used_s: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a key may spend; None: as much as it likes."""

    per_day: int | None = None
    per_month: int | None = None

    @property
    def is_limited(self) -> bool:
        """There is something to hold."""
        return self.per_day is not None or self.per_month is not None


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a request does not fit.

    Args:
        spent, limit, reserved: of the window; reserved is by requests in work.
        is_spent: waiting for the requests in work does not help.
        ends_s: when the window ends, seconds since 1970.
    """

    window: Literal["day", "month"]
    spent: int
    reserved: int
    limit: int
    is_spent: bool
    ends_s: float


class Account:
    """The spending of one key; reserve before a request, settle after it."""

    __slots__ = ("_day", "_day_nanos", "_month", "_month_nanos", "_total_nanos", "last_used_s", "reserved")

    def __init__(self, spent: Spent) -> None:
        self._day, self._day_nanos = spent.day, spent.day_nanos
        self._month, self._month_nanos = spent.month, spent.month_nanos
        self._total_nanos = spent.total_nanos
        self.last_used_s = spent.last_used_s
        self.reserved = 0
        """For requests in work, whatever window they began in: they end in this one, or in a later one."""

    def shortage(self, budget: Budget, estimate: int, windows: Windows) -> Shortage | None:
        """Tell why a request that may cost so much must not begin; None if it may."""
        self._roll(windows)
        found = None
        for window, spent, limit, ends_s in (
            ("day", self._day_nanos, budget.per_day, windows.day_ends_s),
            ("month", self._month_nanos, budget.per_month, windows.month_ends_s),
        ):
            # one that is used up to the last cent takes nothing more, not even what is thought to cost nothing
            if limit is None or (spent + self.reserved + estimate <= limit and spent < limit):
                continue
            is_spent = spent + estimate > limit or spent >= limit
            if found is None or is_spent or not found.is_spent:
                name: Literal["day", "month"] = "day" if window == "day" else "month"
                found = Shortage(name, spent, self.reserved, limit, is_spent, ends_s)
        return found

    def reserve(self, estimate: int) -> None:
        """Hold an amount for a request that begins."""
        self.reserved += estimate

    def settle(self, estimate: int, cost: int, windows: Windows) -> None:
        """Put back what was held for a request, and count what it cost in the windows in which it ends."""
        self._roll(windows)
        self.reserved -= estimate
        self._day_nanos = min(self._day_nanos + cost, MOST)
        self._month_nanos = min(self._month_nanos + cost, MOST)
        self._total_nanos = min(self._total_nanos + cost, MOST)

    def spent_at(self, windows: Windows) -> Spent:
        """Tell what has been spent in the present windows."""
        self._roll(windows)
        return Spent(self._day, self._day_nanos, self._month, self._month_nanos, self._total_nanos, self.last_used_s)

    def to_write(self) -> Spent:
        """Give what is to be written down; requests in work count as estimated: nobody may live to see their end."""
        held = self.reserved
        return Spent(
            self._day,
            self._day_nanos + held,
            self._month,
            self._month_nanos + held,
            self._total_nanos + held,
            self.last_used_s,
        )

    def _roll(self, windows: Windows) -> None:
        """Begin a new window when its time has come; a clock that goes back brings no spent budget back.

        What lies further ahead than the next window was counted by a clock that was wrong: it counts in the present
        one, so that nobody has to wait until that time comes.
        """
        if windows.day > self._day:
            self._day, self._day_nanos = windows.day, 0
        elif self._day > windows.next_day:
            self._day = windows.day
        if windows.month > self._month:
            self._month, self._month_nanos = windows.month, 0
        elif self._month > windows.next_month:
            self._month = windows.month
