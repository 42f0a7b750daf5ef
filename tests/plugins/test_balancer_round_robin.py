"""Round robin: turns are spread evenly, kept apart by set, kept over changes, and forgotten beyond a bound."""

from collections import Counter
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from plugins.balancer.round_robin import MOST_SETS, RoundRobin
from plugins.balancer.settings import BalancerConfig
from proxy.exchange import Candidate
from tests.plugins.balancer_rig import asked, candidate, candidates_of, make, names


def firsts_of(turns: RoundRobin, candidates: list[Candidate], rounds: int) -> str:
    return "".join(turns.order(candidates)[0].provider for _ in range(rounds))


def test_equals_take_turns() -> None:
    turns = RoundRobin(Random(1))
    turns.order(candidates_of(1, 1, 1))

    assert firsts_of(turns, candidates_of(1, 1, 1), 6) == "abcabc"


def test_weights_are_spread_rather_than_served_in_a_row() -> None:
    turns = RoundRobin(Random(1))
    turns.order(candidates_of(5, 1, 1))

    assert firsts_of(turns, candidates_of(5, 1, 1), 7) == "aabacaa"


def test_everybody_stands_in_the_order_once() -> None:
    turns = RoundRobin(Random(1))

    orders = [names(turns.order(candidates_of(3, 1, 2, 1))) for _ in range(50)]

    assert all(sorted(order) == ["a", "b", "c", "d"] for order in orders)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=3, max_size=6), st.data(), st.integers(0, 2**32))
@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])  # shrinking took five minutes
def test_turns_of_those_left_out_go_to_the_others_by_weight(
    weights: list[float], data: st.DataObject, seed: int
) -> None:
    candidates, rounds = candidates_of(*weights), 10_000
    everybody = names(candidates)
    out = data.draw(st.sets(st.sampled_from(everybody), min_size=1, max_size=len(everybody) - 2))
    turns = RoundRobin(Random(seed))

    served = Counter(next(one for one in names(turns.order(candidates)) if one not in out) for _ in range(rounds))

    left = [one for one in candidates if one.provider not in out]
    for one in left:
        assert abs(served[one.provider] / rounds - one.weight / sum(each.weight for each in left)) < 0.02


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8), st.integers(), st.integers(1, 400))
def test_nobody_is_ever_a_turn_ahead_of_its_share(weights: list[float], seed: int, rounds: int) -> None:
    candidates, turns = candidates_of(*weights), RoundRobin(Random(seed))
    turns.order(candidates)  # the first one of a set is drawn

    served = Counter(firsts_of(turns, candidates, rounds))

    for each in candidates:
        assert served[each.provider] < rounds * each.weight / sum(weights) + 1


@given(st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), min_size=2, max_size=5), st.integers())
def test_change_of_weights_leaves_no_debt_beyond_a_turn_for_each(changes: list[list[float]], seed: int) -> None:
    turns = RoundRobin(Random(seed))
    for weights in changes[:-1]:
        firsts_of(turns, candidates_of(*weights), 50)

    last = candidates_of(*changes[-1])
    served = Counter(firsts_of(turns, last, 500))

    for each in last:
        assert abs(served[each.provider] - 500 * each.weight / sum(changes[-1])) <= 3


def test_first_of_a_new_set_is_drawn_by_weight() -> None:
    turns = RoundRobin(Random(1))

    firsts = Counter(
        turns.order([candidate("a", model=str(number), weight=3), candidate("b", model=str(number))])[0].provider
        for number in range(5000)
    )

    assert abs(firsts["a"] / 5000 - 0.75) < 0.02


def test_sets_have_turns_of_their_own() -> None:
    turns = RoundRobin(Random(1))
    pair, other = candidates_of(1, 1), [candidate("a", model="other"), candidate("b", model="other")]
    for each in (pair, other):
        turns.order(each)

    mixed = [turns.order(each)[0].provider for _ in range(3) for each in (pair, other)]

    assert mixed == ["a", "a", "b", "b", "a", "a"]


def test_sets_are_forgotten_beyond_a_bound_the_one_longest_not_asked_first() -> None:
    turns = RoundRobin(Random(1))
    kept = candidates_of(1, 1, 1, 1, 1)
    turns.order(kept)

    for number in range(3 * MOST_SETS):
        turns.order([candidate("a", model=str(number)), candidate("b", model=str(number))])
        if number % 900 == 450:
            turns.order(kept)

    assert len(turns) == MOST_SETS
    assert firsts_of(turns, kept, 4) == "deab"  # the first turn was drawn, a, b and c had theirs


def test_dry_run_takes_no_turn() -> None:
    balancer = make(strategy="round-robin")
    pair = candidates_of(1, 1)
    balancer.select_provider(asked(), pair)

    seen = []
    for _ in range(3):
        dry = [names(balancer.select_provider(asked(is_dry_run=True), pair)) for _ in range(5)]
        real = names(balancer.select_provider(asked(), pair))
        seen.append((dry, real))

    assert [real for _, real in seen] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert all(dry == [real] * 5 for dry, real in seen)


def test_dry_run_of_a_new_set_leaves_nothing_behind() -> None:
    turns = RoundRobin(Random(1))

    turns.order(candidates_of(1, 1), is_dry_run=True)

    assert len(turns) == 0


def test_new_settings_keep_whose_turn_it_is() -> None:
    balancer = make(strategy="round-robin")
    pair = candidates_of(1, 1)
    for _ in range(2):
        balancer.select_provider(asked(), pair)

    balancer.reconfigure(BalancerConfig(strategy="random"))
    balancer.select_provider(asked(), pair)
    balancer.reconfigure(BalancerConfig(strategy="round-robin"))

    assert names(balancer.select_provider(asked(), pair)) == ["b", "a"]
