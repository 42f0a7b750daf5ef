"""Settings of what happens when a provider fails: failover and its budget, breakers, hedging, probes, prices."""

from typing import Final, Literal

from pydantic import Field

from proxy.errors import FailureKind
from proxy.plugin import Section
from proxy.values import Duration, Timeout

DEFAULT_KINDS: tuple[FailureKind, ...] = (
    *("connect", "tls", "timeout", "reset", "rate-limit", "overloaded", "server-error"),
    *("auth", "context-length", "busy"),
)


class RetryBudgetSettings(Section):
    """How many extra attempts the whole process may make."""

    ratio: float = Field(
        0.2, ge=0, le=1, allow_inf_nan=False, description="What each request pays in; an extra attempt costs 1."
    )
    capacity: float = Field(
        200.0, ge=0, allow_inf_nan=False, description="Most that is saved up; it is full at the start."
    )


class ModelFailoverSettings(Section):
    """What one alias or model does otherwise."""

    enabled: bool | None = Field(None, description="Instead of `enableFallbackProviders`.")
    on: tuple[FailureKind, ...] | None = Field(None, description="Instead of `failover.on`.")
    attempts: int | None = Field(None, gt=0, description="Instead of `failover.attempts`.")
    deadline: Duration | None = Field(None, gt=0, description="Instead of `failover.deadline`.")
    fallbacks: tuple[str, ...] = Field(
        (), description="Aliases, models or `provider/model` that are asked when nobody who has this one answers."
    )


class FailoverSettings(Section):
    """When another key, provider or model is asked, and how much of that one request may cost."""

    on: tuple[FailureKind, ...] = Field(
        DEFAULT_KINDS,
        description="Failures after which somebody else is asked; all there are but `content-refused` and `not-found`.",
    )
    after_execution: bool = Field(
        True, description="Whether another provider is asked when the one before may have executed (and bills) it."
    )
    attempts: int = Field(4, gt=0, description="Attempts of one request at most, the first included.")
    deadline: Duration = Field(120.0, gt=0, description="No further attempt begins later than this after the request.")
    backoff: Duration = Field(
        0.25, gt=0, description="Before a provider is asked again: a random wait up to this, doubled each time."
    )
    max_wait: Duration = Field(
        5.0, description="Longest such wait; a provider that wants a longer one (Retry-After) is not asked again."
    )
    retry_budget: RetryBudgetSettings = Field(
        default_factory=RetryBudgetSettings, description="Extra attempts of the whole process."
    )
    models: dict[str, ModelFailoverSettings] = Field(
        default_factory=dict, description="What single aliases or models do otherwise, by name."
    )


class BreakerSettings(Section):
    """When a provider, one of its models or one of its keys is left alone for a while."""

    enabled: bool = Field(True, description="Whether failing providers are left out at all.")
    failures: int = Field(5, gt=0, description="Failures in a row that open the circuit.")
    error_ratio: float = Field(
        0.5, gt=0, le=1, allow_inf_nan=False, description="Share of failures in the window that opens it."
    )
    min_requests: int = Field(20, gt=0, description="Requests in the window below which the share says nothing.")
    window: Duration = Field(30.0, gt=0, description="How far back the share looks.")
    cooldown: Duration = Field(1.0, gt=0, description="How long it stays open the first time; doubles while it fails.")
    max_cooldown: Duration = Field(5.0, gt=0, description="Longest such time.")
    probes: int = Field(1, gt=0, description="Requests let through at once, and successes needed, before it closes.")
    slow_start: Duration = Field(10.0, description="After it closed: time in which the share of requests grows to all.")
    silence: Timeout = Field(
        5.0, description="A call whose client left after waiting longer than this for nothing counts as a failure."
    )
    latency_factor: float = Field(
        5.0, gt=1, description="Left out when its usual time to first byte is this many times its rivals' median."
    )


class HedgingSettings(Section):
    """A second attempt elsewhere while the first has not answered."""

    enabled: bool = Field(False, description="Whether slow requests are asked twice; both may be billed.")
    percentile: float = Field(
        95.0, gt=0, lt=100, description="Of recent times to first byte: who is later than this is asked elsewhere too."
    )
    min_delay: Duration = Field(0.1, description="No second attempt before this.")
    budget_percent: float = Field(
        5.0, gt=0, le=100, allow_inf_nan=False, description="Second attempts in percent of the requests at most."
    )
    min_requests: int = Field(20, gt=0, description="Calls of a model that must have been seen before it is hedged.")


class ActiveProbeSettings(Section):
    """An unbilled call that finds out whether a failing provider is back."""

    enabled: bool = Field(False, description="Whether a failing provider is probed; requests are its probes otherwise.")
    path: str = Field("/models", pattern=r"^/[\x21-\x7e]*$", description="GET, under `baseUrl`; below 500 means alive.")
    interval: Duration = Field(5.0, gt=0, description="Time between two probes while its circuit is open.")
    timeout: Duration = Field(2.0, gt=0, description="How long one may take.")


MOST_USD: Final = 1e9
"""For a million tokens: with more, sums of costs leave the range of numbers."""


class PriceSettings(Section):
    """What tokens of a model cost."""

    input: float = Field(ge=0, le=MOST_USD, allow_inf_nan=False, description="US dollars for a million input tokens.")
    output: float = Field(ge=0, le=MOST_USD, allow_inf_nan=False, description="US dollars for a million output tokens.")


AdaptiveLimit = Literal["none", "aimd"]
