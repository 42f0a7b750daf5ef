"""How much of something may be spent in how long, and by which algorithm that is counted."""

from dataclasses import dataclass, field
from typing import Final, Literal

Algorithm = Literal[
    "token-bucket", "gcra", "leaky-bucket", "fixed-window", "sliding-window", "sliding-log", "concurrent"
]

PARTS: Final = 16
"""Into how many parts a period is split to remember when something was spent, for a change of the algorithm."""

NEVER: Final = 1 << 62
"""A wait in microseconds that no waiting would end: more was asked for than there ever is."""

SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Limit:
    """What one partition of a rule may spend. All of it is whole numbers, so that no rounding ever adds up.

    Args:
        algorithm: `concurrent` counts what is in work, and knows no period.
        amount: in units of what is counted: requests, tokens, billionths of a US dollar.
        period_us: in which `amount` may be spent, in microseconds.
        depth: of a bucket: most that may be spent at once; windows ignore it.
    """

    algorithm: Algorithm
    amount: int
    period_us: int = SECOND_US
    depth: int = 0
    part_us: int = field(init=False, compare=False)
    """Length of a part of the period."""
    capacity: int = field(init=False, compare=False)
    """The depth as a bucket counts it: in units of 1/amount of a microsecond."""
    of_full: tuple[int, int] = field(init=False, compare=False)
    """What is left of a full bucket once one token is taken, and the whole seconds until that one is back."""

    def __post_init__(self) -> None:
        """Compute once what every call needs."""
        object.__setattr__(self, "part_us", max(self.period_us // PARTS, 1))
        object.__setattr__(self, "capacity", self.depth * self.period_us)
        object.__setattr__(self, "of_full", (self.depth - 1, -(-self.period_us // (self.amount * SECOND_US))))

    @property
    def most(self) -> int:
        """Most that can be taken at once."""
        return self.depth if self.algorithm in BUCKETS else self.amount


BUCKETS: Final = frozenset({"token-bucket", "gcra", "leaky-bucket"})
"""The algorithms that fill up again bit by bit."""
