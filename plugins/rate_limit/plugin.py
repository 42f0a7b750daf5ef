"""Limit how much callers may ask for, in requests, tokens, cost and at once: per caller, address, model and more."""

import asyncio
from collections.abc import Awaitable, Collection, Mapping, Sequence
from ipaddress import ip_network
from typing import Final

from plugins.rate_limit.admin import Admin
from plugins.rate_limit.estimate import Estimator
from plugins.rate_limit.forgetting import forget
from plugins.rate_limit.fullest import Fullest
from plugins.rate_limit.gate import NOTE, Desk, Gate, Open
from plugins.rate_limit.issues import rate_limit_issues
from plugins.rate_limit.level import Level
from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.partition import Partitions
from plugins.rate_limit.refusals import Refusals
from plugins.rate_limit.room import Room
from plugins.rate_limit.rule_sets import RuleSet, RuleSets, Tables
from plugins.rate_limit.settings import RateLimitConfig
from plugins.rate_limit.shared import LEASE_US, SharedCounts
from plugins.rate_limit.shared_gate import SharedGate, SharedOpen
from plugins.rate_limit.waiting import Sleep, Waiting
from plugins.rate_limit.wall_time import WallTime
from proxy import hookimpl
from proxy.callers import Identity
from proxy.exchange import Exchange, JsonObject, Wait
from proxy.plugin import AdminRoute, Issue, Plugin, PluginContext
from proxy.sink import StreamFilter

TEND_EVERY_S: Final = LEASE_US / SECOND_US / 3
"""Twice a renewal may fail before a place in work is lost."""


class RateLimitPlugin(Plugin[RateLimitConfig]):
    """Refuses with 429 who asks for more than a rule allows; tells everybody what is left."""

    name = "rate_limit"
    on_failure = "closed"
    ends_noted_only = True

    def __init__(self, config: RateLimitConfig, context: PluginContext, sleep: Sleep = asyncio.sleep) -> None:
        super().__init__(config, context)
        self._sleep = sleep
        self._time = WallTime(context.clock, context.wall_clock)
        self._room = Room(config.max_buckets)
        self._tables = Tables(self._room)
        self.refusals = Refusals(context.events)
        self._waiting = Waiting(config.max_waiting, sleep)
        self._decisions = context.metrics.counter(
            "rate_limit_decisions_total",
            "What rules decided: admitted, refused, would_refuse, ended.",
            ("rule", "decision"),
        )
        partitions = _partitions(config, context)
        self._desk = Desk(self._time, partitions, Estimator(), self.refusals, self._waiting, self._rules_of)
        self._gate = Gate(self._desk)
        self._shared = SharedGate(
            self._desk, self._gate, context.store, config.on_store_failure, SharedCounts(), context.spawn, sleep
        )
        self._use(config)
        context.metrics.gauge("rate_limit_buckets", "Counts kept in memory.", read=lambda: self._room.used)
        context.metrics.gauge("rate_limit_waiting", "Requests that wait for a limit.", read=lambda: self._waiting.count)

    def _use(self, config: RateLimitConfig) -> None:
        """Go on by these settings; whatever was spent under a rule of the same name still counts."""
        self._desk.partitions = _partitions(config, self.context)
        self.sets = RuleSets(config, self._tables, self._desk.partitions, self._decisions)
        self._shared.on_failure = config.on_store_failure
        self._is_shared = config.store == "shared"
        self._room.most = config.max_buckets
        self._waiting.most = config.max_waiting

    @hookimpl
    def startup(self) -> None:
        """Begin to drop what nobody uses any more, and to hold what is in work."""
        self.context.spawn(self._tend(), name="rate limit: tend the counts")

    @hookimpl
    def reconfigure(self, config: RateLimitConfig) -> None:
        """Go on by new settings."""
        self._use(config)

    @hookimpl
    def pre_request(self, exchange: Exchange) -> Wait | None:
        """Let a request pass, have it wait, or refuse it."""
        if exchange.identity is not None:
            exchange.are_limits_held = True
        if self._is_shared:
            return self._shared.admit(exchange)
        now_us = self._time.now_us()
        rules = self.sets.of(exchange)
        plain = rules.plain
        if plain is not None and not self._waiting.count and plain.admit(exchange, now_us):
            return None
        return self._gate.admit(exchange, rules, now_us)

    def skips(self) -> Collection[str]:
        """Streams are looked at only where they may be ended."""
        return () if self.config.end_streams else ("stream_filter",)

    @hookimpl
    def stream_filter(self, exchange: Exchange) -> StreamFilter | None:
        """Watch a stream that may pass a limit."""
        note: Open | SharedOpen | None = exchange.notes.get(NOTE)
        if note is None:
            return None
        return self._shared.watch(exchange, note) if isinstance(note, SharedOpen) else self._gate.watch(exchange, note)

    @hookimpl
    def post_response(self, exchange: Exchange) -> Awaitable[None] | None:
        """Settle what was reserved by what was spent."""
        note: Open | SharedOpen | None = exchange.notes.pop(NOTE, None)
        if note is None:
            if not exchange.is_background:
                return None
            if self._is_shared:
                return self._shared.charge(exchange)
            self._gate.charge(exchange, self.sets.of(exchange))
            return None
        if isinstance(note, SharedOpen):
            return self._shared.end(exchange, note)
        self._gate.end(exchange, note)
        return None

    @hookimpl
    def admin_routes(self) -> Sequence[AdminRoute]:
        """Show, explain and forget."""
        return Admin(self).routes()

    @hookimpl
    async def reset(self) -> Mapping[str, int]:
        """Forget all that was spent."""
        return {"buckets": await self.forget(None, None)}

    @hookimpl
    def config_issues(self) -> Sequence[Issue]:
        """Tell which settings do nothing, or more than they seem to."""
        return list(rate_limit_issues(self.config, has_store=self.context.store() is not None))

    # -- for operators -----------------------------------------------------------------------------------------------

    def standing(self) -> JsonObject:
        """Show where is counted, and how full that is."""
        store = self.context.store() if self._is_shared else None
        return {
            "store": self.config.store,
            "storeAnswers": None if not self._is_shared else store is not None and not store.is_open,
            "buckets": self._room.used,
            "maxBuckets": self._room.most,
            "waiting": self._waiting.count,
            "maxWaiting": self._waiting.most,
        }

    def buckets(self) -> Fullest:
        """Give what is looked through for the fullest buckets."""
        return Fullest(list(self._tables.rules.values()), self._time.now_us)

    def recognise(self, text: str) -> Identity | None:
        """Tell whose virtual key goes by this name or id, or is this in clear."""
        return self.context.identify(text.removeprefix("key:"), False) or self.context.identify(text, True)

    def received_s(self) -> float:
        """Give the time at which a request would come."""
        return self.context.clock()

    async def levels(self, exchange: Exchange, rules: RuleSet) -> list[Level]:
        """Tell what a request would find, and take nothing."""
        return await self._shared.levels(exchange, rules) if self._is_shared else self._gate.levels(exchange, rules)

    async def forget(self, rule: str | None, caller_id: str | None) -> int:
        """Forget what was spent; returns of how many buckets."""
        if rule is None and caller_id is None:
            self.refusals.forget()
        rules = self.buckets().rules
        count = await forget(rules, rule, caller_id)
        return count + (await self._shared.forget(rules, rule, caller_id) if self._is_shared else 0)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _rules_of(self, exchange: Exchange) -> RuleSet:
        return self.sets.of(exchange)

    async def _tend(self) -> None:
        while True:
            await self._sleep(TEND_EVERY_S)
            self._time.catch_up()
            self._tables.keep(self.sets.identities)  # not at once: the change that drops a rule may still be undone
            for _ in self._room.sweep(self._time.now_us()):
                await asyncio.sleep(0)
            await self._shared.renew()


def _partitions(config: RateLimitConfig, context: PluginContext) -> Partitions:
    return Partitions([ip_network(network) for network in config.trusted_proxies], context.targets)
