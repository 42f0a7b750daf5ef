"""Whether a kept answer may be given to a request: as a hit, stale, or not at all, and why."""

from dataclasses import dataclass
from typing import Final, Literal

from plugins.cache.wishes import NONE, Wishes

Outcome = Literal["hit", "stale", "miss"]


@dataclass(frozen=True, slots=True)
class Windows:
    """How long an answer may be served after its ttl, in seconds; 0 switches it off.

    Args:
        revalidate_s: while a new one is asked for in the background.
        error_s: when the upstream fails.
    """

    revalidate_s: float = 0.0
    error_s: float = 0.0

    @property
    def grace_s(self) -> float:
        """How long an entry is worth keeping beyond its ttl."""
        return max(self.revalidate_s, self.error_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an entry that was found.

    Args:
        reason: why it is no hit, as clients and `explain` show it; empty for a hit.
        is_reserve: though a miss, it may be served if the upstream fails.
    """

    outcome: Outcome
    reason: str = ""
    is_reserve: bool = False


HIT: Final = Verdict("hit")
NO_CACHE: Final = Verdict("miss", "no-cache")
TOO_OLD: Final = Verdict("miss", "older than max-age")
NOT_FRESH_ENOUGH: Final = Verdict("miss", "less than min-fresh left")
EXPIRED: Final = Verdict("miss", "expired")
EXPIRED_IN_RESERVE: Final = Verdict("miss", "expired", is_reserve=True)
STALE_ALLOWED: Final = Verdict("stale", "max-stale")
STALE_MEANWHILE: Final = Verdict("stale", "expired, a new answer is asked for")


def age_s(stored_s: float, now_s: float) -> float:
    """Age of an answer; 0 where the clock was set back meanwhile. `Age` takes its whole seconds."""
    return max(0.0, now_s - stored_s)


def judge(stored_s: float, ttl_s: float, now_s: float, windows: Windows, wishes: Wishes = NONE) -> Verdict:
    """Decide about an entry that was found.

    A client that gives `max-age` or `min-fresh` takes nothing stale unless it gives `max-stale` too; one that gives
    `max-stale` has this instead of our window.

    Args:
        stored_s: wall clock, like `now_s`.
    Source:
        RFC 9111, 4.2 (fresh while the lifetime is above the age) and 5.2.1; RFC 5861 for both windows.
    """
    age = age_s(stored_s, now_s)
    if wishes is NONE and age < ttl_s:
        return HIT
    if wishes.no_cache:
        return NO_CACHE
    if wishes.max_age_s is not None and age > wishes.max_age_s:
        return TOO_OLD
    if wishes.min_fresh_s is not None and ttl_s - age < wishes.min_fresh_s:
        return NOT_FRESH_ENOUGH
    return HIT if age < ttl_s else _judge_stale(age - ttl_s, windows, wishes)


def _judge_stale(stale_s: float, windows: Windows, wishes: Wishes) -> Verdict:
    if wishes.max_stale_s is not None:
        return STALE_ALLOWED if stale_s <= wishes.max_stale_s else EXPIRED
    if wishes.max_age_s is not None or wishes.min_fresh_s is not None:
        return EXPIRED
    if stale_s < windows.revalidate_s:
        return STALE_MEANWHILE
    return EXPIRED_IN_RESERVE if stale_s < windows.error_s else EXPIRED
