"""The balancer's order: priorities kept, shares as each strategy promises, nobody starved."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.exchange import Candidate
from tests.plugins.balancer_rig import FakeLoad, Traffic, asked, candidate, candidates_of, make, names

STRATEGIES = ("priority", "round-robin", "least-in-flight", "latency", "cost", "random")
CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.text(min_size=1),
        model=st.none() | st.just("m"),
        priority=st.integers(-2, 2),
        weight=st.floats(0.001, 1000),
        price=st.none() | st.tuples(st.floats(0, 100), st.floats(0, 100)),
        load=st.none()
        | st.builds(FakeLoad, in_flight=st.integers(0, 100), latency_s=st.none() | st.floats(0, 100) | st.just(0.0)),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda each: each.provider,
)
WEIGHTS = st.lists(st.floats(0.05, 20), min_size=2, max_size=6)


@pytest.mark.parametrize("affinity", ["none", "header"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(CANDIDATES, st.integers(), st.integers(0, 100_000))
@settings(max_examples=50)
def test_order_is_a_permutation_by_priority(
    strategy: str, affinity: str, candidates: list[Candidate], seed: int, max_output_tokens: int
) -> None:
    balancer = make(seed, strategy=strategy, affinity=affinity)

    chosen = balancer.select_provider(
        asked(headers={"X-Session-Id": str(seed)}, max_output_tokens=max_output_tokens), tuple(candidates)
    )

    assert sorted(chosen, key=id) == sorted(candidates, key=id)
    assert [each.priority for each in chosen] == sorted(each.priority for each in candidates)


@pytest.mark.parametrize("strategy", ["priority", "round-robin", "least-in-flight"])
@given(WEIGHTS, st.integers())
@settings(max_examples=20)
def test_first_place_is_shared_by_weight_within_two_percent(strategy: str, weights: list[float], seed: int) -> None:
    candidates, rounds = candidates_of(*weights), 20_000  # 2 % are more than five standard deviations
    balancer, exchange = make(seed, strategy=strategy), asked()

    firsts = Counter(balancer.select_provider(exchange, candidates)[0].provider for _ in range(rounds))

    errors = [abs(firsts[each.provider] / rounds - each.weight / sum(weights)) for each in candidates]
    print(f"{strategy}: {len(weights)} candidates, furthest from its weight {max(errors):.2%}")
    assert max(errors) < 0.02


@pytest.mark.parametrize("strategy", ["priority", "round-robin", "random"])
@given(st.lists(st.floats(0.5, 20), min_size=2, max_size=6), st.integers())
@settings(max_examples=20)
def test_nobody_waits_for_a_first_place_longer_than_its_share_allows(
    strategy: str, weights: list[float], seed: int
) -> None:
    candidates, rounds = candidates_of(*weights), 3000
    balancer, exchange = make(seed, strategy=strategy), asked()

    firsts = [balancer.select_provider(exchange, candidates)[0].provider for _ in range(rounds)]

    for each in candidates:
        share = 1 / len(weights) if strategy == "random" else each.weight / sum(weights)
        turns = [-1, *(turn for turn, name in enumerate(firsts) if name == each.provider), rounds]
        longest = max(later - earlier for earlier, later in pairwise(turns))
        # Round robin owes nobody more turns than there are others; a draw misses with a chance of 1 in 10^12.
        bound = len(weights) / share + 1 if strategy == "round-robin" else math.log(1e-12) / math.log1p(-share)
        assert longest <= bound


@pytest.mark.parametrize("strategy", ["least-in-flight", "latency"])
@given(st.lists(st.floats(0.2, 3), min_size=2, max_size=5), st.integers(0, 1000))
@settings(max_examples=10)
def test_nobody_is_starved_by_random_traffic(strategy: str, services_s: list[float], seed: int) -> None:
    candidates = [candidate(str(index), load=FakeLoad(service)) for index, service in enumerate(services_s)]
    traffic = Traffic(candidates, per_s=20, seed=seed, strategy=strategy)

    windows = [Counter(traffic.run(60)) for _ in range(3)]

    assert all(window[each.provider] > 0 for window in windows for each in candidates)


def test_later_places_are_shared_by_weight_among_who_is_left() -> None:
    candidates = candidates_of(6.0, 3.0, 1.0)
    balancer, exchange = make(), asked()

    orders = [names(balancer.select_provider(exchange, candidates)) for _ in range(20_000)]
    after_a = Counter(order[1] for order in orders if order[0] == "a")

    assert after_a["b"] / after_a.total() == pytest.approx(0.75, abs=0.02)


def test_same_seed_gives_the_same_order() -> None:
    candidates = candidates_of(1, 1, 1, 1, 1, 1)

    assert make(7).select_provider(asked(), candidates) == make(7).select_provider(asked(), candidates)


def test_random_pays_no_heed_to_weights() -> None:
    candidates = candidates_of(98, 1, 1)
    balancer = make(strategy="random")

    firsts = Counter(balancer.select_provider(asked(), candidates)[0].provider for _ in range(20_000))

    assert [firsts[name] / 20_000 for name in "abc"] == pytest.approx([1 / 3] * 3, abs=0.02)


def test_least_in_flight_goes_by_calls_for_each_weight() -> None:
    loads = {"a": (4, 1.0), "b": (6, 2.0), "c": (0, 0.1), "d": (10, 5.0)}
    candidates = [
        candidate(name, weight=weight, load=FakeLoad(in_flight=calls)) for name, (calls, weight) in loads.items()
    ]

    ordered = make(strategy="least-in-flight").select_provider(asked(), candidates)

    assert names(ordered) == ["c", "d", "b", "a"]


PRICED = [
    candidate("input", price=(1, 20)),
    candidate("unknown"),
    candidate("output", price=(4, 10)),
    candidate("free", price=(0, 0)),
]


@pytest.mark.parametrize(
    ("body_bytes", "max_output_tokens", "expected"),
    [
        (40_000, 100, ["free", "input", "output", "unknown"]),
        (400, 4000, ["free", "output", "input", "unknown"]),
        (5_000, None, ["free", "output", "input", "unknown"]),  # 500 tokens of output are reckoned with
        (8_000, None, ["free", "input", "output", "unknown"]),
        (5_000, 0, ["free", "input", "output", "unknown"]),
    ],
)
def test_cost_is_reckoned_from_input_and_output(
    body_bytes: int, max_output_tokens: int | None, expected: list[str]
) -> None:
    exchange = asked(body=b"x" * body_bytes, max_output_tokens=max_output_tokens)

    assert names(make(strategy="cost").select_provider(exchange, PRICED)) == expected


def test_equal_costs_are_shared_by_weight() -> None:
    candidates = [candidate("a", weight=3, price=(1, 1)), candidate("b", price=(1, 1)), candidate("c", price=(1, 2))]
    balancer = make(strategy="cost")

    firsts = Counter(balancer.select_provider(asked(), candidates)[0].provider for _ in range(20_000))

    assert firsts["a"] / 20_000 == pytest.approx(0.75, abs=0.02)
    assert firsts["c"] == 0
