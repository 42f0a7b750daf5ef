"""One provider as it runs: its connections, its limit, and what was seen of it."""

import time
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import ProxyError, UpstreamRejected
from proxy.exchange import Attempt, JsonObject
from proxy.metrics import LATENCY_BUCKETS_S, MAX_SERIES, Counter, Histogram, Registry, Spread, Value
from proxy.providers.base import LocalProvider, Provider, RemoteProvider
from proxy.upstream.headers import RequestHeaders
from proxy.upstream.pool import Pool
from proxy.upstream.slots import Slots
from proxy.usage import Usage
from proxy.values import timestamp

OWN_NAMES: Final = frozenset({b"x-trace-id", b"x-request-id", b"traceparent", b"tracestate"})
"""Trace ids are between the client and this proxy."""

WINDOW_S: Final = 300.0
"""Rates and percentiles speak of the running window of this length and the one before it."""


@dataclass(slots=True)
class Seen:
    """What one window saw."""

    calls: int = 0
    failures: int = 0
    latency: Spread = field(default_factory=lambda: Spread(LATENCY_BUCKETS_S))
    first_byte: Spread = field(default_factory=lambda: Spread(LATENCY_BUCKETS_S))
    """Of streams, from the attempt's start until their output begins."""
    first_token: Spread = field(default_factory=lambda: Spread(LATENCY_BUCKETS_S))
    """Until the first output of a stream, from the client's request on."""

    def plus(self, other: "Seen") -> "Seen":
        """Sum up two windows."""
        return Seen(
            self.calls + other.calls,
            self.failures + other.failures,
            self.latency.plus(other.latency),
            self.first_byte.plus(other.first_byte),
            self.first_token.plus(other.first_token),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure; `at_s` is wall clock."""

    at_s: float
    code: str
    message: str


class UpstreamMetrics:
    """What the registry holds about calls of providers."""

    def __init__(self, registry: Registry) -> None:
        labels = ("provider", "model", "outcome")
        self.calls: Counter = registry.counter("upstream_requests_total", "Calls of providers, by outcome.", labels)
        self.duration: Histogram = registry.histogram(
            "upstream_duration_seconds", "Time from a call's start to the end of its response.", ("provider", "model")
        )
        self.first_token: Histogram = registry.histogram(
            "time_to_first_token_seconds", "Time from the client's request to the first output.", ("provider", "model")
        )
        self.tokens: Counter = registry.counter(
            "tokens_total", "Tokens as providers counted them, by type.", ("provider", "model", "type")
        )


class _ModelSeries:
    """The series of one model at one provider, looked up once."""

    __slots__ = ("duration", "first_token", "input_tokens", "ok", "output_tokens")

    def __init__(self, metrics: UpstreamMetrics, provider: str, model: str) -> None:
        self.ok: Value = metrics.calls.series(provider, model, "ok")
        self.duration = metrics.duration.series(provider, model)
        self.first_token = metrics.first_token.series(provider, model)
        self.input_tokens = metrics.tokens.series(provider, model, "input")
        self.output_tokens = metrics.tokens.series(provider, model, "output")


class CallStats:
    """What was seen of one provider's calls; outlives changes of its settings, as long as it is the same place.

    Args:
        name: the provider's.
    """

    def __init__(self, name: str, metrics: UpstreamMetrics) -> None:
        self.last_failure: Failure | None = None
        self._name = name
        self._metrics = metrics
        self._series: dict[str | None, _ModelSeries] = {}
        self._now = Seen()
        self._before = Seen()
        self._turn_at_s = 0.0

    def record(self, attempt: Attempt, duration_s: float, now_s: float, error: ProxyError | None) -> None:
        """Take note of how a call ended; a call that the client broke off counts as neither good nor bad."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        seen = self._now
        seen.calls += 1
        seen.latency.observe(duration_s)
        if attempt.first_byte_s is not None:
            seen.first_byte.observe(attempt.first_byte_s)
        series = self._series.get(attempt.model) or self._add_series(attempt.model)
        series.duration.observe(duration_s)
        if error is None and (attempt.status is None or attempt.status < 500):
            series.ok.value += 1
            return
        if error is None:
            error = UpstreamRejected(f"status {attempt.status}", status=attempt.status)
        seen.failures += 1
        self._metrics.calls.inc(self._name, attempt.model or "", error.code)
        self.last_failure = Failure(time.time(), error.code, error.message)

    def record_cancelled(self, attempt: Attempt) -> None:
        """Take note of a call whose client left."""
        self._metrics.calls.inc(self._name, attempt.model or "", "cancelled")

    def record_usage(self, model: str | None, usage: Usage) -> None:
        """Add the tokens of one exchange."""
        series = self._series.get(model) or self._add_series(model)
        if usage.input_tokens is not None:
            series.input_tokens.value += usage.input_tokens
        if usage.output_tokens is not None:
            series.output_tokens.value += usage.output_tokens
        if usage.cache_read_tokens:
            self._add_tokens(model, "cache_read", usage.cache_read_tokens)
        if usage.cache_write_tokens:
            self._add_tokens(model, "cache_write", usage.cache_write_tokens)
        if usage.reasoning_tokens:
            self._add_tokens(model, "reasoning", usage.reasoning_tokens)

    def _add_tokens(self, model: str | None, kind: str, count: int) -> None:
        self._metrics.tokens.inc(self._name, model or "", kind, amount=count)

    def record_first_token(self, model: str | None, time_s: float) -> None:
        """Count the time to the first token of one stream, after `record`."""
        self._now.first_token.observe(time_s)
        (self._series.get(model) or self._add_series(model)).first_token.observe(time_s)

    def recent(self, now_s: float) -> Seen:
        """Sum up the running window and the one before it; what is older is forgotten, also while nothing is called."""
        if now_s >= self._turn_at_s:
            self._turn(now_s)
        return self._now.plus(self._before)

    def begin_anew(self) -> None:
        """Forget what the windows saw, so that only calls from now on speak for or against; counters go on."""
        self._now, self._before = Seen(), Seen()

    def _turn(self, now_s: float) -> None:
        is_stale = now_s - self._turn_at_s >= WINDOW_S
        self._before, self._now = (Seen() if is_stale else self._now), Seen()
        self._turn_at_s = now_s + WINDOW_S

    def _add_series(self, model: str | None) -> _ModelSeries:
        if len(self._series) >= MAX_SERIES:
            self._series.clear()
        series = self._series[model] = _ModelSeries(self._metrics, self._name, model or "")
        return series


class Endpoint:
    """A provider as one revision has it, with what outlives the revision.

    Args:
        pool: None for a provider that answers in this process.
        slots: its calls at once; without a limit they are only counted.
    """

    def __init__(self, provider: Provider, pool: Pool | None, slots: Slots, stats: CallStats) -> None:
        self.provider = provider
        self.remote = provider if isinstance(provider, RemoteProvider) else None
        self.local = provider if isinstance(provider, LocalProvider) else None
        self.pool = pool
        self.slots = slots
        self.stats = stats
        self.rules = RequestHeaders(own_names=OWN_NAMES)
        self.told = b"X-Provider: %b\r\nX-Attempts: 1\r\n" % provider.name.encode("latin-1", "replace")
        """Header lines for the client where the first attempt at it is the last."""

    def describe(self, now_s: float) -> JsonObject:
        """Show its settings and calls as `/providers/status` does; rates and percentiles are of 5 to 10 minutes."""
        settings, recent, failure = self.provider.settings, self.stats.recent(now_s), self.stats.last_failure
        rate = recent.failures / recent.calls if recent.calls else 0.0
        shown: JsonObject = {
            "inFlight": self.slots.in_use,
            "queued": self.slots.waiting,
            "maxConcurrency": self.slots.limit,
            "calls": recent.calls,
            "errorRate": round(rate, 4),
            "latencyMs": _percentiles(recent.latency),
            "timeToFirstByteMs": _percentiles(recent.first_byte),
            "timeToFirstTokenMs": _percentiles(recent.first_token),
            "lastError": None,
            "baseUrl": settings.base_url,
            "models": list(settings.models),
            "priority": settings.priority,
            "weight": settings.weight,
        }
        if failure is not None:
            at = timestamp(failure.at_s)
            shown["lastError"] = {"code": failure.code, "message": failure.message, "at": at}
        if self.pool is not None:
            pool = self.pool
            shown["connections"] = {"idle": pool.idle, "busy": pool.busy, "opened": pool.opened, "reused": pool.reused}
        return shown


def _percentiles(times: Spread) -> JsonObject:
    return {name: _ms(times.quantile(share)) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
