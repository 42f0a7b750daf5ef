"""How many extra attempts the whole process may make, and how long to wait before one."""

from random import Random
from typing import Final

HEDGE_BURST: Final = 5.0
"""Capacity of a budget of hedges: so many may follow each other closely, however few requests came before."""
MAX_DOUBLINGS: Final = 64


class RetryBudget:
    """A token bucket that is filled by client requests instead of by time; it starts full.

    Retries and failover draw on one of `failover.retryBudget`, hedges on another:
    `RetryBudget(budget_percent / 100, HEDGE_BURST)`.

    Args:
        ratio: what each client request pays in; in the long run the share of extra attempts.
        capacity: most that is saved up.
    Source:
        gRFC A6, retry throttling; `scripts/chaos` shows what the two figures are good for.
    """

    __slots__ = ("capacity", "level", "ratio")

    def __init__(self, ratio: float, capacity: float) -> None:
        self.ratio = ratio
        self.capacity = capacity
        self.level = capacity

    def deposit(self) -> None:
        """Pay in for one client request; called once for each, never for an attempt."""
        self.level = min(self.level + self.ratio, self.capacity)

    def withdraw(self, cost: float = 1.0) -> bool:
        """Pay for an extra attempt before it is made; a refused one takes nothing."""
        if self.level < cost:
            return False
        self.level -= cost
        return True

    def resettle(self, ratio: float, capacity: float) -> None:
        """Take changed settings over; what was spent stays spent, as far as the new capacity can show it."""
        self.level = min(max(self.level + capacity - self.capacity, 0.0), capacity)
        self.ratio = ratio
        self.capacity = capacity


def backoff_s(attempt: int, base_s: float, most_s: float, random: Random) -> float:
    """Draw the wait before a provider is asked again: exponential, with full jitter.

    Args:
        attempt: how many such waits came before; 0 waits up to `base_s`, each further one up to twice as long.
        most_s: no wait is longer.
    Source:
        "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: sleep = random(0, min(cap, base * 2 ** attempt)).
    """
    return random.uniform(0.0, min(most_s, base_s * 2.0 ** min(attempt, MAX_DOUBLINGS)))
