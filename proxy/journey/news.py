"""What people are told of routing: an event for each failover, circuit that changes and panic, and counts of all."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from proxy.errors import ProxyError
from proxy.events import Events, Seldom
from proxy.exchange import Exchange
from proxy.metrics import Registry
from proxy.routing.breaker import State
from proxy.routing.failures import Verdict
from proxy.routing.health import Change, Forgotten
from proxy.routing.plan import Step

SAME_NEWS_EVERY_S: Final = 10.0

SAME_FAILURE_EVERY_S: Final = 1.0
"""A provider that is down fails each request that is sent there, and the log must not grow with them."""

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
        self._panicked = Seldom[str](SAME_NEWS_EVERY_S)
        self._overloads = Seldom[None](SAME_NEWS_EVERY_S)
        self._failed = Seldom[tuple[str, str, str]](SAME_FAILURE_EVERY_S)
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
        """Somebody failed, and the request goes on; said at most once a second for a provider and kind of failure.

        The field `suppressed` of the next one tells how many were left out.
        """
        provider, kind = step.target.candidate.provider, verdict.kind or ""
        self._failovers.inc(provider, kind)
        is_same = then.target is step.target
        if verdict.may_have_executed and not is_same:
            self._doubles.inc(provider)
        event = "retry" if is_same else "failover"
        if (suppressed := self._failed.admit((event, provider, kind), self._clock())) is None:
            return
        again = "with another key" if then.key is not step.key else f"again in {then.wait_s:.2g} s"
        goes_on = f"asking it {again}" if is_same else f"trying {then.target.name}"
        bill = "; both may bill it" if verdict.may_have_executed else ""
        self._events.emit(
            "WARN",
            event,
            f"{step.target.name} failed ({error.code}), {goes_on}{bill}",
            request_id=exchange.id,
            provider=provider,
            **({"suppressed": suppressed} if suppressed else {}),
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
        if self._panicked.admit(model, self._clock()) is None:
            return
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
        if (suppressed := self._overloads.admit(None, self._clock())) is None:
            return
        many = f"{suppressed + 1} requests" if suppressed else "a request"
        self._events.emit("WARN", "overloaded", f"{many} got 503, the last one because: {error.message}")

    def panicking(self) -> list[str]:
        """List the models for which everybody was left out within the last minute; empty: requests that name none."""
        return self._panicked.told_since(self._clock() - PANIC_SHOWN_S)

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
