"""The balancer's order: priorities kept, shares by weight."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancer.plugin import BalancerConfig, BalancerPlugin
from proxy.exchange import Candidate
from tests.plugins.rig import Rig

CANDIDATES = st.lists(
    st.builds(Candidate, st.text(min_size=1), st.none(), st.integers(-2, 2), st.floats(0.001, 1000)),
    min_size=2,
    max_size=8,
    unique_by=lambda candidate: candidate.provider,
)


def make(seed: int = 1) -> BalancerPlugin:
    return BalancerPlugin(BalancerConfig(), Rig().context, Random(seed))


@given(CANDIDATES, st.integers())
def test_order_is_a_permutation_by_priority(candidates: list[Candidate], seed: int) -> None:
    chosen = make(seed).select_provider(tuple(candidates))

    assert sorted(chosen, key=id) == sorted(candidates, key=id)
    assert [each.priority for each in chosen] == sorted(each.priority for each in candidates)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (5.0, 3.0, 2.0), (0.1, 0.9)])
def test_first_place_is_shared_by_weight_within_two_percent(weights: tuple[float, ...]) -> None:
    candidates = [Candidate(str(index), None, 0, weight) for index, weight in enumerate(weights)]
    balancer, rounds = make(), 20_000

    firsts = Counter(balancer.select_provider(candidates)[0].provider for _ in range(rounds))

    for candidate in candidates:
        assert firsts[candidate.provider] / rounds == pytest.approx(candidate.weight / sum(weights), abs=0.02)


def test_later_places_are_shared_by_weight_among_who_is_left() -> None:
    candidates = [Candidate("a", None, 0, 6.0), Candidate("b", None, 0, 3.0), Candidate("c", None, 0, 1.0)]
    balancer = make()

    orders = [balancer.select_provider(candidates) for _ in range(20_000)]
    after_a = Counter(order[1].provider for order in orders if order[0].provider == "a")

    assert after_a["b"] / after_a.total() == pytest.approx(0.75, abs=0.02)


def test_same_seed_gives_the_same_order() -> None:
    candidates = [Candidate(str(index), None) for index in range(6)]

    assert make(7).select_provider(candidates) == make(7).select_provider(candidates)
