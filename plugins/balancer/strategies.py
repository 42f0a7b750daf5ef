"""The strategies by name, ready for use: with their chance, their clock, and the turns of the round robin."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from plugins.balancer.orders import by_cost, by_in_flight, by_latency, by_weight, shuffled
from plugins.balancer.round_robin import RoundRobin
from plugins.balancer.settings import Strategy
from proxy.exchange import Candidate, Exchange

Order = Callable[[Exchange, Sequence[Candidate]], list[Candidate]]
"""Puts candidates that are equals in the order to ask."""

Strategies = Mapping[Strategy, Order]


def make_strategies(random: Random, clock: Callable[[], float]) -> Strategies:
    """Make all of them; to be kept while settings change, so that the round robin goes on where it was.

    Args:
        clock: monotonic seconds.
    """
    turns = RoundRobin(random)
    return {
        "priority": lambda exchange, equals: by_weight(equals, random),
        "round-robin": lambda exchange, equals: turns.order(equals, is_dry_run=exchange.is_dry_run),
        "least-in-flight": lambda exchange, equals: by_in_flight(equals, random),
        "latency": lambda exchange, equals: by_latency(equals, exchange.request.is_streaming, clock(), random),
        "cost": lambda exchange, equals: by_cost(equals, exchange.request, random),
        "random": lambda exchange, equals: shuffled(equals, random),
    }
