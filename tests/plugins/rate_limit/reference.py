"""The algorithms once more, slowly and obviously: all that was admitted is kept, and counted anew each time."""

from dataclasses import dataclass, field
from fractions import Fraction

from plugins.rate_limit.limit import Limit
from tests.plugins.rate_limit.meters import AnyMeter


@dataclass
class Reference:
    """Decides by the whole history, in exact fractions."""

    limit: Limit
    history: list[tuple[int, int]] = field(default_factory=list)

    def admits(self, amount: int, now_us: int) -> bool:
        raise NotImplementedError

    def take(self, amount: int, now_us: int) -> bool:
        if not self.admits(amount, now_us):
            return False
        self.history.append((now_us, amount))
        return True

    def between(self, since_us: int, until_us: int) -> int:
        """What was admitted in [since, until)."""
        return sum(amount for time_us, amount in self.history if since_us <= time_us < until_us)


class BucketReference(Reference):
    def level(self, now_us: int) -> Fraction:
        """Pour the whole history through a bucket that was full at the beginning."""
        limit = self.limit
        level, at_us = Fraction(limit.depth), 0
        for time_us, amount in self.history:
            level = min(level + Fraction((time_us - at_us) * limit.amount, limit.period_us), Fraction(limit.depth))
            level, at_us = level - amount, time_us
        return min(level + Fraction((now_us - at_us) * limit.amount, limit.period_us), Fraction(limit.depth))

    def admits(self, amount: int, now_us: int) -> bool:
        return self.level(now_us) >= amount


class FixedWindowReference(Reference):
    def admits(self, amount: int, now_us: int) -> bool:
        begin_us = now_us - now_us % self.limit.period_us
        return self.between(begin_us, begin_us + self.limit.period_us) + amount <= self.limit.amount


class SlidingLogReference(Reference):
    def admits(self, amount: int, now_us: int) -> bool:
        return self.between(now_us - self.limit.period_us + 1, now_us + 1) + amount <= self.limit.amount


class SlidingWindowReference(Reference):
    def admits(self, amount: int, now_us: int) -> bool:
        period_us = self.limit.period_us
        begin_us = now_us - now_us % period_us
        share = 1 - Fraction(now_us - begin_us, period_us)
        before = self.between(begin_us - period_us, begin_us)
        return before * share + self.between(begin_us, now_us + 1) + amount <= self.limit.amount


REFERENCES: dict[str, type[Reference]] = {
    "token-bucket": BucketReference,
    "gcra": BucketReference,
    "leaky-bucket": BucketReference,
    "fixed-window": FixedWindowReference,
    "sliding-window": SlidingWindowReference,
    "sliding-log": SlidingLogReference,
}


def take(meter: AnyMeter, amount: int, now_us: int) -> bool:
    """Ask a meter and take, as the plugin does."""
    if meter.wait_us(amount, now_us):
        return False
    meter.add(amount, now_us)
    return True
