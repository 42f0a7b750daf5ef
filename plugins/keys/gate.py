"""The gate: whom a request is from, and whether it may pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from plugins.keys import cost
from plugins.keys.account import Shortage, to_usd
from plugins.keys.book import VirtualKey
from plugins.keys.keeper import Keeper
from plugins.keys.settings import KeysConfig
from plugins.keys.text import digest_of
from plugins.keys.traces import take_out
from plugins.keys.windows import Calendar
from proxy.errors import Refused, Unauthorized
from proxy.events import Events, Seldom
from proxy.exchange import Candidate, Exchange
from proxy.metrics import Counter
from proxy.redaction import mask_of
from proxy.values import timestamp

NAMES_NO_MODEL: Final = frozenset({"models", "version", "running"})
TOLD_EVERY_S: Final = 10.0
RETRY_SOON_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held of a key's budget for one request, in billionths of a dollar."""

    key: VirtualKey
    nanos: int


class Gate:
    """Lets requests with a key in, within what the key may do.

    Args:
        targets: who could answer a request.
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        config: KeysConfig,
        keeper: Keeper,
        *,
        targets: Callable[[Exchange], Sequence[Candidate]],
        refusals: Counter,
        events: Events,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.calendar = Calendar()
        self._keeper = keeper
        self._targets = targets
        self._refusals = refusals
        self._events = events
        self._seldom: Seldom[tuple[str, str]] = Seldom(TOLD_EVERY_S)
        self._clock = clock
        self._wall_clock = wall_clock

    def admit(self, exchange: Exchange) -> Hold:
        """Let a request in: tell who it is from, and hold what it may cost.

        Raises:
            Unauthorized, Refused: it may not pass.
            ClientError: nobody has its model.
        """
        now_s = self._wall_clock()
        key = self._identify(exchange, now_s)
        exchange.identity = key.identity
        take_out(exchange.request, exchange.caller or "")
        if key.rule is not None:
            self._check_model(exchange, key)
        nanos = self._check_budget(exchange, key, now_s) if key.budget.is_limited else 0
        account = key.account
        account.reserve(nanos)
        account.last_used_s = now_s
        self._keeper.is_changed = True
        return Hold(key, nanos)

    # -- who it is ---------------------------------------------------------------------------------------------------

    def _identify(self, exchange: Exchange, now_s: float) -> VirtualKey:
        if self._keeper.trouble is not None:
            self._refusals.inc("unusable")
            raise Refused(
                "the keys of this proxy cannot be used: its operator has to mend that; see its log",
                code="keys_unusable",
                status=503,
            )
        text = exchange.caller
        if not text:
            self._turn_away(exchange, "missing", "key missing: send this proxy's API key as your SDK sends one")
        key = self._keeper.book.find(digest_of(text), now_s)
        if key is None:
            self._turn_away(exchange, "unknown", "key not known to this proxy")
        state = key.state_at(now_s)
        if state != "active":
            self._turn_away(exchange, state, f"the key {key.settings.name} is {state}", key)
        return key

    def _turn_away(self, exchange: Exchange, reason: str, message: str, key: VirtualKey | None = None) -> NoReturn:
        """Refuse who has no right to be here; told to operators seldom, so that nobody fills the log."""
        self._refusals.inc(reason)
        kept_back = self._seldom.admit((reason, exchange.peer if key is None else key.id), self._clock())
        if kept_back is not None:
            shown = "no API key or token" if not exchange.caller else f"API key or token {mask_of(exchange.caller)}"
            who = shown if key is None else f"API key {key.settings.name}"
            more = f"; {kept_back} more like it since the last" if kept_back else ""
            self._events.emit(
                "WARN",
                "auth_failed",
                f"auth failed, {reason}: {who} from {exchange.peer or 'unknown'}{more}",
                reason=reason,
                peer=exchange.peer,
                request_id=exchange.id,
                key_id=None if key is None else key.id,
            )
        raise Unauthorized(message)

    # -- what it may do ----------------------------------------------------------------------------------------------

    def _check_model(self, exchange: Exchange, key: VirtualKey) -> None:
        request, rule = exchange.request, key.rule
        if rule is None or request.operation.name in NAMES_NO_MODEL:
            return
        if request.operation.name == cost.RAW and (exchange.named_provider or request.upload or request.model is None):
            self._check_measured(key, "models", "the model of a request")
            return
        if request.model is None:
            self._targets(exchange)  # finds the model that counts where none is named
        if request.model is None or not rule.allows(request.model):
            self._refusals.inc("model")
            asked = "this path's default" if request.model is None else f"{request.model[:100]!a}"
            message = f"the key {key.settings.name} may not use {asked}; it may use {_some(key.settings.models)}"
            raise Refused(message, code="model_not_allowed")

    def _check_measured(self, key: VirtualKey, has: str, unread: str) -> None:
        """Refuse what cannot be held to a key's bounds, unless that is wanted."""
        if self.config.unmeasured == "allow":
            return
        self._refusals.inc("unmeasured")
        raise Refused(
            f"the key {key.settings.name} has {has}, and on this path {unread} is not read (keys.unmeasured)",
            code="path_not_allowed",
        )

    def _check_budget(self, exchange: Exchange, key: VirtualKey, now_s: float) -> int:
        """Reckon what a request may cost, and refuse it where the budget has no room for that."""
        request = exchange.request
        if request.operation.name in cost.FREE:
            return 0
        if request.operation.name == cost.RAW:
            self._check_measured(key, "a budget", "what a request costs")
            return 0
        prices = [candidate.price for candidate in self._targets(exchange)]
        nanos = cost.estimate(request, prices, self.config.estimated_output)
        shortage = key.account.shortage(key.budget, nanos, self.calendar.at(now_s))
        if shortage is not None:
            self._refuse_cost(exchange, key, nanos, shortage, now_s)
        return nanos

    def _refuse_cost(
        self, exchange: Exchange, key: VirtualKey, nanos: int, shortage: Shortage, now_s: float
    ) -> NoReturn:
        self._refusals.inc("budget")
        name, window = key.settings.name, shortage.window
        kept_back = self._seldom.admit((window, key.id), self._clock())
        spent = f"{_usd(shortage.spent)} of {_usd(shortage.limit)} are spent this {window}"
        if kept_back is not None:
            message = f"key {name}: {spent}, {_usd(shortage.reserved)} held; a request was refused"
            self._events.emit("WARN", "key_budget_exceeded", message, key_id=key.id, window=window)
        if not shortage.is_spent:
            message = f"the budget of the key {name}: {spent}, {_usd(shortage.reserved)} are held for requests in work"
            raise Refused(message, code="budget_exceeded", status=429, retry_after_s=RETRY_SOON_S)
        exchange.tell(b"x-should-retry", b"false")
        ends = timestamp(shortage.ends_s)
        raise Refused(
            f"the budget of the key {name} is used up: {spent}, this request may cost {_usd(nanos)}; it ends {ends}",
            code="budget_exceeded",
            status=429,
            retry_after_s=shortage.ends_s - now_s,
        )


def _usd(nanos: int) -> str:
    return f"${to_usd(nanos):.6f}".rstrip("0").removesuffix(".")


def _some(patterns: Sequence[str]) -> str:
    more = f" and {len(patterns) - 5} more" if len(patterns) > 5 else ""
    return ", ".join(patterns[:5]) + more
