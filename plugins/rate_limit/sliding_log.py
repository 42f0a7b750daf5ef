"""A log of all that was spent in the last period: exact at any time, and as long as the amount is large."""

from collections import deque

from plugins.rate_limit.limit import NEVER, SECOND_US, Limit
from plugins.rate_limit.meter import Meter, Reserved, Spent


class SlidingLog(Meter):
    """So much in any period, wherever it begins: what was spent at one time counts until a period later."""

    __slots__ = ("_log", "_used")

    def __init__(self, limit: Limit, label: str = "") -> None:
        super().__init__(limit, label)
        self._log: deque[tuple[int, int]] = deque()
        self._used = 0

    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell how long until enough of the log is too old to count."""
        limit = self.limit
        if amount > limit.amount:
            return NEVER
        self._forget(now_us)
        missing = self._used + amount - limit.amount
        if missing <= 0:
            return 0
        for time_us, spent in self._log:
            missing -= spent
            if missing <= 0:
                return time_us + limit.period_us - now_us
        return NEVER

    def add(self, amount: int, now_us: int) -> None:
        """Write it down."""
        if amount:
            log = self._log
            if log and log[-1][0] == now_us:
                amount_then = log.pop()[1]
                log.append((now_us, amount_then + amount))
            else:
                log.append((now_us, amount))
            self._used += amount

    def spend(self, now_us: int) -> tuple[int, int] | None:
        """Take one, if there is one, and tell what is left: in one call, for the hot path."""
        limit, log = self.limit, self._log
        if log and log[0][0] <= now_us - limit.period_us:
            self._forget(now_us)
        left = limit.amount - self._used - 1
        if left < 0:
            return None
        if log and log[-1][0] == now_us:
            log.append((now_us, log.pop()[1] + 1))
        else:
            log.append((now_us, 1))
        self._used += 1
        return left, -(-limit.period_us // SECOND_US)

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """Write down what more was spent; strike out what was not, where it was taken."""
        if delta >= 0:
            self.add(delta, now_us)
            return
        log = self._log
        for position in range(len(log) - 1, -1, -1):  # from the newest: most requests are short
            time_us, spent = log[position]
            if time_us <= reserved.taken_us:
                if time_us == reserved.taken_us:
                    kept = max(spent + delta, 0)
                    log[position] = (time_us, kept)
                    self._used += kept - spent
                return

    def remaining(self, now_us: int) -> int:
        """Tell what is left."""
        self._forget(now_us)
        return max(self.limit.amount - self._used, 0)

    def reset_us(self, now_us: int) -> int:
        """Tell how long until the newest line is too old to count."""
        self._forget(now_us)
        return self._log[-1][0] + self.limit.period_us - now_us if self._log else 0

    def spent(self, now_us: int) -> Spent:
        """Give the log."""
        self._forget(now_us)
        return list(self._log)

    def _forget(self, now_us: int) -> None:
        log, since_us = self._log, now_us - self.limit.period_us
        while log and log[0][0] <= since_us:
            self._used -= log.popleft()[1]
