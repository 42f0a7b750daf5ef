"""Lets requests pass, has them wait, or refuses them, by counts that several processes share."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Final, Literal

from plugins.rate_limit.admission import Demands, Refusal, wants
from plugins.rate_limit.demand import Guess, true_demand
from plugins.rate_limit.gate import GRACE_S, LONGEST_S, LOOK_AGAIN_S, NOTE, OF_OUTPUT, Desk, Gate, may_wait
from plugins.rate_limit.level import Level
from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.owed import Owed
from plugins.rate_limit.rule_sets import RuleSet
from plugins.rate_limit.rules import Rule
from plugins.rate_limit.shared import ANY_QUEUE, Answer, SharedCharge, SharedCounts, SharedHold
from plugins.rate_limit.told import State
from plugins.rate_limit.waiting import Sleep
from plugins.rate_limit.watch import Watch, Watched
from proxy.errors import Refused
from proxy.exchange import Exchange, Reply, Wait
from proxy.plugin import Spawn
from proxy.store import SharedStore, StoreUnavailable

OnFailure = Literal["open", "closed", "local"]

UNAVAILABLE: Final = "rate_limit_unavailable"

NOTHING_TAKEN: Final = Answer(0, 0, 0, 0, 0, 0)
"""For what is counted without having been reserved: more that is spent is counted at the present time."""


@dataclass(slots=True)
class SharedOpen:
    """What is to be settled on the server when a request has ended."""

    request_id: str
    holds: list[SharedHold]
    guess: Guess


class SharedGate:
    """Admits requests by counts on a server; while that gives no answer, as `onStoreFailure` says.

    Args:
        store: gives the server that is configured now.
        local: counts in this process meanwhile.
        spawn, sleep: for what goes on after a request has ended.

    Attributes:
        on_failure: may be changed at any time.
    """

    def __init__(
        self,
        desk: Desk,
        local: Gate,
        store: Callable[[], SharedStore | None],
        on_failure: OnFailure,
        counts: SharedCounts,
        spawn: Spawn,
        sleep: Sleep,
    ) -> None:
        self._desk = desk
        self._local = local
        self._store = store
        self.on_failure = on_failure
        self._counts = counts
        self._owed = Owed(counts, self._there, desk.time.now_us, spawn, sleep)
        self._prefix, self._numbers = token_hex(8), count(1)
        self._in_work: dict[str, list[SharedHold]] = {}

    def admit(self, exchange: Exchange) -> Wait:
        """Ask the server, outside the hook."""
        return Wait(self._admit(exchange), 2 * LONGEST_S + GRACE_S)  # there, and again here when it gives no answer

    async def _admit(self, exchange: Exchange) -> Reply | None:
        began_us, request_id = self._desk.time.now_us(), f"{self._prefix}{next(self._numbers):x}"
        demands = self._desk.demands(exchange)
        while True:
            rules = self._desk.rules_of(exchange)
            charges = self._charges(rules, exchange, demands)
            if not charges:
                return None
            try:
                is_taken, answers = await self._counts.take(self._there(), charges, request_id)
            except StoreUnavailable:
                self._owed.add(request_id, charges)  # it may have been late, and taken
                return await self._without(exchange)
            except asyncio.CancelledError:
                self._owed.add(request_id, charges)
                raise
            if is_taken:
                return await self._pass(exchange, rules, charges, answers, demands, request_id)
            wait_s = self._may_wait(exchange, rules, charges, answers, began_us)
            await self._desk.waiting.pause(wait_s)

    async def levels(self, exchange: Exchange, rules: RuleSet) -> list[Level]:
        """Tell what a request would find, and take nothing; what is counted here, while there is no answer."""
        charges = self._charges(rules, exchange, self._desk.demands(exchange))
        try:
            answers = await self._counts.peek(self._there(), charges) if charges else []
        except StoreUnavailable:
            return self._local.levels(exchange, rules)
        return [
            Level(charge.rule, charge.amount, answer.wait_us, answer.left, answer.reset_us)
            for charge, answer in zip(charges, answers, strict=True)
        ]

    async def end(self, exchange: Exchange, note: SharedOpen) -> None:
        """Settle what was reserved; while there is no answer it stays reserved, but for places."""
        self._in_work.pop(note.request_id, None)
        demand = true_demand(exchange, note.guess, self._desk.estimator)
        deltas = [
            (hold, -hold.charge.amount if hold.charge.rule.counts == "concurrent" else delta)
            for hold in note.holds
            for delta in [demand.amount(hold.charge.rule.counts) - hold.charge.amount]
        ]
        try:
            await self._counts.settle(self._there(), deltas, note.request_id)
        except StoreUnavailable:
            self._owed.add(note.request_id, [hold.charge for hold in note.holds])

    async def charge(self, exchange: Exchange) -> None:
        """Count the tokens and the cost of a request that was not asked to pass: one made in the background."""
        desk = self._desk
        demands, rules = desk.demands(exchange), desk.rules_of(exchange)
        demand = true_demand(exchange, demands.guess, desk.estimator)
        deltas = [
            (SharedHold(charge._replace(amount=0), NOTHING_TAKEN), amount)
            for charge in self._charges(rules, exchange, demands)
            if charge.rule.counts not in ("requests", "concurrent")
            if (amount := demand.amount(charge.rule.counts))
        ]
        if not deltas:
            return
        try:
            await self._counts.settle(self._there(), deltas, f"{self._prefix}{next(self._numbers):x}")
        except StoreUnavailable:
            if self.on_failure == "local":
                self._local.charge(exchange, rules)

    def watch(self, exchange: Exchange, note: SharedOpen) -> Watch | None:
        """Watch a stream of which tokens or cost are limited, by what was left when it was admitted."""
        watched = [
            Watched(charge.rule, charge.amount, partial(_left, answer))
            for charge, answer in note.holds
            if charge.rule.is_enforced and charge.rule.counts in OF_OUTPUT
        ]
        return self._desk.watch(exchange, watched, note.guess) if watched else None

    async def renew(self) -> None:
        """Hold the places of all requests in work for longer."""
        for request_id, holds in list(self._in_work.items()):
            if request_id not in self._in_work:
                continue  # it has ended while others were seen to
            try:
                await self._counts.renew(self._there(), holds, request_id)
            except StoreUnavailable:
                return

    async def forget(self, rules: Sequence[Rule], name: str | None, caller_id: str | None) -> int:
        """Forget what was spent; see `forgetting.forget`. Raises StoreUnavailable."""
        chosen = [each for each in rules if name in (None, each.name) and each.counts != "concurrent"]
        return await self._counts.forget(self._there(), chosen, caller_id)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _there(self) -> SharedStore:
        store = self._store()
        if store is None:
            raise StoreUnavailable("section store names no server, and rateLimit.store is shared")
        return store

    def _charges(self, rules: RuleSet, exchange: Exchange, demands: Demands) -> list[SharedCharge]:
        is_full = self._desk.waiting.is_full
        charges = []
        for rule in rules.rules:
            if wants(rule, exchange, demands):
                amount = 1 if rule.is_plain else demands.demand.amount(rule.counts)
                queue_us = (0 if is_full else rule.queue_us or ANY_QUEUE) if rule.is_queue else ANY_QUEUE
                charges.append(SharedCharge(rule, rule.key(exchange), amount, queue_us))
        return charges

    async def _pass(
        self,
        exchange: Exchange,
        rules: RuleSet,
        charges: Sequence[SharedCharge],
        answers: Sequence[Answer],
        demands: Demands,
        request_id: str,
    ) -> Reply | None:
        """Note what was taken, tell the client, and have it queue where that is what the rule does."""
        holds, queue_us = [], 0
        for charge, answer in zip(charges, answers, strict=True):
            if answer.wait_us:
                label = charge.rule.label(exchange)
                self._desk.refusals.would_refuse(charge.rule, label, self._desk.time.now_us())
                continue
            charge.rule.admitted.value += 1
            if charge.rule.is_queue:
                queue_us = max(queue_us, answer.queue_us)
            if not charge.rule.is_plain:
                holds.append(SharedHold(charge, answer))
        if holds:
            exchange.notes[NOTE] = SharedOpen(request_id, holds, demands.guess)
            if at_work := [hold for hold in holds if hold.charge.rule.counts == "concurrent"]:
                self._in_work[request_id] = at_work
        self._tell(exchange, rules, charges, answers)
        if queue_us:
            await self._desk.waiting.pause(queue_us / SECOND_US)
        return None

    def _may_wait(
        self,
        exchange: Exchange,
        rules: RuleSet,
        charges: Sequence[SharedCharge],
        answers: Sequence[Answer],
        began_us: int,
    ) -> float:
        """Give the seconds to wait before another try. Raises Refused: it may not wait."""
        charge, answer = max(
            (pair for pair in zip(charges, answers, strict=True) if pair[0].rule.is_enforced),
            key=lambda pair: pair[1].wait_us,
        )
        rule, now_us = charge.rule, self._desk.time.now_us()
        refusal = Refusal(rule, charge.partition, charge.amount, answer.wait_us, rule.label(exchange))
        is_late = now_us + answer.wait_us > began_us + rule.queue_us
        if is_late or rule.is_queue or self._desk.waiting.is_full or not may_wait(refusal):
            self._tell(exchange, rules, charges, answers)
            raise self._desk.refusals.refuse(exchange, refusal, now_us)
        wait_s = answer.wait_us / SECOND_US
        return min(wait_s, LOOK_AGAIN_S) if rule.counts == "concurrent" else wait_s

    def _tell(
        self, exchange: Exchange, rules: RuleSet, charges: Sequence[SharedCharge], answers: Sequence[Answer]
    ) -> None:
        states = [
            State(charge.rule, answer.left, -(-answer.reset_us // SECOND_US))
            for charge, answer in zip(charges, answers, strict=True)
            if charge.rule.is_enforced
        ]
        self._desk.tell(exchange, rules, states)

    async def _without(self, exchange: Exchange) -> Reply | None:
        """Do what is to be done while the server gives no answer."""
        if self.on_failure == "closed":
            message = "what callers may ask for cannot be counted now: the shared store gives no answer"
            raise Refused(message, code=UNAVAILABLE, status=503, retry_after_s=1)
        if self.on_failure == "open":
            return None
        wait = self._local.admit(exchange, self._desk.rules_of(exchange), self._desk.time.now_us())
        return None if wait is None else await wait.awaitable


def _left(answer: Answer) -> int:
    return answer.left
