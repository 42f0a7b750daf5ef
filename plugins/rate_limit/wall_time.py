"""The wall clock for counting: it never goes back, whatever is done to the machine's clock."""

from collections.abc import Callable
from typing import Final

LARGEST_DRIFT_S: Final = 1.0
"""By which the machine's clock may be ahead: it is set a little at all times."""


class WallTime:
    """Microseconds since 1970, counted on by the monotonic clock.

    Windows begin with the minutes and hours of the wall clock, and nothing that was spent may come back because
    somebody set that clock.

    Args:
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._ahead_s = wall_clock() - clock()

    def now_us(self) -> int:
        """Tell the time."""
        return int((self._clock() + self._ahead_s) * 1e6)

    def catch_up(self) -> None:
        """Go forward to the machine's clock where that is ahead: the machine was asleep."""
        ahead_s = self._wall_clock() - self._clock()
        if ahead_s > self._ahead_s + LARGEST_DRIFT_S:
            self._ahead_s = ahead_s
