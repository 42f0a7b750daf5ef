"""Days and months as budgets count them: by the calendar, in UTC."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Windows:
    """The day and the month of a moment. Times are seconds since 1970.

    Args:
        day: such as `2026-01-31`; later days are greater.
        month: such as `2026-01`.
        next_day, next_month: the ones after these.
        day_ends_s, month_ends_s: when the next one begins.
    """

    day: str
    month: str
    next_day: str
    next_month: str
    day_begins_s: float
    day_ends_s: float
    month_ends_s: float


def windows_at(time_s: float) -> Windows:
    """Find the day and the month that a moment is in."""
    day = datetime.fromtimestamp(math.floor(time_s), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    next_day = day + timedelta(days=1)
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return Windows(
        f"{day:%Y-%m-%d}",
        f"{day:%Y-%m}",
        f"{next_day:%Y-%m-%d}",
        f"{next_month:%Y-%m}",
        day.timestamp(),
        next_day.timestamp(),
        next_month.timestamp(),
    )


class Calendar:
    """Gives the windows of the present; works them out once a day."""

    def __init__(self) -> None:
        self._windows = windows_at(0.0)

    def at(self, now_s: float) -> Windows:
        """Find the day and the month of a moment."""
        if not self._windows.day_begins_s <= now_s < self._windows.day_ends_s:
            self._windows = windows_at(now_s)
        return self._windows
