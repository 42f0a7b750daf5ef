"""Lets requests pass, has them wait, or refuses them, by meters in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from plugins.rate_limit.admission import (
    Charge,
    Demands,
    Hold,
    Refusal,
    charges_of,
    is_hopeless,
    longest_queue,
    refusal_of,
    settle,
    states_of,
    take,
)
from plugins.rate_limit.demand import Guess, form_of, true_demand
from plugins.rate_limit.estimate import Estimator
from plugins.rate_limit.level import Level
from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.partition import Partitions
from plugins.rate_limit.refusals import Refusals
from plugins.rate_limit.rule_sets import RuleSet
from plugins.rate_limit.rules import Rule
from plugins.rate_limit.told import State, limit_lines
from plugins.rate_limit.waiting import Waiting
from plugins.rate_limit.wall_time import WallTime
from plugins.rate_limit.watch import Watch, Watched
from proxy.callers import Counted
from proxy.errors import Refused
from proxy.exchange import Exchange, Reply, Wait

NOTE: Final = "rate_limit"

GRACE_S: Final = 60.0
"""Beyond its own deadline a wait is ended by the core, and the request goes on: that must not come first."""

OF_OUTPUT: Final[frozenset[Counted]] = frozenset({"outputTokens", "totalTokens", "costUsd"})
"""What grows while an answer comes."""

LONGEST_S: Final = 3600.0
"""For which a request may be kept by a leaky bucket without a `queue` of its own."""

LOOK_AGAIN_S: Final = 0.05
"""Nobody knows when a request in work ends."""


@dataclass(slots=True)
class Open:
    """What is to be settled when a request has ended."""

    holds: list[Hold]
    guess: Guess


@dataclass(slots=True)
class Desk:
    """What gates have in common, wherever they count.

    Args:
        partitions: those of the settings in force; replaced when these change.
        rules_of: gives the rules in force for a request.
    """

    time: WallTime
    partitions: Partitions
    estimator: Estimator
    refusals: Refusals
    waiting: Waiting
    rules_of: Callable[[Exchange], RuleSet]

    def demands(self, exchange: Exchange) -> Demands:
        """Guess what a request takes, once somebody asks for it."""
        return Demands(exchange, self.partitions, self.estimator)

    def tell(self, exchange: Exchange, rules: RuleSet, states: list[State]) -> None:
        """Tell the client what is left."""
        if states:
            exchange.tells_limits = True
            format_name, wall_s = exchange.request.operation.format, self.time.now_us() / SECOND_US
            exchange.told += limit_lines(rules.policy, states, format_name, wall_s)

    def watch(self, exchange: Exchange, watched: list[Watched], guessed: Guess) -> Watch:
        """Watch a stream."""
        tokens_of = partial(self.estimator.least_output, guessed.model, form_of(exchange))
        return Watch(watched, guessed.demand, tokens_of, partial(self._end_stream, exchange))

    def _end_stream(self, exchange: Exchange, rule: Rule, amount: int) -> Refused:
        return self.refusals.end_stream(exchange, rule, amount, self.time.now_us())


class Gate:
    """Admits requests by meters in memory, all of it between two turns of the event loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._time = desk.time
        self._refusals = desk.refusals
        self._waiting = desk.waiting

    def admit(self, exchange: Exchange, rules: RuleSet, now_us: int) -> Wait | None:
        """Let a request pass, or have it wait.

        Raises:
            Refused: a rule has no room, and it cannot wait for that.
        """
        demands = self._desk.demands(exchange)
        charges = charges_of(rules, exchange, demands, now_us)
        refusal = refusal_of(charges, now_us) or self._behind_others(charges)
        if refusal is not None:
            if self._waiting.is_full or not may_wait(refusal):
                raise self._refuse(exchange, rules, charges, refusal, now_us)
            waits_s = refusal.rule.queue_us / SECOND_US + longest_s(rules)
            return Wait(self._stand(exchange, demands, refusal, now_us), waits_s + GRACE_S)
        delay_us = self._queue(exchange, rules, charges, now_us)
        self._take(exchange, rules, charges, demands, now_us)
        return Wait(self._go_later(delay_us), delay_us / SECOND_US + GRACE_S) if delay_us else None

    def levels(self, exchange: Exchange, rules: RuleSet) -> list[Level]:
        """Tell what a request would find, and take nothing."""
        now_us = self._time.now_us()
        demands = self._desk.demands(exchange)
        return [
            Level(rule, amount, meter.wait_us(amount, now_us), meter.remaining(now_us), meter.reset_us(now_us))
            for rule, _, meter, amount in charges_of(rules, exchange, demands, now_us, is_dry_run=True)
        ]

    def end(self, exchange: Exchange, note: Open) -> None:
        """Settle what was reserved for a request."""
        settle(note.holds, true_demand(exchange, note.guess, self._desk.estimator), self._time.now_us())

    def charge(self, exchange: Exchange, rules: RuleSet) -> None:
        """Count the tokens and the cost of a request that was not asked to pass: one made in the background."""
        demands, now_us = self._desk.demands(exchange), self._time.now_us()
        demand = true_demand(exchange, demands.guess, self._desk.estimator)
        for rule, _, meter, _ in charges_of(rules, exchange, demands, now_us):
            if rule.counts not in ("requests", "concurrent") and (amount := demand.amount(rule.counts)):
                meter.add(amount, now_us)

    def watch(self, exchange: Exchange, note: Open) -> Watch | None:
        """Watch a stream of which tokens or cost are limited."""
        watched = [
            Watched(charge.rule, charge.amount, partial(self._left, charge))
            for charge, _ in note.holds
            if charge.rule.is_enforced and charge.rule.counts in OF_OUTPUT
        ]
        return self._desk.watch(exchange, watched, note.guess) if watched else None

    def _left(self, charge: Charge) -> int:
        return charge.rule.meters.get(charge.key, charge.meter).remaining(self._time.now_us())

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _behind_others(self, charges: list[Charge]) -> Refusal | None:
        """Tell whom a request has to stand behind, although there is room."""
        if not self._waiting.count:
            return None
        for rule, key, meter, amount in charges:
            if self._waiting.has_line((rule.name, key)):
                return Refusal(rule, key, amount, 1, meter.label)
        return None

    async def _stand(self, exchange: Exchange, demands: Demands, refusal: Refusal, began_us: int) -> Reply | None:
        rule, delays_us = refusal.rule, [0]
        attempt = partial(self._attempt, exchange, demands, delays_us)
        if await self._waiting.stand(
            (rule.name, refusal.key), attempt, partial(self._left_s, began_us + rule.queue_us)
        ):
            return await self._go_later(delays_us[-1]) if delays_us[-1] else None
        now_us, rules = self._time.now_us(), self._desk.rules_of(exchange)
        charges = charges_of(rules, exchange, demands, now_us)
        raise self._refuse(exchange, rules, charges, refusal_of(charges, now_us) or refusal, now_us)

    def _attempt(self, exchange: Exchange, demands: Demands, delays_us: list[int]) -> float:
        """Take, or tell after how many seconds to try again; by the rules that are in force then.

        Args:
            delays_us: how long it has to queue in a leaky bucket, once it has taken, is added.
        """
        now_us, rules = self._time.now_us(), self._desk.rules_of(exchange)
        charges = charges_of(rules, exchange, demands, now_us)
        refusal = refusal_of(charges, now_us)
        if refusal is None:
            delays_us.append(self._queue(exchange, rules, charges, now_us, places=1))
            self._take(exchange, rules, charges, demands, now_us)
            return 0.0
        if not may_wait(refusal):
            raise self._refuse(exchange, rules, charges, refusal, now_us)
        wait_s = refusal.wait_us / SECOND_US
        return min(wait_s, LOOK_AGAIN_S) if refusal.rule.counts == "concurrent" else wait_s

    def _left_s(self, until_us: int) -> float:
        return (until_us - self._time.now_us()) / SECOND_US

    def _queue(self, exchange: Exchange, rules: RuleSet, charges: list[Charge], now_us: int, *, places: int = 0) -> int:
        """Tell how many microseconds a request has to queue in a leaky bucket.

        Args:
            places: of those who wait, so many are its own already.
        Raises:
            Refused: it cannot queue.
        """
        longest = longest_queue(charges, now_us)
        if longest is None:
            return 0
        (rule, key, meter, amount), delay_us = longest
        too_long_us = delay_us - rule.queue_us if rule.queue_us else 0
        if self._waiting.count - places >= self._waiting.most or too_long_us > 0:
            wait_us = too_long_us if too_long_us > 0 else delay_us
            refusal = Refusal(rule, key, amount, wait_us, meter.label)
            raise self._refuse(exchange, rules, charges, refusal, now_us)
        return delay_us

    async def _go_later(self, delay_us: int) -> Reply | None:
        await self._waiting.pause(delay_us / SECOND_US)
        return None

    # -- the answer --------------------------------------------------------------------------------------------------

    def _take(self, exchange: Exchange, rules: RuleSet, charges: list[Charge], demands: Demands, now_us: int) -> None:
        holds = take(charges, now_us, partial(self._would_refuse, now_us))
        if holds:
            exchange.notes[NOTE] = Open(holds, demands.guess)
        self._tell(exchange, rules, charges, now_us)

    def _would_refuse(self, now_us: int, charge: Charge) -> None:
        self._refusals.would_refuse(charge.rule, charge.meter.label, now_us)

    def _refuse(
        self, exchange: Exchange, rules: RuleSet, charges: list[Charge], refusal: Refusal, now_us: int
    ) -> Refused:
        self._tell(exchange, rules, charges, now_us)
        return self._refusals.refuse(exchange, refusal, now_us)

    def _tell(self, exchange: Exchange, rules: RuleSet, charges: list[Charge], now_us: int) -> None:
        self._desk.tell(exchange, rules, states_of(charges, now_us))


def may_wait(refusal: Refusal) -> bool:
    """Tell whether the rule that has no room lets a request wait for so long."""
    return not is_hopeless(refusal) and refusal.wait_us <= refusal.rule.queue_us


def longest_s(rules: RuleSet) -> float:
    """Tell how long a request may be kept by leaky buckets, in seconds."""
    return max((rule.queue_us / SECOND_US or LONGEST_S for rule in rules.rules if rule.is_queue), default=0.0)
