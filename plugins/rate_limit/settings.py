"""Section `rateLimit`: how much callers may ask for, in the simple form and as a list of rules."""

from collections import Counter
from ipaddress import ip_network
from typing import Annotated, Final, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from proxy.callers import Counted
from proxy.plugin import PluginConfig, Section
from proxy.values import Duration, Timeout

PeriodAlgorithm = Literal["token-bucket", "gcra", "leaky-bucket", "fixed-window", "sliding-window", "sliding-log"]

SIMPLE_PERIODS_S: Final = {"perSecond": 1, "perMinute": 60, "perHour": 3600, "perDay": 86400}
"""The simple form: each is a rule of this name."""

MOST: Final = 1_000_000_000_000
"""Of anything: clients are told of it in headers, whose numbers have 15 digits at most (RFC 9651, 3.3.1)."""

MOST_USD: Final = 1_000_000_000
"""The same of US dollars, which are told in millionths."""

LONGEST_S: Final = 366 * 86400.0

LONGEST_QUEUE_S: Final = 3600.0

OF_KEYS: Final = "key."
"""Begins the names of rules that come with virtual keys."""


def _number_or_none(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """Say what fits in one sentence, instead of one for each of the two."""
    try:
        if not isinstance(value, bool):
            return read(value)
    except ValidationError:
        pass
    raise ValueError(f"it is a whole number from 1 to {MOST:,}, or none")


Amount = Annotated[Annotated[int, Field(gt=0, le=MOST)] | Literal["none"], WrapValidator(_number_or_none)]

Quantity = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]

Dimension = Annotated[
    str, Field(pattern=r"^(?:caller|ip|model|provider|route|all|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100})$")
]

RuleName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]


class RuleSettings(Section):
    """One limit of the list."""

    name: RuleName = Field(description="Names it in refusals, headers, metrics and events.")
    counts: Counted = Field(
        "requests",
        description="What is counted: requests, inputTokens, outputTokens, totalTokens, costUsd, or concurrent: "
        "requests in work at once.",
    )
    per: tuple[Dimension, ...] = Field(
        ("caller",),
        min_length=1,
        description="For whom each: caller, ip, model, provider, route, header:NAME, several of them together, or all: "
        "for everybody together.",
    )
    amount: Quantity = Field(description="How much, in whole numbers but for costUsd.")
    period: Duration = Field(60.0, ge=0.001, le=LONGEST_S, description="In how long; concurrent has none.")
    burst: Quantity | None = Field(
        None, description="Depth of a bucket: most at once; unset: as much as amount. Windows ignore it."
    )
    algorithm: PeriodAlgorithm | None = Field(None, description="Instead of `rateLimit.algorithm`.")
    mode: Literal["enforce", "shadow"] = Field(
        "enforce", description="enforce; or shadow: it is counted and reported, and nobody is refused."
    )
    models: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description='Patterns of the models it is for, "*" and "?" are wildcards; unset: all.'
    )
    queue: Timeout = Field(
        None,
        le=LONGEST_QUEUE_S,
        description="How long a request may wait here until it is admitted, rather than being refused; none: not.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "RuleSettings":
        _check_amounts(self.counts, self.amount, self.burst)
        if self.name.startswith(OF_KEYS):
            raise ValueError(f"names that begin with {OF_KEYS} are those of the limits of virtual keys")
        if self.counts == "concurrent" and (self.algorithm or self.burst):
            raise ValueError("concurrent has neither algorithm nor burst: what is in work at once is counted")
        return self


def _check_amounts(counts: Counted, amount: float, burst: float | None) -> None:
    """Raise ValueError for amounts that are none of what is counted."""
    least, most = min(amount, burst or amount), max(amount, burst or amount)
    if counts != "costUsd":
        if amount % 1 or (burst or 0) % 1:
            raise ValueError(f"amount and burst of {counts} are whole numbers")
    elif least < 1e-6:
        raise ValueError("a limit below a millionth of a US dollar is none")
    elif most > MOST_USD:
        raise ValueError("a limit above a billion US dollars is none")


class CallerRuleSettings(Section):
    """What one caller has otherwise in one rule."""

    amount: Quantity = Field(description="Instead of the rule's amount.")
    burst: Quantity | None = Field(None, description="Instead of the rule's burst.")


class CallerSettings(Section):
    """What one caller has otherwise; what is unset is as for all."""

    exempt: bool = Field(False, description="Whether no rule per caller holds for it.")
    per_second: Amount | None = Field(None, description="Instead of `rateLimit.perSecond`; none: no such limit.")
    per_minute: Amount | None = Field(None, description="Instead of `rateLimit.perMinute`; none: no such limit.")
    per_hour: Amount | None = Field(None, description="Instead of `rateLimit.perHour`; none: no such limit.")
    per_day: Amount | None = Field(None, description="Instead of `rateLimit.perDay`; none: no such limit.")
    burst_size: int | None = Field(None, gt=0, le=MOST, description="Instead of `rateLimit.burstSize`.")
    rules: dict[str, CallerRuleSettings] = Field(
        default_factory=dict, description="Other amounts in rules of the list, by their name."
    )


class RateLimitConfig(PluginConfig):
    """Section `rateLimit`."""

    enabled: bool = Field(False, description="Whether limits are in force.")
    algorithm: PeriodAlgorithm = Field(
        "token-bucket",
        description="How all is counted that does not say otherwise: token-bucket, gcra, leaky-bucket, fixed-window, "
        "sliding-window or sliding-log.",
    )
    per_second: Amount = Field("none", description="Requests of one caller in a second; none: no such limit.")
    per_minute: Amount = Field("none", description="Requests of one caller in a minute; none: no such limit.")
    per_hour: Amount = Field(1000, description="Requests of one caller in an hour; none: no such limit.")
    per_day: Amount = Field("none", description="Requests of one caller in a day; none: no such limit.")
    burst_size: int = Field(
        50, gt=0, le=MOST, description="Depth of the buckets of the four above: requests at once; windows ignore it."
    )
    rules: tuple[RuleSettings, ...] = Field((), description="More limits; a request passes when all have room.")
    callers: dict[str, CallerSettings] = Field(
        default_factory=dict,
        description="What single callers have otherwise: by name or id of a virtual key, by address, or by the id that "
        "GET /rate-limits shows.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks (CIDR) whose X-Forwarded-For is believed, for rules per ip."
    )
    max_buckets: int = Field(
        100_000, gt=0, description="Counts kept at most; beyond it new callers are counted together."
    )
    max_waiting: int = Field(
        50, ge=0, description="Requests that may wait to be admitted; each holds one of maxConcurrency."
    )
    end_streams: bool = Field(
        False, description="Whether a stream ends with an error when it passes a limit of tokens or cost."
    )
    store: Literal["memory", "shared"] = Field(
        "memory", description="Where is counted: in this process, or in the server of section `store` for all of them."
    )
    on_store_failure: Literal["open", "closed", "local"] = Field(
        "local",
        description="While that server fails: local counts in this process, open admits all, closed refuses all.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ip_network(network)
        return networks

    @model_validator(mode="after")
    def _names_are_known(self) -> "RateLimitConfig":
        names = [*SIMPLE_PERIODS_S, *(rule.name for rule in self.rules)]
        if double := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"rules: the name {double[0]} is there twice, or that of the simple form")
        per_caller = {rule.name: rule for rule in self.rules if "caller" in rule.per}
        for caller, settings in self.callers.items():
            for name, own in settings.rules.items():
                if name not in per_caller:
                    raise ValueError(f"callers.{caller}.rules: {name} is no rule of `rules` per caller")
                try:
                    _check_amounts(per_caller[name].counts, own.amount, own.burst)
                except ValueError as error:
                    raise ValueError(f"callers.{caller}.rules.{name}: {error}") from None
        return self
