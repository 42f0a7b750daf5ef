"""The hot path: rules that count requests alone and refuse when there is no room; everything else is in `admission`."""

from functools import partial
from typing import Final

from plugins.rate_limit.limit import NEVER, SECOND_US
from plugins.rate_limit.rules import Rule
from proxy.exchange import Exchange
from proxy.values import LATEST_S, timestamp

GENERAL: Final = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n"
OPENAI: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %ds\r\n"
)
"""Times are written as Go writes durations."""
ANTHROPIC: Final = (
    b"anthropic-ratelimit-requests-limit: %d\r\nanthropic-ratelimit-requests-remaining: %d\r\n"
    b"anthropic-ratelimit-requests-reset: %b\r\n"
)


class _Last:
    """For whom the last request of a connection counted, rule by rule, and what it was told: mostly as the next one.

    What else a key may be made of, the peer's address and headers, is the same for all requests that share a memo.

    Attributes:
        figures: what was left, and the seconds until all is there again, of each rule: the same while buckets are full.
        told: the header lines that say so.
    """

    __slots__ = ("asked", "figures", "rows", "told")

    def __init__(self, asked: tuple[object, ...], rules: tuple[Rule, ...], exchange: Exchange) -> None:
        self.asked = asked
        self.figures: list[int] = []
        self.told = b""
        self.rows = [(rule.key(exchange), rule.meters, rule.limit, rule.admitted, rule) for rule in rules]


class PlainRules:
    """Rules of one set, written out beforehand as far as they do not change.

    Args:
        policy: the header line that tells of them.
        rules: at least one; each counts requests for all models, is enforced, and makes no queue.
    """

    __slots__ = ("_general", "_openai", "_rules")

    def __init__(self, policy: bytes, rules: tuple[Rule, ...]) -> None:
        self._rules = rules
        items = b", ".join([rule.item for rule in rules])
        self._general = b"%bRateLimit: %b\r\n" % (policy.replace(b"%", b"%%"), items) + GENERAL
        self._openai = self._general + OPENAI

    @staticmethod
    def fit(rules: tuple[Rule, ...]) -> bool:
        """Tell whether rules are plain."""
        return bool(rules) and all(
            rule.is_plain and rule.is_enforced and not rule.is_queue and not rule.has_models for rule in rules
        )

    def admit(self, exchange: Exchange, now_us: int) -> bool:
        """Take one from every rule and tell the client what is left; False, and nothing is taken, if one has no room.

        Every call and every object counts here: see the figures in docs/rate-limits.md.
        """
        rules, request = self._rules, exchange.request
        known: _Last | None = request.memo.get("rate_limit")
        asked = (
            rules,
            request.model,
            request.operation,
            exchange.caller,
            exchange.identity,
            exchange.named_provider,
            exchange.revision,
        )
        if known is None or known.asked != asked:
            known = request.memo["rate_limit"] = _Last(asked, rules, exchange)
        figures: list[int] = []
        least, reset_s, amount = NEVER, 0, 0
        for key, meters, limit, admitted, rule in known.rows:
            meter = meters.get(key)
            if meter is None or meter.limit is not limit:
                meter = rule.table.meter(key, limit, partial(rule.label, exchange), now_us)
            spent = meter.spend(now_us)
            if spent is None:
                self._take_back(known, len(figures) // 2, exchange, now_us)
                return False
            admitted.value += 1
            figures += spent
            if spent[0] < least:
                least, reset_s = spent
                amount = limit.amount
        exchange.tells_limits = True
        if figures != known.figures:
            known.figures = figures
            if request.operation.format == "openai":
                known.told = self._openai % (*figures, amount, least, reset_s, amount, least, reset_s)
            else:
                known.told = self._general % (*figures, amount, least, reset_s)
        exchange.told += known.told
        if request.operation.format == "anthropic":
            exchange.told += ANTHROPIC % (amount, least, written_time(now_us / SECOND_US + reset_s))
        return True

    @staticmethod
    def _take_back(known: _Last, count: int, exchange: Exchange, now_us: int) -> None:
        """Give back what was taken from the first rules: the next one has no room."""
        for key, _, limit, admitted, rule in known.rows[:count]:
            rule.table.meter(key, limit, partial(rule.label, exchange), now_us).unspend(now_us)
            admitted.value -= 1


def written_time(time_s: float) -> bytes:
    """Write a time for Anthropic's clients; what was spent far beyond a small limit is not there before the year 9999.

    Args:
        time_s: seconds since 1970.
    """
    return timestamp(min(time_s, LATEST_S)).encode("ascii")
