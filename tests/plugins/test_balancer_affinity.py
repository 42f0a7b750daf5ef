"""Affinity: a session stays where it is, and a change of the candidates moves its share of sessions only."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.balancer.rendezvous import by_session
from proxy.exchange import Candidate
from tests.plugins.balancer_rig import asked, candidate, candidates_of, make, names

SESSIONS = [f"session-{number}".encode() for number in range(20_000)]
WEIGHTS = st.lists(st.floats(0.1, 10), min_size=3, max_size=6)


def homes(candidates: list[Candidate]) -> dict[bytes, str]:
    return {session: by_session(candidates, session)[0].provider for session in SESSIONS[:3000]}


def test_order_of_a_session_is_the_same_in_every_process_and_version() -> None:
    ordered = ["".join(names(by_session(candidates_of(1, 1, 2), session))) for session in SESSIONS[:6]]

    assert ordered == ["cab", "cba", "cab", "bca", "abc", "cba"]


@given(st.binary(max_size=100), st.permutations(candidates_of(1, 2, 3, 4)))
def test_order_does_not_depend_on_the_order_given(session: bytes, candidates: list[Candidate]) -> None:
    assert by_session(candidates, session) == by_session(candidates_of(1, 2, 3, 4), session)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (5.0, 3.0, 2.0), (0.1, 0.9)])
def test_sessions_are_shared_by_weight_within_two_percent(weights: tuple[float, ...]) -> None:
    candidates = candidates_of(*weights)

    firsts = Counter(by_session(candidates, session)[0].provider for session in SESSIONS)

    errors = [abs(firsts[each.provider] / len(SESSIONS) - each.weight / sum(weights)) for each in candidates]
    print(f"furthest from its weight {max(errors):.2%}")
    assert max(errors) < 0.02


@given(WEIGHTS, st.integers(0, 5))
@settings(max_examples=10)
def test_candidate_that_goes_gives_away_its_own_sessions_only(weights: list[float], which: int) -> None:
    candidates = candidates_of(*weights)
    gone = candidates[which % len(candidates)]

    before = homes(candidates)
    after = homes([each for each in candidates if each is not gone])

    moved = [session for session in before if before[session] != after[session]]
    print(f"moved {len(moved) / len(before):.1%}, its share is {gone.weight / sum(weights):.1%}")
    assert all(before[session] == gone.provider for session in moved)


@given(WEIGHTS)
@settings(max_examples=10)
def test_candidate_that_comes_takes_sessions_for_itself_only(weights: list[float]) -> None:
    candidates = candidates_of(*weights)

    before = homes(candidates[:-1])
    after = homes(candidates)

    assert {after[session] for session in before if before[session] != after[session]} <= {candidates[-1].provider}


def test_session_of_a_candidate_that_goes_moves_to_its_second_place() -> None:
    candidates = candidates_of(1, 1, 1)

    for session in SESSIONS[:200]:
        first, second, _ = by_session(candidates, session)
        assert by_session([each for each in candidates if each is not first], session)[0] is second


@pytest.mark.parametrize("strategy", ["priority", "round-robin", "latency", "random"])
def test_session_of_a_header_stays_whatever_the_strategy_within_its_priority(strategy: str) -> None:
    candidates = [*candidates_of(1, 1, 1), candidate("last", priority=1)]
    balancer = make(strategy=strategy, affinity="header")

    orders = {
        session: {
            tuple(names(balancer.select_provider(asked(headers={"x-session-ID": session}), candidates)))
            for _ in range(20)
        }
        for session in ("one", "two", "three", "four", "five", "six")
    }

    assert all(len(seen) == 1 for seen in orders.values())
    assert len({order for seen in orders.values() for order in seen}) > 1
    assert all(order[-1] == "last" for seen in orders.values() for order in seen)


@pytest.mark.parametrize("headers", [{}, {"X-Session-Id": ""}, {"X-Other": "one"}])
def test_request_without_a_session_goes_by_the_strategy(headers: dict[str, str]) -> None:
    balancer = make(strategy="round-robin", affinity="header")

    firsts = [balancer.select_provider(asked(headers=headers), candidates_of(1, 1))[0].provider for _ in range(6)]

    assert firsts[1:] == ["a", "b", "a", "b", "a"]


def test_header_of_the_settings_names_the_session() -> None:
    balancer = make(strategy="round-robin", affinity="header", affinityHeader="X-Chat")

    firsts = {
        balancer.select_provider(asked(headers={"X-Chat": "one"}), candidates_of(1, 1))[0].provider for _ in range(9)
    }

    assert len(firsts) == 1


def test_one_model_may_have_another_affinity_than_the_others() -> None:
    balancer = make(strategy="round-robin", affinity="header", models={"free": {"affinity": "none"}})
    headers = {"X-Session-Id": "one"}

    sticky = {balancer.select_provider(asked(headers=headers), candidates_of(1, 1))[0].provider for _ in range(9)}
    free = {
        balancer.select_provider(asked(headers=headers, model="free"), candidates_of(1, 1))[0].provider
        for _ in range(9)
    }

    assert (len(sticky), len(free)) == (1, 2)
