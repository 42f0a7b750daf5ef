"""A bucket that fills up again bit by bit: token bucket, GCRA, and the leaky bucket that makes a queue of a crowd."""

from plugins.rate_limit.limit import BUCKETS, NEVER, SECOND_US, Limit
from plugins.rate_limit.meter import Meter, Reserved, Spent


class Bucket(Meter):
    """A token bucket, kept as one number: the time at which it will be full again.

    That is what the generic cell rate algorithm keeps (its theoretical arrival time), and both admit the same
    requests, so that `token-bucket` and `gcra` are one code. The `leaky-bucket` takes the same requests as well; it
    lets them go one by one, each as long after the one before as its tokens take to come back (`queue_us`).

    The number counts in units of 1/amount of a microsecond, in which one token takes exactly `period_us` to come back:
    whole numbers, no rounding.

    Source:
        ITU-T I.371, A.1 (GCRA as a continuous-state leaky bucket); RFC 2697, 3.
    """

    __slots__ = ("_full_at", "_held", "_spilled", "_watched_us")

    def __init__(self, limit: Limit, label: str = "") -> None:
        super().__init__(limit, label)
        self._full_at = 0
        self._held = 0
        """What is reserved and not settled."""
        self._spilled = 0
        """Most that can have come back to a full bucket, and been lost, had only the true amounts been taken."""
        self._watched_us = 0

    def wait_us(self, amount: int, now_us: int) -> int:
        """Tell how long until so many tokens are there."""
        limit = self.limit
        over = amount * limit.period_us - limit.capacity
        debt = self._full_at - now_us * limit.amount
        if debt > 0:
            over += debt
        if over <= 0:
            return 0
        if amount > limit.depth:
            return NEVER
        return -(-over // limit.amount)

    def queue_us(self, now_us: int) -> int:
        """Tell how long one who joins the queue of a leaky bucket waits until those before are gone."""
        amount = self.limit.amount
        ahead = self._full_at - now_us * amount
        return -(-ahead // amount) if ahead > 0 else 0

    def add(self, amount: int, now_us: int) -> None:
        """Take tokens; the level may fall below nothing."""
        limit = self.limit
        full_at, now = self._full_at, now_us * limit.amount
        if full_at < now:
            full_at = now
        self._full_at = full_at + amount * limit.period_us
        if now_us < self._part_ends_us:  # as `_note`: a call of it would take as long as all of this
            self._in_part += amount
        else:
            self._turn(now_us, amount)

    def spend(self, now_us: int) -> tuple[int, int] | None:
        """Take one, if there is one, and tell what is left: three calls in one, for the hot path."""
        limit = self.limit
        period_us = limit.period_us
        now = now_us * limit.amount
        if self._full_at <= now:  # it has room for one at least
            self._full_at = now + period_us
            told = limit.of_full
        else:
            full_at = self._full_at + period_us
            debt = full_at - now
            left = limit.capacity - debt
            if left < 0:
                return None
            self._full_at = full_at
            told = left // period_us, -(-debt // (limit.amount * SECOND_US))
        if now_us < self._part_ends_us:
            self._in_part += 1
        else:
            self._turn(now_us, 1)
        return told

    def unspend(self, now_us: int) -> None:
        """Put the one back."""
        self._full_at -= self.limit.period_us
        self._correct(-1, now_us, now_us)

    def reserve(self, amount: int, now_us: int) -> int:
        """Take an estimate; the mark is what may have spilled until now."""
        self._watch(now_us)
        self.add(amount, now_us)
        self._held += amount * self.limit.period_us
        return self._spilled

    def settle(self, delta: int, reserved: Reserved, now_us: int) -> None:
        """Take what more was spent, or put back what was not.

        Had less been taken, the bucket might have been full meanwhile, and what comes back then is lost. So only
        that is put back which cannot have spilled since.
        """
        self._watch(now_us)
        period_us = self.limit.period_us
        self._held = max(self._held - reserved.amount * period_us, 0)
        change = delta * period_us
        if delta < 0:
            change = min(change + max(self._spilled - reserved.mark, 0), 0)
        self._full_at = max(self._full_at, now_us * self.limit.amount) + change
        self._correct(delta, reserved.taken_us, now_us)

    def remaining(self, now_us: int) -> int:
        """Tell how many whole tokens are there."""
        limit = self.limit
        debt = self._full_at - now_us * limit.amount
        if debt <= 0:
            return limit.depth
        left = limit.capacity - debt
        return left // limit.period_us if left > 0 else 0

    def reset_us(self, now_us: int) -> int:
        """Tell how long until it is full."""
        return self.queue_us(now_us)

    def adopt(self, limit: Limit, now_us: int) -> bool:
        """Go on with the level as it is; where tokens now come more slowly, with what is missing by that pace."""
        mine = self.limit
        if limit.period_us != mine.period_us or limit.algorithm not in BUCKETS:
            return False
        debt = max(self._full_at - now_us * mine.amount, 0)
        spent = self.spent(now_us)
        self.limit = limit
        if limit.amount < mine.amount:
            debt = max(debt, _debt_of(spent, limit, now_us))
        self._full_at = now_us * limit.amount + debt
        self.cap(now_us)
        return True

    def cap(self, now_us: int) -> None:
        """Let the level be no lower than what comes back within one period."""
        limit = self.limit
        lowest = now_us * limit.amount + limit.capacity + limit.amount * limit.period_us
        self._full_at = min(self._full_at, lowest)

    def _watch(self, now_us: int) -> None:
        """Note how much may have spilled: the true level is at most as if nothing that is held had been taken."""
        limit = self.limit
        gained = (now_us - self._watched_us) * limit.amount
        level = limit.capacity - max(self._full_at - self._watched_us * limit.amount, 0) + self._held
        self._spilled += max(min(gained, level + gained - limit.capacity), 0)
        self._watched_us = now_us


def _debt_of(spent: Spent, limit: Limit, now_us: int) -> int:
    """Tell what would be missing if all that was spent had been taken from a bucket of this limit."""
    bucket = Bucket(limit)
    for time_us, amount in spent:
        bucket.add(amount, time_us)
    return max(bucket._full_at - now_us * limit.amount, 0)
