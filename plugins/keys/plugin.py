"""Give clients keys of this proxy's own: which models, how much, at what cost, until when; no other request passes."""

from collections.abc import Sequence
from typing import Final

from plugins.keys import cost
from plugins.keys.admin import KeyRoutes
from plugins.keys.book import VirtualKey
from plugins.keys.gate import Gate, Hold
from plugins.keys.issues import key_issues
from plugins.keys.keeper import Keeper
from plugins.keys.settings import KeysConfig
from plugins.keys.text import digest_of
from proxy import hookimpl
from proxy.callers import Identity
from proxy.exchange import Attempt, Exchange
from proxy.plugin import AdminRoute, Issue, Plugin, PluginContext

MOST_UNPRICED: Final = 100


class KeysPlugin(Plugin[KeysConfig]):
    """Stands before whoever limits or remembers: they know a caller by the identity that is found here."""

    name = "keys"
    on_failure = "closed"

    def __init__(self, config: KeysConfig, context: PluginContext) -> None:
        super().__init__(config, context)
        self._keeper = Keeper(context.state_dir, context.events, context.spawn)
        self._gate = Gate(
            config,
            self._keeper,
            targets=context.targets,
            refusals=context.metrics.counter("keys_refused_total", "Requests refused by virtual keys.", ("reason",)),
            events=context.events,
            clock=context.clock,
            wall_clock=context.wall_clock,
        )
        self._routes = KeyRoutes(self._keeper, self._gate.calendar, context.events, context.wall_clock)
        self._unpriced: set[str] = set()
        self._unheld: set[str] = set()
        """Ids of keys with limits that nobody held when they were used last."""

    @hookimpl
    async def startup(self) -> None:
        """Read the keys; where they cannot be read, every request is refused until that is mended."""
        await self._keeper.load()
        self.context.spawn(self._keeper.save_regularly(lambda: self.config.save_every), name="saving of keys")

    @hookimpl
    async def shutdown(self) -> None:
        """Write down what was spent; requests that still run count as estimated."""
        await self._keeper.save()

    @hookimpl
    def reconfigure(self, config: KeysConfig) -> None:
        """Go on by new settings, with the same keys."""
        self._gate.config = config

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        """Let in who shows a key, within what the key may do."""
        exchange.notes[self.name] = self._gate.admit(exchange)

    @hookimpl
    def identify(self, text: str, is_credential: bool) -> Identity | None:
        """Find whose key it is, whatever may keep it out at the moment."""
        book = self._keeper.book
        key = book.find(digest_of(text), self.context.wall_clock()) if is_credential else book.called(text)
        return None if key is None else key.identity

    @hookimpl
    def post_response(self, exchange: Exchange) -> None:
        """Count what it cost, in place of what was held for it."""
        hold: Hold | None = exchange.notes.get(self.name) or self._without_hold(exchange)
        if hold is None:
            return
        attempt = exchange.attempt
        price = None if attempt is None else attempt.price
        windows = self._gate.calendar.at(self.context.wall_clock())
        hold.key.account.settle(hold.nanos, cost.cost(exchange, price), windows)
        self._keeper.is_changed = True
        if attempt is not None and not exchange.is_background:
            self._note_limits(exchange, hold.key)
        if price is None and attempt is not None and hold.key.budget.is_limited:
            self._note_unpriced(exchange, attempt)

    @hookimpl
    def admin_routes(self) -> Sequence[AdminRoute]:
        return self._routes.routes()

    @hookimpl
    def config_issues(self) -> Sequence[Issue]:
        """Tell what keeps clients out, and what a budget does not see."""
        return list(key_issues(self._keeper, self._unpriced, self._unheld, self.context.wall_clock()))

    def _without_hold(self, exchange: Exchange) -> Hold | None:
        """Find who pays for what is asked in the background: nothing was held for it, because nobody waits for it."""
        identity = exchange.identity
        key = None if identity is None or not exchange.is_background else self._keeper.book.get(identity.id)
        return None if key is None else Hold(key, 0)

    def _note_limits(self, exchange: Exchange, key: VirtualKey) -> None:
        if not key.identity.limits or exchange.are_limits_held:
            self._unheld.discard(key.id)
        else:
            self._unheld.add(key.id)

    def _note_unpriced(self, exchange: Exchange, attempt: Attempt) -> None:
        name = exchange.request.operation.name
        if name not in cost.FREE and name != cost.RAW and len(self._unpriced) < MOST_UNPRICED:
            self._unpriced.add(f"{attempt.provider}/{attempt.model}")
