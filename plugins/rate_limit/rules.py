"""The rules in force, compiled from the section: what is charged for a request, where, and under which limit."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from plugins.rate_limit.limit import SECOND_US, Algorithm, Limit
from plugins.rate_limit.room import Table
from plugins.rate_limit.settings import OF_KEYS, SIMPLE_PERIODS_S, CallerSettings, RateLimitConfig, RuleSettings
from proxy.callers import Allowance, Counted
from proxy.exchange import Exchange
from proxy.metrics import Counter
from proxy.patterns import compile_patterns

NANO_USD: Final = 1_000_000_000
"""Cost is counted in billionths of a US dollar: a token of the cheapest model is tens of them."""

UNITS: Final[dict[Counted, str]] = {
    "requests": "requests",
    "inputTokens": "input tokens",
    "outputTokens": "output tokens",
    "totalTokens": "tokens",
    "costUsd": "US dollars",
    "concurrent": "requests in work",
}

DAY_S: Final = 86400

Identity = tuple[str, Counted, tuple[str, ...]]
"""What makes a rule the same one after a change of the settings: name, what it counts, per what."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule as configured, whatever it was configured by.

    Args:
        queue_us: how long a request may wait; 0: not at all.
    """

    name: str
    counts: Counted
    per: tuple[str, ...]
    limit: Limit
    is_enforced: bool = True
    models: tuple[str, ...] = ()
    queue_us: int = 0

    @property
    def identity(self) -> Identity:
        """What makes it the same rule after a change."""
        return self.name, self.counts, self.per


class Rule:
    """A rule as the hot path uses it.

    Attributes:
        item: of the header `RateLimit`, to be filled in.
        is_plain: each request takes 1, and nothing is settled.
        admitted, refused, ended: series of the metric of decisions.
    """

    __slots__ = (
        "_models",
        "admitted",
        "counts",
        "ended",
        "has_models",
        "is_enforced",
        "is_plain",
        "is_queue",
        "item",
        "key",
        "label",
        "limit",
        "meters",
        "name",
        "queue_us",
        "refused",
        "spec",
        "table",
    )

    def __init__(
        self,
        spec: RuleSpec,
        table: Table,
        key: Callable[[Exchange], Hashable],
        label: Callable[[Exchange], str],
        decisions: Counter,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.counts: Counted = spec.counts
        self.limit = spec.limit
        self.item = b'"%b";r=%%d;t=%%d' % spec.name.encode("ascii")
        self.is_enforced = spec.is_enforced
        self.is_plain = spec.counts == "requests"
        self.is_queue = spec.limit.algorithm == "leaky-bucket" and spec.is_enforced
        self.queue_us = spec.queue_us
        self.table = table
        self.meters = table.meters
        self.key = key
        self.label = label
        self.admitted = decisions.series(spec.name, "admitted")
        self.refused = decisions.series(spec.name, "refused" if spec.is_enforced else "would_refuse")
        self.has_models = bool(spec.models)
        self.ended = decisions.series(spec.name, "ended")
        self._models = compile_patterns(spec.models)

    def is_for(self, *names: str) -> bool:
        """Tell whether it is for a model, under any of its names."""
        return any(self._models.fullmatch(name) for name in names)

    def describe(self) -> str:
        """Say what it allows: `1000 requests in 1h, 50 at once, for each caller`."""
        spec, limit = self.spec, self.limit
        amount = show_amount(limit.amount, spec.counts)
        whom = " and ".join(spec.per)
        each = "for all together" if whom == "all" else f"for each {whom}"
        period = "" if spec.counts == "concurrent" else f" in {show_period(limit.period_us)}"
        at_once = f", {show_amount(limit.most, spec.counts)} at once," if limit.most != limit.amount else ""
        return f"{amount} {UNITS[spec.counts]}{period}{at_once} {each}"


def show_amount(amount: int, counts: Counted) -> str:
    """Write an amount in the unit of what is counted."""
    return f"{amount / NANO_USD:g}" if counts == "costUsd" else str(amount)


def json_amount(amount: int, counts: Counted) -> float:
    """Give an amount in the unit of what is counted, as JSON shows it."""
    return round(amount / NANO_USD, 9) if counts == "costUsd" else amount


def show_period(period_us: int) -> str:
    """Write a period as in the settings: `1m`, `90s`, `1h`."""
    for unit, length in (("d", DAY_S * SECOND_US), ("h", 3600 * SECOND_US), ("m", 60 * SECOND_US), ("s", SECOND_US)):
        if period_us % length == 0:
            return f"{period_us // length}{unit}"
    return f"{period_us / SECOND_US:g}s"


def simple_specs(config: RateLimitConfig, caller: CallerSettings | None = None) -> list[RuleSpec]:
    """List the rules of the simple form, for all callers or for one that has them otherwise."""
    caller = caller or CallerSettings()
    amounts = {
        "perSecond": (config.per_second, caller.per_second),
        "perMinute": (config.per_minute, caller.per_minute),
        "perHour": (config.per_hour, caller.per_hour),
        "perDay": (config.per_day, caller.per_day),
    }
    depth = caller.burst_size or config.burst_size
    specs = []
    for name, (general, own) in amounts.items():
        amount = general if own is None else own
        if isinstance(amount, int):
            limit = Limit(config.algorithm, amount, SIMPLE_PERIODS_S[name] * SECOND_US, depth)
            specs.append(RuleSpec(name, "requests", ("caller",), limit))
    return specs


def listed_specs(config: RateLimitConfig, caller: CallerSettings | None = None) -> list[RuleSpec]:
    """List the rules of the list, for all callers or for one that has other amounts."""
    return [_listed(config, rule, caller) for rule in config.rules]


def _listed(config: RateLimitConfig, rule: RuleSettings, caller: CallerSettings | None) -> RuleSpec:
    own = caller.rules.get(rule.name) if caller is not None else None
    amount, burst = (rule.amount, rule.burst) if own is None else (own.amount, own.burst)
    algorithm: Algorithm = "concurrent" if rule.counts == "concurrent" else rule.algorithm or config.algorithm
    period_s = 1.0 if algorithm == "concurrent" else rule.period  # what is in work must outlive a change of it
    limit = limit_of(rule.counts, algorithm, amount, period_s, burst)
    is_enforced, queue_us = rule.mode == "enforce", round((rule.queue or 0) * SECOND_US)
    return RuleSpec(rule.name, rule.counts, rule.per, limit, is_enforced, rule.models, queue_us)


def limit_of(
    counts: Counted, algorithm: Algorithm, amount: float, period_s: float, burst: float | None = None
) -> Limit:
    """Make a limit of what people write.

    Args:
        amount, burst: in US dollars, requests or tokens.
    """
    unit = NANO_USD if counts == "costUsd" else 1
    most, depth = (max(round(each * unit), 1) for each in (amount, burst or amount))
    return Limit(algorithm, most, round(period_s * SECOND_US), depth)


def allowance_specs(config: RateLimitConfig, allowances: Iterable[Allowance]) -> list[RuleSpec]:
    """Make rules of what a virtual key allows. A budget of a day or longer is one of the calendar, spent once."""
    specs = []
    for allowance in allowances:
        counts, period_s = allowance.counts, allowance.per_s
        algorithm: Algorithm = config.algorithm
        if counts == "concurrent":
            algorithm, period_s = "concurrent", 1
        elif counts == "costUsd" and period_s >= DAY_S:
            algorithm = "fixed-window"
        limit = limit_of(counts, algorithm, allowance.amount, period_s)
        specs.append(RuleSpec(_name_of(allowance), counts, ("caller",), limit))
    return specs


def _name_of(allowance: Allowance) -> str:
    """Name the rule of an allowance as the limits of keys are written: `key.requestsPerMinute`."""
    name = f"{OF_KEYS}{allowance.counts}"
    if allowance.counts == "concurrent":
        return name
    periods = (f"P{period[1:]}" for period, length_s in SIMPLE_PERIODS_S.items() if length_s == allowance.per_s)
    return f"{name}{next(periods, f'.{allowance.per_s:g}s')}"
