"""How many requests are in work at once."""

from plugins.rate_limit.limit import Limit
from plugins.rate_limit.meter import Meter, Reserved, Spent


class InWork(Meter):
    """Counts what has begun and not ended; time plays no part."""

    __slots__ = ("_in_work",)

    def __init__(self, limit: Limit, label: str = "") -> None:
        super().__init__(limit, label)
        self._in_work = 0

    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell whether there is room; nobody knows when there will be: a second is a polite guess."""
        return 0 if self._in_work + amount <= self.limit.amount else 1_000_000

    def add(self, amount: int, now_us: int) -> None:
        """Begin."""
        self._in_work += amount

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """End: `delta` is below 0."""
        self._in_work = max(self._in_work + delta, 0)

    def remaining(self, now_us: int) -> int:
        """Tell how many more may begin."""
        return max(self.limit.amount - self._in_work, 0)

    def reset_us(self, now_us: int) -> int:
        """Say that it is not empty; nobody knows when it will be."""
        return 1_000_000 if self._in_work else 0

    def spent(self, now_us: int) -> Spent:
        """Say nothing: what is in work spends no period."""
        return []
