"""What people are told of routing: an event for each failover, circuit that changes and panic, and counts of all."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from proxy.errors import ProxyError
from proxy.events import Events
from proxy.exchange import Exchange
from proxy.metrics import Registry
from proxy.routing.breaker import State
from proxy.routing.failures import Verdict
from proxy.routing.health import Change, Forgotten
from proxy.routing.plan import Step

SAME_NEWS_EVERY_S: Final = 10.0

MOST_SUBJECTS: Final = 1000

PANIC_SHOWN_S: Final = 60.0
"""For so long after a panic `/health` tells of it."""

STATES: Final = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class News:
    """Tells events and counts metrics.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, events: Events, metrics: Registry, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._told_s: dict[str, float] = {}
        self._overloaded = 0
        self._overload_told_s = -SAME_NEWS_EVERY_S
        self._failovers = metrics.counter(
            "failovers_total",
            "Attempts after which somebody was asked again, by kind of failure.",
            ("provider", "kind"),
        )
        self._doubles = metrics.counter(
            "possible_double_executions_total",
            "Attempts that may have been executed and were made good elsewhere: both may be billed.",
            ("provider",),
        )
        self._hedges = metrics.counter(
            "hedges_total", "Second attempts beside one that was late, by whether they won.", ("provider", "outcome")
        )
        self._panics = metrics.counter(
            "panics_total", "Requests for which everybody was left out, by model.", ("model",)
        )
        self._circuits = metrics.gauge(
            "circuit_state", "0 closed, 0.5 half open, 1 open; providers and their models.", ("name",)
        )

    def failed_over(self, exchange: Exchange, step: Step, verdict: Verdict, error: ProxyError, then: Step) -> None:
        """Somebody failed, and the request goes on."""
        provider = step.target.candidate.provider
        self._failovers.inc(provider, verdict.kind or "")
        is_same = then.target is step.target
        if verdict.may_have_executed and not is_same:
            self._doubles.inc(provider)
        again = "with another key" if then.key is not step.key else f"again in {then.wait_s:.2g} s"
        goes_on = f"asking it {again}" if is_same else f"trying {then.target.name}"
        bill = "; both may bill it" if verdict.may_have_executed else ""
        self._events.emit(
            "WARN",
            "retry" if is_same else "failover",
            f"{step.target.name} failed ({error.code}), {goes_on}{bill}",
            request_id=exchange.id,
            provider=provider,
        )

    def passed_on(self, exchange: Exchange, error: ProxyError) -> None:
        """A provider failed, and the client gets its own words about it."""
        self._events.emit(
            "WARN",
            error.code,
            f"{error.message}, and the client is told so",
            request_id=exchange.id,
            provider=error.provider,
            attempts=len(exchange.attempts),
        )

    def changed(self, changes: Sequence[Change]) -> None:
        """A circuit opened, closed, or lets a probe through."""
        for change in changes:
            self._circuits.set(STATES[change.state], change.what)
            if change.state == "open":
                self._events.emit("WARN", "circuit_open", f"{change.what} is left alone: {change.reason}")
            elif change.state == "closed":
                self._events.emit("INFO", "circuit_closed", f"{change.what} answers again")

    def settled(self, circuits: Iterable[tuple[str, State]]) -> None:
        """Another revision is in force, in which providers may be gone and circuits switched off."""
        states = dict(circuits)
        for (name,), value in self._circuits.items():
            value.set(STATES[states.get(name, "closed")])

    def panicked(self, exchange: Exchange, step: Step) -> None:
        """Everybody is left out, and one is asked all the same; said at most every ten seconds for a model."""
        model = exchange.request.model or ""
        self._panics.inc(model)
        now_s = self._clock()
        if now_s - self._told_s.get(model, -SAME_NEWS_EVERY_S) < SAME_NEWS_EVERY_S:
            return
        if len(self._told_s) >= MOST_SUBJECTS:
            self._told_s.clear()
        self._told_s[model] = now_s
        absence = step.target.absence
        why = "" if absence is None else f" ({absence.reason})"
        self._events.emit(
            "WARN",
            "routing_panic",
            f"everybody who has {model or 'this'} is left out; {step.target.name} is asked all the same{why}",
            request_id=exchange.id,
        )

    def overloaded(self, error: ProxyError) -> None:
        """A request was refused for want of room; said at most every ten seconds, with how many there were."""
        self._overloaded += 1
        now_s = self._clock()
        if now_s - self._overload_told_s < SAME_NEWS_EVERY_S:
            return
        many = "a request" if self._overloaded == 1 else f"{self._overloaded} requests"
        self._overloaded, self._overload_told_s = 0, now_s
        self._events.emit("WARN", "overloaded", f"{many} got 503, the last one because: {error.message}")

    def panicking(self) -> list[str]:
        """List the models for which everybody was left out within the last minute; empty: requests that name none."""
        since_s = self._clock() - PANIC_SHOWN_S
        return [model for model, told_s in self._told_s.items() if told_s >= since_s]

    def drained(self, provider: str, in_flight: int, by: str) -> None:
        """An operator has a provider take no new calls."""
        message = f"{provider} takes no new calls, by an operator ({by}); in flight: {in_flight}"
        self._events.emit("WARN", "provider_drained", message, provider=provider, author=by)

    def enabled(self, provider: str, forgotten: Forgotten, by: str) -> None:
        """An operator has a provider take calls again, with a clean slate."""
        self._close(forgotten)
        message = f"{provider} takes calls again, by an operator ({by})"
        self._events.emit("INFO", "provider_enabled", message, provider=provider, author=by)

    def reset(self, forgotten: Forgotten, by: str) -> None:
        """An operator has every failure forgotten."""
        self._close(forgotten)
        message = (
            f"{len(forgotten.circuits)} circuits closed and {forgotten.cooldowns} cooldowns ended by a reset ({by})"
        )
        self._events.emit("INFO", "routing_reset", message, author=by)

    def cancelled(self, exchange: Exchange, by: str) -> None:
        """An operator ended a request."""
        message = f"exchange {exchange.id} ended by an operator ({by})"
        self._events.emit("WARN", "exchange_cancelled", message, request_id=exchange.id, author=by)

    def _close(self, forgotten: Forgotten) -> None:
        for name in forgotten.circuits:
            self._circuits.set(STATES["closed"], name)

    def hedged(self, provider: str, outcome: str) -> None:
        """A second attempt ended: won, lost or failed."""
        self._hedges.inc(provider, outcome)
