"""Admits a request when all its rules have room, and takes from all of them at once, or from none."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import NamedTuple

from plugins.rate_limit.demand import Demand, Guess, guess
from plugins.rate_limit.estimate import Estimator
from plugins.rate_limit.limit import NEVER
from plugins.rate_limit.meter import Meter, Reserved
from plugins.rate_limit.partition import Partitions
from plugins.rate_limit.rule_sets import RuleSet
from plugins.rate_limit.rules import Rule
from plugins.rate_limit.told import State
from proxy.exchange import Exchange


class Charge(NamedTuple):
    """What a request takes of one rule."""

    rule: Rule
    key: Hashable
    meter: Meter
    amount: int


class Hold(NamedTuple):
    """What was reserved, until the true amount is known."""

    charge: Charge
    reserved: Reserved


class Refusal(NamedTuple):
    """The rule that keeps a request the longest.

    Args:
        wait_us: until all rules have room; `NEVER` if they never will.
    """

    rule: Rule
    key: Hashable
    amount: int
    wait_us: int
    label: str


class Demands:
    """Guesses what a request takes, once it is asked for it."""

    __slots__ = ("_estimator", "_exchange", "_guess", "_partitions")

    def __init__(self, exchange: Exchange, partitions: Partitions, estimator: Estimator) -> None:
        self._exchange = exchange
        self._partitions = partitions
        self._estimator = estimator
        self._guess: Guess | None = None

    @property
    def guess(self) -> Guess:
        """The guess."""
        if self._guess is None:
            target = self._partitions.target(self._exchange)
            self._guess = guess(self._exchange.request, target, self._estimator)
        return self._guess

    @property
    def demand(self) -> Demand:
        """What is guessed to be taken."""
        return self.guess.demand


def charges_of(
    rules: RuleSet, exchange: Exchange, demands: Demands, now_us: int, *, is_dry_run: bool = False
) -> list[Charge]:
    """List what a request takes of which meters; no meter is made on a dry run."""
    charges = []
    for rule in rules.rules:
        if not wants(rule, exchange, demands):
            continue
        key = rule.key(exchange)
        meter = rule.meters.get(key)
        if is_dry_run:
            meter = rule.table.peek(key, rule.limit, now_us)
        elif meter is None or meter.limit is not rule.limit:
            meter = rule.table.meter(key, rule.limit, partial(rule.label, exchange), now_us)
        charges.append(Charge(rule, key, meter, 1 if rule.is_plain else demands.demand.amount(rule.counts)))
    return charges


def wants(rule: Rule, exchange: Exchange, demands: Demands) -> bool:
    """Tell whether a rule counts a request: it is for all models, or for this one."""
    return not rule.has_models or rule.is_for(exchange.request.model or "", demands.guess.model)


def refusal_of(charges: list[Charge], now_us: int) -> Refusal | None:
    """Find the rule that has no room; None when all have. Rules in shadow mode have no say."""
    worst: Refusal | None = None
    for rule, key, meter, amount in charges:
        wait_us = meter.wait_us(amount, now_us)
        if wait_us and rule.is_enforced and (worst is None or wait_us > worst.wait_us):
            worst = Refusal(rule, key, amount, wait_us, meter.label)
    return worst


def take(charges: list[Charge], now_us: int, would_refuse: Callable[[Charge], None]) -> list[Hold]:
    """Take what all rules have room for.

    Args:
        would_refuse: told of each rule in shadow mode that has none; nothing is taken from it.
    Returns:
        What is to be settled at the end.
    """
    holds = []
    for charge in charges:
        rule, _, meter, amount = charge
        if not rule.is_enforced and meter.wait_us(amount, now_us):
            would_refuse(charge)
            continue
        rule.admitted.value += 1
        if rule.is_plain:
            meter.add(amount, now_us)
        else:
            holds.append(Hold(charge, Reserved(amount, now_us, meter.reserve(amount, now_us))))
    return holds


def longest_queue(charges: list[Charge], now_us: int) -> tuple[Charge, int] | None:
    """Find the leaky bucket in which a request would queue the longest, and for how long; asked before `take`."""
    queues = [(charge, charge.meter.queue_us(now_us)) for charge in charges if charge.rule.is_queue]
    longest = max(queues, key=lambda queue: queue[1], default=None)
    return longest if longest is not None and longest[1] else None


def states_of(charges: list[Charge], now_us: int) -> list[State]:
    """Tell what is left of the rules that clients are told of."""
    return [
        State(rule, meter.remaining(now_us), -(-meter.reset_us(now_us) // 1_000_000))
        for rule, _, meter, _ in charges
        if rule.is_enforced
    ]


def settle(holds: list[Hold], demand: Demand, now_us: int) -> None:
    """Correct what was reserved by what was taken; what was in work has ended.

    What was reserved before a change of the algorithm is not given back: the new meter took it over at a later time.
    Nor is what was reserved of a meter that was dropped meanwhile, because it had filled up again.
    """
    for (rule, key, meter, amount), reserved in holds:
        if rule.counts == "concurrent":
            meter.settle(-amount, reserved, now_us)
            continue
        delta = demand.amount(rule.counts) - amount
        current = rule.meters.get(key, rule.table.shared)
        if current is meter:
            meter.settle(delta, reserved, now_us)
        elif delta > 0:
            current = rule.table.meter(key, rule.limit, partial(str, meter.label), now_us)
            current.settle(delta, reserved, now_us)


def is_hopeless(refusal: Refusal) -> bool:
    """Tell whether no waiting would help."""
    return refusal.wait_us >= NEVER
