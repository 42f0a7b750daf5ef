"""Who would be asked is told without a trace, and is who the plan of a real request asks."""

import copy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import Settings
from proxy.config.routing_models import BreakerSettings
from proxy.exchange import Candidate, JsonObject
from proxy.routing.budget import RetryBudget
from proxy.routing.explain import Moment, left_out, rows, verdict_of
from proxy.routing.failures import Verdict
from proxy.routing.health import ProviderHealth
from proxy.routing.plan import Plan
from proxy.routing.policy import Policies, Policy
from proxy.routing.prospects import UNLIMITED, Prospect, Room, in_turn, prospect_of
from proxy.routing.reach import reach_of

NOW_S = 100.0
SETTINGS = BreakerSettings.model_validate({"failures": 1, "cooldown": 1, "maxCooldown": 8, "slowStart": 10})
NAMES = ("a", "b", "c", "d")


def policy_of(**failover: Any) -> Policy:
    return Policies(Settings.model_validate({"failover": failover})).general


def well(name: str) -> ProviderHealth:
    return ProviderHealth(name, SETTINGS, ("sk-of-this-provider",))


def open_since(name: str, began_s: float) -> ProviderHealth:
    health = well(name)
    lane = health.lane("m")
    health.fail(lane, began_s, 0, began_s, Verdict("connect", "provider"), "upstream_connect")
    return health


def coming_back(name: str, closed_s: float) -> ProviderHealth:
    health = open_since(name, closed_s - 2.0)
    lane = health.lane("m")
    health.succeed(lane, closed_s, health.begin(lane, closed_s), closed_s)
    return health


def slow(name: str) -> ProviderHealth:
    health = well(name)
    lane = health.lane("m")
    lane.slow_until_s, lane.slow_reason = 120.0, "slow"
    return health


def drained(name: str) -> ProviderHealth:
    health = well(name)
    health.drained_s = 90.0
    return health


def resting(name: str, retry_after_s: float | None) -> ProviderHealth:
    health = well(name)
    keys = health.lane("m").keys
    assert keys is not None
    keys.limited(keys.keys[0], 99.9, retry_after_s)
    return health


def told(
    healths: list[ProviderHealth],
    policy: Policy,
    fallbacks: list[ProviderHealth] | None = None,
    *,
    rooms: dict[str, Room] | None = None,
    budget: float = 50.0,
) -> tuple[str, list[JsonObject]]:
    found = rooms or {}
    first = [looked_at(health, found) for health in healths]
    then = [looked_at(health, found, number) for number, health in enumerate(fallbacks or (), 1)]
    verdict = verdict_of(first, then, policy)
    moment = Moment(NOW_S, lambda time_s: None if time_s is None else f"{time_s:g}", is_streaming=False)
    reach = reach_of(policy, spent_to(budget))
    shown = rows(in_turn(first, policy), verdict, reach, moment)
    well_before = sum(one.is_well for one in first)
    return verdict.summary, shown + rows(in_turn(then, policy), verdict, reach, moment, before=well_before)


def looked_at(health: ProviderHealth, rooms: dict[str, Room], turn: int = 0) -> Prospect:
    return prospect_of(Candidate(health.name, "m"), health, NOW_S, rooms.get(health.name, UNLIMITED), turn)


def spent_to(level: float) -> RetryBudget:
    budget = RetryBudget(0.2, 50)
    budget.level = level
    return budget


def test_first_who_is_well_is_asked_and_the_others_if_it_fails() -> None:
    summary, (a, b, c) = told([open_since("a", 99.5), well("b"), well("c")], policy_of())

    assert summary == "b/m is asked first"
    assert (a["in"], a["cause"], a["until"]) == (False, "open", "100.5")
    assert a["why"] == "the circuit of the provider is open: 1 failures in a row: upstream_connect"
    assert (b["in"], b["why"]) == (True, "asked first")
    assert (c["in"], c["why"]) == (True, "asked if those before it fail")


def test_who_comes_back_takes_its_share_before_the_first() -> None:
    summary, (a, b) = told([coming_back("a", 95.0), well("b")], policy_of())

    assert summary == "b/m is asked first, but for what a/m (55% of its share) gets while it comes back"
    assert (a["in"], a["share"]) == (True, 0.55)
    assert a["why"] == "coming back: takes 55% of its share, else asked if the others fail"
    assert b["why"] == "asked first"


def test_who_comes_back_is_first_where_nobody_else_is_well() -> None:
    summary, _ = told([coming_back("a", 95.0), drained("b")], policy_of())

    assert summary == "a/m is asked first, though it has just come back: nobody else is well"


def test_fallback_is_asked_where_nobody_who_has_the_model_may_be() -> None:
    summary, (a, b) = told([drained("a")], policy_of(), [well("b")])

    assert summary == "nobody who has the model may be asked; its fallback b/m is asked first"
    assert (a["in"], a["why"], a["cause"], b["in"]) == (False, "drained by an operator", "drained", True)


def test_panic_asks_any_of_those_that_may_come_back() -> None:
    summary, (a, b, c) = told([open_since("a", 99.9), open_since("b", 99.5), drained("c")], policy_of())

    assert summary == "panic: everybody is left out; one of a/m, b/m is asked all the same"
    assert (a["in"], b["in"], c["in"]) == (True, True, False)
    assert b["why"].startswith("asked all the same, because nobody is well: the circuit of the provider is open")


def test_panic_names_the_only_one_that_may_come_back() -> None:
    summary, _ = told([open_since("a", 99.9), drained("b")], policy_of())

    assert summary == "panic: everybody is left out; a/m is asked all the same"


def test_panic_asks_one_that_is_slow_before_one_that_fails() -> None:
    summary, (a, b) = told([open_since("a", 99.9), slow("b")], policy_of())

    assert summary == "panic: everybody is left out; b/m is asked all the same"
    assert (a["in"], b["in"], b["why"]) == (False, True, "asked all the same, because nobody is well: slow")


def test_nobody_is_asked_where_all_are_out_for_good() -> None:
    summary, found = told([drained("a"), resting("b", 30.0)], policy_of())

    assert summary == "nobody may be asked now; a client gets an error with every candidate's reason"
    assert [row["in"] for row in found] == [False, False]
    assert (found[1]["cause"], found[1]["until"]) == ("rate-limit", "129.9")


def test_candidate_that_the_attempts_do_not_reach_is_out() -> None:
    healths = [well("a"), drained("b"), well("c"), well("d")]

    _, found = told(healths, policy_of(attempts=2))

    assert [row["in"] for row in found] == [True, False, True, False]
    assert found[3]["why"] == "the request has made its 2 attempts before (failover.attempts)"


FULL = Room(2, 2, 1, is_own=True)
FULL_PART = Room(80, 80, 0)


def test_who_has_room_is_asked_in_place_of_who_has_none() -> None:
    summary, found = told([well("a"), well("b"), well("c")], policy_of(), rooms={"a": FULL})

    assert summary == "b/m is asked first, because a/m is busy (2 of 2 calls, 1 wait)"
    assert [(row["candidate"], row["in"], row["why"]) for row in found] == [
        ("b/m", True, "asked first"),
        ("c/m", True, "asked if those before it fail"),
        ("a/m", True, "busy: 2 of 2 calls, 1 wait; asked if those before it fail"),
    ]
    assert (found[2]["cause"], found[2]["slots"]) == ("busy", {"inUse": 2, "limit": 2, "waiting": 1})
    assert (found[0]["cause"], found[0]["slots"]) == (None, None)


@pytest.mark.parametrize(
    ("healths", "rooms", "policy"),
    [
        ([well("a"), well("b")], {"a": FULL_PART}, policy_of()),
        ([well("a"), well("b")], {"a": FULL}, policy_of(on=["timeout"])),
        ([well("a"), well("b")], {"a": FULL, "b": FULL_PART}, policy_of()),
        ([well("a"), drained("b")], {"a": FULL}, policy_of()),
    ],
    ids=["part of the process", "busy is no failure", "both are full", "the other is out"],
)
def test_request_waits_where_nobody_is_asked_in_its_place(
    healths: list[ProviderHealth], rooms: dict[str, Room], policy: Policy
) -> None:
    summary, (a, _) = told(healths, policy, rooms=rooms)

    assert summary == f"a/m is asked first, and waits for its turn there: {rooms['a']}"
    assert (a["candidate"], a["in"], a["why"]) == ("a/m", True, f"asked first, as soon as it has room: {rooms['a']}")


def test_fallback_is_not_asked_in_place_of_who_has_the_model_and_no_room() -> None:
    summary, (_, fallback) = told([well("a")], policy_of(), [well("b")], rooms={"a": FULL})

    assert summary == "a/m is asked first, and waits for its turn there: 2 of 2 calls, 1 wait"
    assert fallback["why"] == "asked if those before it fail"


def test_who_comes_back_is_asked_in_place_of_who_has_no_room() -> None:
    summary, _ = told([well("a"), coming_back("b", 95.0)], policy_of(), rooms={"a": FULL})

    assert summary == (
        "b/m is asked first, because a/m is busy (2 of 2 calls, 1 wait), though it has just come back: "
        "nobody else is well and has room"
    )


def test_others_are_out_where_no_failure_is_taken_elsewhere() -> None:
    _, (a, b) = told([well("a"), well("b")], policy_of(on=[]))

    assert (a["in"], b["in"]) == (True, False)
    assert b["why"] == "nobody is asked after a failure: failover.on is empty"


def test_others_are_out_as_far_as_the_retry_budget_does_not_reach() -> None:
    _, found = told([well("a"), well("b"), well("c")], policy_of(), budget=1.9)

    assert [row["in"] for row in found] == [True, True, False]
    assert found[2]["why"] == "nothing is left of the retry budget of the process (failover.retryBudget)"


def test_candidate_without_a_place_in_the_order_is_shown_with_the_reason() -> None:
    (row,) = left_out([Candidate("a", "m", 3, 0.5)], "failover is off", Moment(NOW_S, str, is_streaming=False))

    assert (row["candidate"], row["in"], row["why"]) == ("a/m", False, "failover is off")
    assert (row["priority"], row["weight"]) == (3, 0.5)


def test_looking_at_models_that_were_never_asked_for_leaves_no_trace() -> None:
    health = well("a")

    for number in range(1000):
        prospect_of(Candidate("a", f"m{number}"), health, NOW_S)

    assert list(health.lanes()) == []


def states() -> st.SearchStrategy[str]:
    kinds = st.sampled_from(["well", "drained", "rests", "told", "slow"])
    opened = st.floats(90, 99.99).map(lambda began_s: f"open {began_s}")
    return kinds | opened


def made(name: str, state: str) -> ProviderHealth:
    kind, _, began_s = state.partition(" ")
    match kind:
        case "open":
            return open_since(name, float(began_s))
        case "drained":
            return drained(name)
        case "rests":
            return resting(name, None)
        case "told":
            return resting(name, 30.0)
        case "slow":
            return slow(name)
        case _:
            return well(name)


def rooms() -> st.SearchStrategy[Room]:
    return st.sampled_from([UNLIMITED, Room(1, 2, 0, is_own=True), FULL, FULL_PART])


def first_asked(plan: Plan, room_of: dict[str, Room]) -> str | None:
    """Ask as `Journey` does: another one in place of who has no room of its own."""
    step = plan.first(NOW_S)
    if step is None:
        return None
    busy = [step.target]
    room = room_of[step.target.candidate.provider]
    while room.is_full and room.is_own and (other := plan.beside(busy, NOW_S)) is not None:
        if not room_of[other.target.candidate.provider].is_full:
            return other.target.name
        busy.append(other.target)
    return step.target.name


@given(
    first=st.lists(st.tuples(states(), rooms()), min_size=1, max_size=4),
    then=st.lists(st.tuples(states(), rooms()), max_size=3),
    policy=st.sampled_from([policy_of(), policy_of(on=["timeout"])]),
)
def test_who_is_named_first_is_who_a_request_asks(
    first: list[tuple[str, Room]], then: list[tuple[str, Room]], policy: Policy
) -> None:
    healths = [made(f"p{number}", state) for number, (state, _) in enumerate(first)]
    fallbacks = [made(f"f{number}", state) for number, (state, _) in enumerate(then)]
    everybody = {health.name: health for health in (*healths, *fallbacks)}
    room_of = dict(zip(everybody, [room for _, room in (*first, *then)], strict=True))
    prospects = [looked_at(health, room_of) for health in healths]
    others = [looked_at(health, room_of, number) for number, health in enumerate(fallbacks, 1)]
    before = copy.deepcopy([_facts(health) for health in everybody.values()])

    verdict = verdict_of(prospects, others, policy)
    ordered = in_turn(prospects, policy)

    assert [_facts(health) for health in everybody.values()] == before
    assert sorted(one.name for one in ordered) == [one.name for one in prospects]
    plan = Plan(
        [one.candidate for one in prospects],
        everybody,
        policy,
        RetryBudget(0.2, 50),
        Random(1),
        NOW_S,
        fallbacks=iter([[one.candidate] for one in others]),
    )
    asked = first_asked(plan, room_of)
    if len(verdict.desperate) > 1:
        assert verdict.first is None
        assert asked in {one.name for one in verdict.desperate}
    else:
        assert asked == (verdict.first and verdict.first.name)
    if any(one.is_well for one in prospects):
        assert asked == next(one.name for one in ordered if one.is_well)
    assert plan.is_panic is verdict.is_panic


def _facts(health: ProviderHealth) -> list[Any]:
    """All that routing keeps of a provider."""
    lanes = [(lane.model, lane.breaker.state, lane.breaker.since_s, lane.slow_until_s) for lane in health.lanes()]
    pools = [(lane.keys._next, [key.free_s for key in lane.keys.keys]) for lane in health.lanes() if lane.keys]
    return [health.breaker.state, health.breaker.until_s, health.drained_s, health.in_flight, lanes, pools]


@pytest.mark.parametrize("is_streaming", [False, True])
def test_latency_is_what_strategies_see(is_streaming: bool) -> None:
    class Load:
        in_flight = 3

        def latency_s(self, is_streaming: bool, now_s: float) -> float | None:
            return 0.25 if is_streaming else None

    candidate = Candidate("a", "m", load=Load())

    (row,) = left_out([candidate], "", Moment(NOW_S, str, is_streaming))

    assert (row["inFlight"], row["latencyMs"]) == (3, 250.0 if is_streaming else None)
