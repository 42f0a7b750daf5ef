"""Whom one request asks, in which order, and what bounds it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from proxy.config.models import Settings
from proxy.config.routing_models import BreakerSettings
from proxy.errors import FailureKind
from proxy.exchange import Candidate
from proxy.routing.budget import RetryBudget
from proxy.routing.failures import OWN_MISTAKE, Verdict
from proxy.routing.health import ProviderHealth
from proxy.routing.lane import Lane
from proxy.routing.plan import Plan, Step, quick_step
from proxy.routing.policy import Policies, Policy

POLICY = Policies(Settings()).general
BREAKER = BreakerSettings.model_validate({"failures": 2, "cooldown": 10, "maxCooldown": 40})
TIMEOUT = Verdict("timeout", "model", may_have_executed=True)
OVERLOADED = Verdict("overloaded", "model", may_repeat=True)
CONNECT = Verdict("connect", "provider")
LIMITED = Verdict("rate-limit", "key", wants_other_key=True, may_repeat=True)


class Rig:
    """Providers a, b and c, all well, and plans over them."""

    def __init__(
        self, keys: int = 0, policy: Policy = POLICY, budget: RetryBudget | None = None, seed: int = 1
    ) -> None:
        texts = [f"sk-{number:016d}" for number in range(keys)]
        self.health = {name: ProviderHealth(name, BREAKER, texts) for name in "abc"}
        self.policy = policy
        self.budget = budget or RetryBudget(0.2, 50.0)
        self.random = Random(seed)

    def plan(
        self,
        names: str = "abc",
        *,
        fallbacks: Sequence[Sequence[Candidate]] = (),
        is_upload: bool = False,
    ) -> Plan:
        def more() -> Iterator[Sequence[Candidate]]:
            yield from fallbacks

        return Plan(
            [Candidate(name, "m") for name in names],
            self.health,
            self.policy,
            self.budget,
            self.random,
            0.0,
            fallbacks=more() if fallbacks else None,
            is_upload=is_upload,
        )

    def open(self, name: str, now_s: float = 0.0) -> None:
        """Open the circuit of a provider's model, for ten seconds."""
        health, lane = self.health[name], self.health[name].lane("m")
        for _ in range(2):
            health.fail(lane, now_s, health.begin(lane, now_s), now_s, OVERLOADED, "busy")


def ask(plan: Plan, step: Step | None) -> Step:
    assert step is not None
    assert step.target in plan.targets
    step.begin()
    return step


def fail(plan: Plan, step: Step, verdict: Verdict, now_s: float = 1.0, *, is_idempotent: bool = False) -> Step | None:
    plan.note(step.target, verdict, now_s, is_idempotent=is_idempotent)
    return plan.after(step.target, verdict, now_s)


def follow(plan: Plan, verdicts: Sequence[Verdict], now_s: float = 1.0) -> list[str]:
    """Names in the order in which they are asked, each failing as told."""
    step, names = plan.first(now_s), []
    for verdict in verdicts:
        if step is None:
            break
        names.append(ask(plan, step).target.name)
        step = fail(plan, step, verdict, now_s)
    return [*names, *([step.target.name] if step is not None else [])]


def test_candidates_are_asked_in_their_order() -> None:
    assert follow(Rig().plan(), [CONNECT, TIMEOUT]) == ["a/m", "b/m", "c/m"]


def test_other_keys_of_the_same_provider_go_before_other_providers() -> None:
    rig = Rig(keys=2)
    plan = rig.plan("ab")

    first = ask(plan, plan.first(1.0))
    second = fail(plan, first, LIMITED)
    third = fail(plan, ask(plan, second), LIMITED)

    assert second is not None
    assert third is not None
    assert (second.target.name, third.target.name) == ("a/m", "b/m")
    assert first.key is not second.key
    assert second.wait_s == 0.0


def test_many_limited_keys_do_not_use_up_the_attempts_that_other_providers_are_due() -> None:
    plan = Rig(keys=5).plan()

    assert follow(plan, [LIMITED] * 3) == ["a/m", "a/m", "b/m", "c/m"]


def test_fallback_models_come_after_all_who_have_the_model_and_are_looked_up_only_then() -> None:
    looked_up: list[str] = []

    class Listing(list[Sequence[Candidate]]):
        def __iter__(self) -> Iterator[Sequence[Candidate]]:
            looked_up.append("now")
            return super().__iter__()

    plan = Rig().plan("ab", fallbacks=Listing([[Candidate("a", "small"), Candidate("b", "m")], [Candidate("c", "x")]]))
    step = ask(plan, plan.first(1.0))
    step = ask(plan, fail(plan, step, CONNECT))
    assert not looked_up

    step = ask(plan, fail(plan, step, CONNECT))
    last = fail(plan, step, CONNECT)

    assert (step.target.name, last and last.target.name) == ("a/small", "c/x")


def test_same_provider_is_asked_again_last_and_after_a_wait() -> None:
    plan = Rig().plan("ab")

    step = fail(plan, ask(plan, plan.first(1.0)), OVERLOADED)
    again = fail(plan, ask(plan, step), OVERLOADED)

    assert again is not None
    assert again.target.failures == 1
    assert 0.0 < again.wait_s <= POLICY.backoff_s


def waits(verdicts: Sequence[Verdict], seed: int, keys: int = 0) -> list[float]:
    """How long one provider alone is waited for after each failure."""
    plan, now_s, found = Rig(keys=keys, seed=seed).plan("a"), 1.0, []
    step = plan.first(now_s)
    for verdict in verdicts:
        step = fail(plan, ask(plan, step), verdict, now_s)
        assert step is not None
        found.append(step.wait_s)
        now_s += step.wait_s
    return found


def test_waits_are_drawn_up_to_the_backoff_first_and_up_to_twice_as_long_each_time() -> None:
    drawn = [waits([OVERLOADED] * 3, seed) for seed in range(300)]

    longest = [max(column) for column in zip(*drawn, strict=True)]
    assert all(0.9 * bound < value <= bound for value, bound in zip(longest, (0.25, 0.5, 1.0), strict=True))


def test_keys_that_were_tried_without_a_wait_do_not_make_the_first_wait_longer() -> None:
    drawn = [waits([LIMITED] * 3, seed, keys=3) for seed in range(300)]

    assert all(one[:2] == [0.0, 0.0] for one in drawn)
    assert max(one[2] for one in drawn) <= POLICY.backoff_s


def test_many_who_were_told_the_same_time_do_not_come_back_at_the_same_moment() -> None:
    drawn = [waits([replace(OVERLOADED, retry_after_s=2.0)], seed)[0] for seed in range(50)]
    longest = [waits([replace(OVERLOADED, retry_after_s=POLICY.max_wait_s)], seed)[0] for seed in range(50)]

    assert all(2.0 <= wait_s <= 2.0 + POLICY.backoff_s for wait_s in drawn)
    assert len(set(drawn)) == len(drawn)
    assert set(longest) == {POLICY.max_wait_s}


def test_one_that_can_be_asked_again_goes_before_one_whose_circuit_is_open_but_not_for_ever() -> None:
    rig = Rig()
    rig.open("b")

    assert follow(rig.plan("ab"), [OVERLOADED] * 3) == ["a/m", "a/m", "a/m", "b/m"]
    assert follow(rig.plan("ab"), [TIMEOUT]) == ["a/m", "b/m"]


def test_who_is_not_to_be_asked_again_itself_leaves_the_turn_to_another() -> None:
    rig = Rig()
    plan = rig.plan("ab")
    step = fail(plan, ask(plan, plan.first(1.0)), OVERLOADED)
    rig.health["a"].drained_s = 1.0

    again = fail(plan, ask(plan, step), OVERLOADED)

    assert again is not None
    assert again.target.name == "b/m"


def test_provider_whose_own_circuit_has_opened_is_not_asked_again() -> None:
    rig = Rig()
    plan = rig.plan("a")
    step = ask(plan, plan.first(0.5))
    health, other = rig.health["a"], rig.health["a"].lane("other")
    for _ in range(2):
        health.fail(other, 0.5, health.begin(other, 0.5), 0.5, CONNECT, "refused")

    assert fail(plan, step, OVERLOADED) is None
    assert plan.ended_by == "nobody else is left"


def test_wait_that_is_too_long_is_named_where_the_request_ends_with_it() -> None:
    plan = Rig().plan("a")

    assert fail(plan, ask(plan, plan.first(1.0)), replace(OVERLOADED, retry_after_s=60.0)) is None
    assert plan.ended_by == "nobody else is left, and a/m is not to be asked before 60 s have passed (failover.maxWait)"


def test_where_it_may_have_executed_and_that_is_forbidden_elsewhere_only_the_same_one_is_asked_if_harmless() -> None:
    plan = Rig(policy=replace(POLICY, after_execution=False)).plan("ab")

    again = fail(plan, ask(plan, plan.first(1.0)), TIMEOUT, is_idempotent=True)
    more = fail(plan, ask(plan, again), OVERLOADED, is_idempotent=True)
    last = fail(plan, ask(plan, more), CONNECT, is_idempotent=True)

    assert [step and step.target.name for step in (again, more, last)] == ["a/m", "a/m", None]
    assert plan.ended_by == "it may have been executed (failover.afterExecution)"


def test_nobody_is_asked_beside_a_late_one_where_two_executions_are_forbidden() -> None:
    plan = Rig(policy=replace(POLICY, after_execution=False)).plan("ab")
    ask(plan, plan.first(1.0))

    assert plan.other(1.0) is None


def test_nobody_is_asked_in_place_of_the_one_that_may_have_executed_it_and_is_busy_now() -> None:
    plan = Rig(policy=replace(POLICY, after_execution=False)).plan("ab")

    again = fail(plan, ask(plan, plan.first(1.0)), TIMEOUT, is_idempotent=True)

    assert again is not None
    assert plan.beside([again.target], 1.0) is None


def test_one_that_comes_back_does_not_yield_to_fallback_models() -> None:
    rig = Rig()
    rig.open("a")
    health, lane = rig.health["a"], rig.health["a"].lane("m")
    health.succeed(lane, 11.0, health.begin(lane, 11.0), 11.0)

    steps = [rig.plan("a", fallbacks=[[Candidate("b", "small")]]).first(11.1) for _ in range(50)]

    assert {step and step.target.name for step in steps} == {"a/m"}


def test_same_provider_is_not_asked_again_once_it_may_have_executed_unless_that_is_harmless() -> None:
    plan, harmless = Rig().plan("a"), Rig().plan("a")

    assert fail(plan, ask(plan, plan.first(1.0)), TIMEOUT) is None
    assert fail(harmless, ask(harmless, harmless.first(1.0)), TIMEOUT, is_idempotent=True) is not None


def test_one_whose_circuit_has_opened_is_not_asked_again() -> None:
    rig = Rig()
    plan = rig.plan("a")
    step = ask(plan, plan.first(0.5))
    rig.open("a", 0.5)

    assert fail(plan, step, OVERLOADED) is None


def test_providers_own_time_is_waited_for_up_to_the_longest_wait_and_never_cut_short() -> None:
    for retry_after_s, is_awaited in ((3.0, True), (POLICY.max_wait_s + 0.1, False)):
        plan = Rig().plan("a")

        step = fail(plan, ask(plan, plan.first(1.0)), replace(OVERLOADED, retry_after_s=retry_after_s))

        assert (step is not None) is is_awaited
        assert step is None or step.wait_s >= retry_after_s


def test_wait_past_the_deadline_is_not_begun() -> None:
    plan = Rig(policy=replace(POLICY, deadline_s=3.0)).plan("a")

    assert fail(plan, ask(plan, plan.first(1.0)), replace(OVERLOADED, retry_after_s=2.5)) is None


@pytest.mark.parametrize(
    ("policy", "verdict", "now_s", "reason"),
    [
        (replace(POLICY, attempts=1), CONNECT, 1.0, "1 attempts are made (failover.attempts)"),
        (replace(POLICY, deadline_s=5.0), CONNECT, 5.0, "5 s are over (failover.deadline, or the client's own)"),
        (replace(POLICY, kinds=frozenset({"tls"})), CONNECT, 1.0, "this failure is not taken elsewhere"),
        (replace(POLICY, after_execution=False), TIMEOUT, 1.0, "it may have been executed (failover.afterExecution)"),
        (POLICY, OWN_MISTAKE, 1.0, "this failure is not taken elsewhere"),
    ],
)
def test_bound_ends_the_request_and_says_so(policy: Policy, verdict: Verdict, now_s: float, reason: str) -> None:
    plan = Rig(policy=policy).plan()

    assert fail(plan, ask(plan, plan.first(1.0)), verdict, now_s) is None
    assert plan.ended_by == reason


def test_used_up_budget_of_the_process_ends_the_request() -> None:
    rig = Rig(budget=RetryBudget(0.2, 1.0))
    first, second = rig.plan(), rig.plan()

    assert fail(first, ask(first, first.first(1.0)), CONNECT) is not None
    assert fail(second, ask(second, second.first(1.0)), CONNECT) is None
    assert second.ended_by == "the retry budget of the process is used up"


def test_budget_is_not_charged_where_nobody_is_left() -> None:
    rig = Rig(budget=RetryBudget(0.2, 1.0))
    plan = rig.plan("a")

    fail(plan, ask(plan, plan.first(1.0)), CONNECT)

    assert rig.budget.level == 1.0


def test_attempt_that_found_no_room_is_not_paid_for_a_second_time_with_the_next() -> None:
    rig = Rig(budget=RetryBudget(0.2, 10.0))
    plan = rig.plan("abc")

    second = fail(plan, ask(plan, plan.first(1.0)), CONNECT)
    assert second is not None
    third = fail(plan, second, Verdict("busy"))
    assert (third and third.target.name, rig.budget.level) == ("c/m", 9.0)

    assert fail(plan, ask(plan, third), OVERLOADED) is not None
    assert rig.budget.level == 8.0


def test_without_failover_nobody_but_the_first_is_asked_though_its_other_keys_are() -> None:
    rig = Rig(keys=2, policy=replace(POLICY, is_failover_on=False))
    plan, limited = rig.plan(), rig.plan()

    assert fail(plan, ask(plan, plan.first(1.0)), CONNECT) is None
    step = fail(limited, ask(limited, limited.first(1.0)), LIMITED)
    assert step is not None
    assert step.target.candidate.provider == "a"


def test_body_that_was_streamed_goes_elsewhere_only_if_nothing_was_sent() -> None:
    for verdict, is_taken in ((CONNECT, True), (Verdict("busy"), True), (TIMEOUT, False), (OVERLOADED, False)):
        plan = Rig().plan(is_upload=True)

        assert (fail(plan, ask(plan, plan.first(1.0)), verdict) is not None) is is_taken


def test_request_too_long_for_a_model_goes_to_models_of_other_names_only() -> None:
    fallbacks = [[Candidate("c", "large")]]
    plan = Rig().plan("ab", fallbacks=fallbacks)

    step = fail(plan, ask(plan, plan.first(1.0)), Verdict("context-length", is_for_every_provider=True))

    assert step is not None
    assert step.target.name == "c/large"


def test_body_too_large_for_one_provider_may_be_taken_by_the_next() -> None:
    assert follow(Rig().plan("ab"), [Verdict("context-length")]) == ["a/m", "b/m"]


def test_one_that_is_left_out_is_passed_over_and_asked_only_when_all_others_failed() -> None:
    rig = Rig()
    rig.open("a")
    plan = rig.plan()

    names = follow(plan, [CONNECT, CONNECT])

    assert names == ["b/m", "c/m", "a/m"]
    assert not plan.is_panic


def test_when_all_are_left_out_any_of_them_is_asked_and_that_is_panic() -> None:
    rig = Rig()
    for name in "abc":
        rig.open(name)
    random, names = Random(2), Counter[str]()

    for _ in range(300):
        plan = Plan([Candidate(name, "m") for name in "abc"], rig.health, POLICY, rig.budget, random, 0.0)
        step = plan.first(3.0)
        assert step is not None
        assert plan.is_panic
        names[step.target.name] += 1

    assert set(names) == {"a/m", "b/m", "c/m"}
    assert min(names.values()) > 60


def test_when_all_are_left_out_one_that_is_slow_is_asked_before_those_that_fail() -> None:
    rig = Rig()
    for name in "ac":
        rig.open(name)
    lane = rig.health["b"].lane("m")
    lane.slow_until_s, lane.slow_reason = 30.0, "slow"

    for _ in range(20):
        plan = rig.plan()
        step = plan.first(3.0)
        assert step is not None
        assert (step.target.name, plan.is_panic) == ("b/m", True)


def test_one_that_is_slow_is_not_left_out_while_its_quick_rival_is_down() -> None:
    rig = Rig()
    for name, usual_s in (("a", 0.05), ("b", 8.0)):
        for _ in range(BREAKER.min_requests):
            rig.health[name].lane("m").observe(usual_s, usual_s, 1.0, is_streaming=True)
    rig.open("a", 1.0)
    plan = rig.plan("ab")

    step = plan.first(2.0)

    assert step is not None
    assert (step.target.name, plan.is_panic) == ("b/m", False)


def test_drained_and_limited_ones_are_not_asked_even_then() -> None:
    rig = Rig(keys=1)
    rig.health["a"].drained_s = 1.0
    lane = rig.health["b"].lane("m")
    assert lane.keys is not None
    lane.keys.limited(lane.keys.keys[0], 1.0, 30.0)
    plan = rig.plan("ab")

    assert plan.first(2.0) is None
    assert [(target.name, absence.cause) for target, absence in plan.absent(2.0)] == [
        ("a/m", "drained"),
        ("b/m", "rate-limit"),
    ]


def test_one_that_comes_back_gets_a_growing_share_and_the_others_the_rest() -> None:
    rig = Rig()
    rig.open("a")
    health, lane = rig.health["a"], rig.health["a"].lane("m")
    health.succeed(lane, 11.0, health.begin(lane, 11.0), 11.0)
    random = Random(5)

    def share(now_s: float) -> float:
        asked = 0
        for _ in range(1000):
            plan = Plan([Candidate(n, "m") for n in "ab"], rig.health, POLICY, rig.budget, random, now_s)
            step = plan.first(now_s)
            asked += step is not None and step.target.name == "a/m"
        return asked / 1000

    assert 0.05 < share(11.1) < 0.2
    assert 0.45 < share(16.0) < 0.65
    assert share(21.0) == 1.0


def test_after_a_failure_one_that_failed_last_itself_yields_to_one_that_did_not() -> None:
    rig = Rig()
    health, lane = rig.health["b"], rig.health["b"].lane("m")
    health.fail(lane, 0.0, health.begin(lane, 0.0), 0.5, OVERLOADED, "busy")

    assert follow(rig.plan(), [CONNECT, CONNECT]) == ["a/m", "c/m", "b/m"]
    assert follow(rig.plan("ba"), []) == ["b/m"]


def test_one_alone_has_all_of_its_share_at_once() -> None:
    rig = Rig()
    rig.open("a")
    health, lane = rig.health["a"], rig.health["a"].lane("m")
    health.succeed(lane, 11.0, health.begin(lane, 11.0), 11.0)

    assert all(rig.plan("a").first(11.1) is not None for _ in range(100))


def test_second_attempt_beside_a_late_one_goes_to_another_that_is_well() -> None:
    rig = Rig()
    rig.open("b")
    plan = rig.plan()
    ask(plan, plan.first(1.0))

    other = plan.other(1.0)

    assert other is not None
    assert other.target.name == "c/m"
    ask(plan, other)
    assert plan.other(1.0) is None


def test_nobody_is_asked_beside_a_late_one_after_the_deadline() -> None:
    plan = Rig(policy=replace(POLICY, deadline_s=5.0)).plan("ab")
    ask(plan, plan.first(1.0))

    assert plan.other(5.0) is None
    assert plan.other(4.9) is not None


def test_busy_ones_are_passed_over_for_one_with_room_and_keep_their_turn() -> None:
    plan = Rig().plan()
    first = plan.first(1.0)
    assert first is not None

    other = plan.beside([first.target], 1.0)

    assert other is not None
    assert other.target.name == "b/m"
    assert not first.target.is_asked


def test_step_that_had_to_wait_is_taken_as_it_was_while_nothing_has_changed() -> None:
    plan = Rig(keys=2).plan("ab")
    step = plan.first(1.0)
    assert step is not None

    assert plan.renew(step, 2.0) is step


def test_step_that_had_to_wait_is_given_up_only_for_somebody_who_is_well() -> None:
    for names, others_are_well, is_taken in (("ab", True, False), ("ab", False, True), ("a", True, True)):
        rig = Rig()
        plan = rig.plan(names)
        step = plan.first(1.0)
        assert step is not None
        rig.open("a", 1.5)
        if not others_are_well:
            rig.open("b", 1.5)

        assert (plan.renew(step, 2.0) is not None) is is_taken


def test_step_that_had_to_wait_takes_another_key_where_its_own_has_come_to_rest() -> None:
    rig = Rig(keys=2)
    plan = rig.plan("a")
    step = plan.first(1.0)
    keys = rig.health["a"].lane("m").keys
    assert step is not None
    assert step.key is not None
    assert keys is not None
    keys.limited(step.key, 1.5, 60.0)

    renewed = plan.renew(step, 2.0)
    keys.limited(keys.keys[1], 2.0, 60.0)

    assert renewed is not None
    assert renewed.key is keys.keys[1]
    assert plan.renew(step, 2.0) is None


@pytest.mark.parametrize("kind", ["connect", "tls", "timeout", "reset", "server-error", "auth"])
def test_every_kind_that_is_named_is_taken_elsewhere(kind: FailureKind) -> None:
    assert follow(Rig().plan("ab"), [Verdict(kind, "model")]) == ["a/m", "b/m"]


def test_other_models_of_a_provider_that_may_have_executed_the_request_are_not_asked() -> None:
    rig = Rig()

    def plan() -> Plan:
        models = [Candidate("a", "m"), Candidate("a", "small"), Candidate("b", "m")]
        return Plan(models, rig.health, POLICY, rig.budget, Random(1), 0.0)

    assert follow(plan(), [TIMEOUT, TIMEOUT]) == ["a/m", "b/m"]
    assert follow(plan(), [OVERLOADED, TIMEOUT]) == ["a/m", "a/small", "b/m"]


def test_model_that_one_provider_lacks_is_looked_for_elsewhere_only_after_another_failure() -> None:
    missing = Verdict("not-found")

    assert follow(Rig().plan(), [missing]) == ["a/m"]
    assert follow(Rig().plan(), [TIMEOUT, missing]) == ["a/m", "b/m", "c/m"]


SPOILS: list[Callable[[ProviderHealth, Lane], object]] = [
    lambda health, lane: setattr(health, "drained_s", 0.5),
    lambda health, lane: health.fail(lane, 0.5, 0, 0.5, OVERLOADED, "busy"),
    lambda health, lane: health.fail(lane, 0.5, 0, 0.5, CONNECT, "refused"),
    lambda health, lane: setattr(lane, "slow_until_s", 2.0),
    lambda health, lane: lane.rest(0.5, 30.0),
    lambda health, lane: [lane.keys.limited(key, 0.5, 30.0) for key in lane.keys.keys] if lane.keys else None,
]


def test_sole_candidate_with_which_all_is_well_is_asked_without_a_plan_its_keys_in_turn() -> None:
    health = Rig(keys=2).health["a"]

    steps = [quick_step(Candidate("a", "m"), health, 1.0) for _ in range(3)]

    keys = health.lane("m").keys
    assert keys is not None
    assert [step and step.key for step in steps] == [keys.keys[0], keys.keys[1], keys.keys[0]]


@pytest.mark.parametrize("spoil", SPOILS)
def test_it_takes_a_plan_where_anything_is_not_well(spoil: Callable[[ProviderHealth, Lane], object]) -> None:
    health = Rig(keys=2).health["a"]

    spoil(health, health.lane("m"))

    assert quick_step(Candidate("a", "m"), health, 1.0) is None


def test_plan_goes_on_from_who_was_asked_without_one() -> None:
    rig = Rig(keys=2)
    candidate = Candidate("a", "m")
    step = quick_step(candidate, rig.health["a"], 0.0)
    assert step is not None
    step.begin()

    plan = Plan([candidate], rig.health, POLICY, rig.budget, rig.random, 0.0, begun=step.target)
    then = fail(plan, step, LIMITED)

    assert plan.attempts == 1
    assert then is not None
    assert (then.target, then.key is step.key) == (step.target, False)
