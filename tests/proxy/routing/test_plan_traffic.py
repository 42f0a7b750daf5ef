"""Random traffic against random failures: what a plan never does, whatever happens."""

from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.models import Settings
from proxy.config.routing_models import BreakerSettings
from proxy.exchange import Candidate
from proxy.routing.budget import RetryBudget
from proxy.routing.failures import OWN_MISTAKE, Verdict
from proxy.routing.health import ProviderHealth
from proxy.routing.plan import Plan, Step
from proxy.routing.policy import Policies

BREAKER = BreakerSettings.model_validate({"failures": 3, "cooldown": 1, "maxCooldown": 4, "slowStart": 2})
POLICY = Policies(Settings()).general
OUTCOMES = (
    None,
    OWN_MISTAKE,
    Verdict("connect", "provider"),
    Verdict("timeout", "model", may_have_executed=True),
    Verdict("server-error", "model", may_have_executed=True),
    Verdict("overloaded", "model", may_repeat=True),
    Verdict("overloaded", "model", may_repeat=True, retry_after_s=0.5),
    Verdict("rate-limit", "key", wants_other_key=True, may_repeat=True),
    Verdict("rate-limit", "key", wants_other_key=True, may_repeat=True, retry_after_s=2.0),
    Verdict("auth", "key", wants_other_key=True),
)


class World:
    """Three providers with two keys each; how each attempt ends is drawn."""

    def __init__(self, draw: Callable[[str], Verdict | None], capacity: float, *, has_fallbacks: bool = False) -> None:
        self.health = {name: ProviderHealth(name, BREAKER, (f"sk-{name}-1", f"sk-{name}-2")) for name in "abc"}
        self.budget = RetryBudget(0.2, capacity)
        self.random = Random(3)
        self.now_s = 1.0
        self.attempts = 0
        self.answered = 0
        self.has_fallbacks = has_fallbacks
        self._draw = draw

    def request(self, *, is_idempotent: bool) -> list[tuple[Step, Verdict | None]]:
        """Carry one request to its end; list whom it asked and what came of it."""
        self.budget.deposit()
        plan = Plan(
            [Candidate(name, "m") for name in "abc"],
            self.health,
            POLICY,
            self.budget,
            self.random,
            self.now_s,
            fallbacks=iter([[Candidate("a", "small")], [Candidate("b", "small")]]) if self.has_fallbacks else None,
        )
        step, asked = plan.first(self.now_s), []
        while step is not None:
            self.now_s += step.wait_s
            verdict = self._attempt(step)
            asked.append((step, verdict))
            if verdict is None:
                self.answered += 1
                break
            plan.note(step.target, verdict, self.now_s, is_idempotent=is_idempotent)
            step = plan.after(step.target, verdict, self.now_s)
        assert plan.attempts == len(asked) <= POLICY.attempts
        if step is None and plan.ended_by in ("", "nobody else is left"):
            executed = {
                one.target.candidate.provider for one, why in asked if why is not None and why.may_have_executed
            }
            self._assert_nobody_was_forgotten(plan, executed)
        return asked

    def _assert_nobody_was_forgotten(self, plan: Plan, executed: set[str]) -> None:
        for target in plan.targets:
            absence = target.absence_now(self.now_s)
            is_out = target.candidate.provider in executed or (absence is not None and absence.is_hard)
            assert target.is_asked or is_out, f"{target.name} was never asked"

    def _attempt(self, step: Step) -> Verdict | None:
        self.attempts += 1
        target, key, began_s = step.target, step.key, self.now_s
        health, lane = target.health, target.lane
        assert key is not None
        assert lane.keys is not None
        assert key.hard_until_s <= began_s, "the provider has said when to come back"
        step.begin()
        probes = health.begin(lane, began_s)
        self.now_s += 0.05
        verdict = self._draw(target.candidate.provider)
        if verdict is None:
            health.succeed(lane, began_s, probes, self.now_s)
            lane.keys.used(key, self.now_s, began_s, None)
            return None
        health.fail(lane, began_s, probes, self.now_s, verdict, "x")
        if verdict.kind == "rate-limit":
            lane.keys.limited(key, self.now_s, verdict.retry_after_s)
        elif verdict.kind == "auth":
            lane.keys.refused(key, self.now_s)
        return verdict


@given(
    outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=200),
    is_idempotent=st.booleans(),
    capacity=st.floats(0, 20),
    has_fallbacks=st.booleans(),
)
def test_whatever_fails_nothing_is_exceeded_and_nobody_is_asked_twice_without_reason(
    outcomes: list[Verdict | None], is_idempotent: bool, capacity: float, has_fallbacks: bool
) -> None:
    drawn = iter(outcomes)
    world = World(lambda _: next(drawn, None), capacity, has_fallbacks=has_fallbacks)

    for number in range(1, 31):
        asked = world.request(is_idempotent=is_idempotent)

        extra = world.attempts - sum(1 for _ in range(number))
        assert extra <= capacity + 0.2 * number + 1e-6
        executed: set[str] = set()
        before: tuple[str, int] | None = None
        for step, verdict in asked:
            provider = step.target.name
            assert is_idempotent or provider not in executed, "it may have executed the request before"
            place = (provider, id(step.key))
            assert place != before or step.wait_s > 0.0, "asked again at once, with the same key"
            before = place
            if verdict is not None and verdict.may_have_executed:
                executed.add(provider)


@settings(max_examples=30)
@given(sick=st.sets(st.sampled_from("abc"), max_size=2), outcome=st.sampled_from(OUTCOMES[2:]))
def test_request_is_answered_as_long_as_one_provider_is_well(sick: set[str], outcome: Verdict) -> None:
    world = World(lambda provider: outcome if provider in sick else None, capacity=50.0)

    for _ in range(200):
        world.request(is_idempotent=False)

    assert world.answered == 200
    assert world.attempts <= 200 * 1.2


def test_nobody_is_starved_once_all_are_well_again() -> None:
    sick = {"a"}
    world = World(lambda provider: OUTCOMES[2] if provider in sick else None, capacity=50.0)
    for _ in range(100):
        world.request(is_idempotent=False)
    sick.clear()

    first = Counter(world.request(is_idempotent=False)[0][0].target.candidate.provider for _ in range(200))

    assert first["a"] > 100
