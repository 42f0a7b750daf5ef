"""How a request is refused, and what operators learn of it."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from plugins.rate_limit.admission import Refusal, is_hopeless
from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.rules import UNITS, Rule, show_amount
from proxy.errors import Refused
from proxy.events import Events, Seldom
from proxy.exchange import Exchange
from proxy.values import format_duration, timestamp

CODE: Final = "rate_limited"

STATUS: Final = 429

TELL_EVERY_S: Final = 60.0
"""Of one rule and one caller."""

MOST_RECENT: Final = 100


@dataclass(frozen=True, slots=True)
class Blocked:
    """One refused request, for operators."""

    time_s: float
    rule: str
    caller: str
    model: str
    wait_s: float | None

    def describe(self) -> dict[str, object]:
        """Show it under its names in JSON."""
        return {
            "time": timestamp(self.time_s),
            "rule": self.rule,
            "caller": self.caller,
            "model": self.model,
            "retryAfterSeconds": self.wait_s,
        }


class Refusals:
    """Tells of refused requests: to the client each time, to the log once in a while, to operators who ask."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._seldom: Seldom[tuple[str, str]] = Seldom(TELL_EVERY_S)
        self.recent: deque[Blocked] = deque(maxlen=MOST_RECENT)

    def refuse(self, exchange: Exchange, refusal: Refusal, now_us: int) -> Refused:
        """Note a refusal; gives the error for the client."""
        rule = refusal.rule
        rule.refused.value += 1
        wait_s = None if is_hopeless(refusal) else refusal.wait_us / SECOND_US
        if wait_s is None:
            exchange.tell(b"x-should-retry", b"false")
        message = refusal_message(refusal)
        model = (exchange.request.model or "")[:100]
        self.recent.append(Blocked(now_us / SECOND_US, rule.name, refusal.label, model, wait_s))
        self._tell(rule, refusal.label, f"{refusal.label or 'all'}: {message}", now_us / SECOND_US)
        return Refused(message, code=CODE, status=STATUS, retry_after_s=wait_s)

    def end_stream(self, exchange: Exchange, rule: Rule, amount: int, now_us: int) -> Refused:
        """Note that a stream is ended; gives the error for the client."""
        rule.ended.value += 1
        caller, model = exchange.shown_caller, (exchange.request.model or "")[:100]
        taken = f"about {show_amount(amount, rule.counts)} {UNITS[rule.counts]}"
        message = f"rate limit {rule.name} is passed by this stream, which has taken {taken}: {rule.describe()}"
        self.recent.append(Blocked(now_us / SECOND_US, rule.name, caller, model, None))
        self._tell(rule, caller, f"{caller}: {message}", now_us / SECOND_US)
        return Refused(message, code=CODE, status=STATUS)

    def would_refuse(self, rule: Rule, label: str, now_us: int) -> None:
        """Note that a rule in shadow mode would have refused."""
        rule.refused.value += 1
        self._tell(rule, label, f"{label or 'all'}: rate limit {rule.name} (shadow) would refuse", now_us / SECOND_US)

    def _tell(self, rule: Rule, label: str, message: str, now_s: float) -> None:
        kept_back = self._seldom.admit((rule.name, label), now_s)
        if kept_back is not None:
            more = f" ({kept_back} more since it was last told)" if kept_back else ""
            self._events.emit("WARN", CODE, message + more, rule=rule.name, caller=label, left_out=kept_back)

    def forget(self) -> None:
        """Forget what was refused."""
        self.recent.clear()


def refusal_message(refusal: Refusal) -> str:
    """Say which limit is reached and when to come back."""
    rule = refusal.rule
    if is_hopeless(refusal):
        asked = show_amount(refusal.amount, rule.counts)
        most = show_amount(rule.limit.most, rule.counts)
        unit = UNITS[rule.counts]
        return (
            f"rate limit {rule.name}: about {asked} {unit} are asked for at once, and there are never more than {most}"
        )
    reached = f"rate limit {rule.name} is reached: {rule.describe()}"
    if rule.counts == "concurrent":
        return f"{reached}; come back when another one has ended"
    return f"{reached}; come back in {_show_wait(refusal.wait_us / SECOND_US)}"


def _show_wait(wait_s: float) -> str:
    return f"{wait_s:.3g} s" if wait_s < 60 else format_duration(wait_s + 0.999)
