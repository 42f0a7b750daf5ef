"""The strategies without a memory: each puts candidates that are equals, of one priority, in the order to ask."""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final

from proxy.exchange import Candidate, Request

BYTES_PER_TOKEN: Final = 4
OUTPUT_TOKENS: Final = 500
"""Output that is reckoned with where a request sets no limit."""
FORGOTTEN_S: Final = 0.001
"""Nobody answers in less: an average below has faded away, and counts for as little as none."""
MOST_TIMES_FASTER: Final = 5.0
"""Nobody counts for more than this many times as fast as the middle one. Averages fade while nothing is asked: the slow
one of two looked the faster after a quiet minute and drew half of the requests until it had answered; now a fifth."""


def by_priority_and_weight(candidates: Sequence[Candidate], random: Random) -> list[Candidate]:
    """Draw by weight within each priority; the same as `by_weight` where there is one only, and cheaper than parting.

    Source: as `by_weight`.
    """
    draw = random.expovariate
    return sorted(candidates, key=lambda candidate: (candidate.priority, draw(candidate.weight)))


def by_weight(equals: Sequence[Candidate], random: Random) -> list[Candidate]:
    """Draw without replacement: the first place is each one's with the probability of its weight.

    Source:
        Efraimidis, Spirakis: Weighted random sampling with a reservoir (2006): the smallest of exponential
        variates of rate `weight` is each one's with the probability of its weight.
    """
    draw = random.expovariate
    return sorted(equals, key=lambda candidate: draw(candidate.weight))


def shuffled(equals: Sequence[Candidate], random: Random) -> list[Candidate]:
    """Draw without replacement, whatever the weights."""
    return random.sample(equals, len(equals))


def by_in_flight(equals: Sequence[Candidate], random: Random) -> list[Candidate]:
    """Fewest calls at work for its weight first; ties are drawn by weight."""
    draw = random.expovariate
    return sorted(equals, key=lambda candidate: (in_flight(candidate) / candidate.weight, draw(candidate.weight)))


def by_latency(equals: Sequence[Candidate], is_streaming: bool, now_s: float, random: Random) -> list[Candidate]:
    """Draw two by weight and put the better one first, then the others, the better before the worse.

    Better is who has the lower product of latency and calls at work, this one included. Who was never called counts
    as fast as the fastest: it is tried at once, and gives way when calls pile up before its first answer.

    Source:
        Mitzenmacher: The power of two choices in randomized load balancing (2001); peak-EWMA as in Finagle.
    """
    waits = expected_waits(equals, is_streaming, now_s)
    draw = random.expovariate
    drawn = sorted(range(len(equals)), key=[draw(candidate.weight) for candidate in equals].__getitem__)
    first = min(drawn[:2], key=waits.__getitem__)
    behind = sorted([index for index in drawn if index != first], key=waits.__getitem__)
    return [equals[first], *[equals[index] for index in behind]]


def expected_waits(equals: Sequence[Candidate], is_streaming: bool, now_s: float) -> list[float]:
    """Reckon latency times calls at work for each, in seconds; only the proportions mean something."""
    latencies = [0.0 if each.load is None else each.load.latency_s(is_streaming, now_s) or 0.0 for each in equals]
    known = sorted([latency_s for latency_s in latencies if latency_s > FORGOTTEN_S])
    lowest = known[len(known) // 2] / MOST_TIMES_FASTER if known else 1.0
    fastest = max(known[0], lowest) if known else lowest
    return [
        (max(latency_s, lowest) if latency_s > FORGOTTEN_S else fastest) * (in_flight(each) + 1)
        for each, latency_s in zip(equals, latencies, strict=True)
    ]


def by_cost(equals: Sequence[Candidate], request: Request, random: Random) -> list[Candidate]:
    """Cheapest first; who has no price comes last, ties are drawn by weight."""
    input_tokens = len(request.body) / BYTES_PER_TOKEN
    output_tokens = OUTPUT_TOKENS if request.max_output_tokens is None else request.max_output_tokens
    draw = random.expovariate

    def rank(candidate: Candidate) -> tuple[float, float]:
        price = candidate.price
        cost = inf if price is None else price.input_usd * input_tokens + price.output_usd * output_tokens
        return cost, draw(candidate.weight)

    return sorted(equals, key=rank)


def in_flight(candidate: Candidate) -> int:
    """Count the calls at work at a candidate's provider."""
    return 0 if candidate.load is None else candidate.load.in_flight
