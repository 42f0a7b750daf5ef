"""What holds for a breaker whatever traffic comes."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.config.routing_models import BreakerSettings
from proxy.routing.breaker import Breaker, State

seconds = st.floats(0.05, 5.0)
any_settings = st.fixed_dictionaries(
    {
        "failures": st.integers(1, 4),
        "errorRatio": st.floats(0.1, 1.0),
        "minRequests": st.integers(1, 8),
        "window": seconds,
        "cooldown": seconds,
        "maxCooldown": seconds,
        "probes": st.integers(1, 3),
        "slowStart": st.floats(0.0, 5.0),
    }
).map(BreakerSettings.model_validate)


class Traffic(RuleBasedStateMachine):
    """Attempts that begin, end, and get lost at any time; some begin although they are not admitted."""

    @initialize(chosen=any_settings)
    def start(self, chosen: BreakerSettings) -> None:
        self.settings = chosen
        self.most_s = max(chosen.cooldown, chosen.max_cooldown)
        self.breaker = Breaker(chosen)
        self.now_s = 0.0
        self.under_way: list[tuple[float, bool]] = []
        self.opened_s: float | None = None
        self.opened_for_s = 0.0

    @rule(step_s=st.floats(0.0, 1.0))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @precondition(lambda self: self.breaker.state != "closed")
    @rule()
    def wait_for_the_next_probe(self) -> None:
        self.now_s = max(self.now_s, self.breaker.until_s)

    @rule()
    def begin(self) -> None:
        state, admits = self.breaker.state, self.breaker.admits(self.now_s)

        is_probe = self.breaker.begin(self.now_s)

        assert is_probe == (admits and state != "closed")
        self.under_way.append((self.now_s, is_probe))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        began_s, is_probe = self._one(data)
        self._ends(lambda: self.breaker.succeed(self.now_s, began_s, is_probe), {"closed"})

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        began_s, is_probe = self._one(data)
        self._ends(lambda: self.breaker.fail(self.now_s, began_s, "reset", is_probe), {"open"})

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        began_s, is_probe = self._one(data)
        before = self.breaker.state

        self.breaker.cancel(self.now_s, began_s, is_probe)

        assert self.breaker.state == before

    def _one(self, data: st.DataObject) -> tuple[float, bool]:
        return self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))

    def _ends(self, report: Callable[[], State | None], allowed: set[str]) -> None:
        before = self.breaker.state

        change = report()

        assert change == (self.breaker.state if self.breaker.state != before else None)
        assert change is None or change in allowed
        if change == "open":
            if self.opened_s is not None:
                assert self.now_s >= self.opened_s + self.opened_for_s, "opened twice within one cooldown"
            self.opened_s, self.opened_for_s = self.now_s, self.breaker.cooldown_s

    @invariant()
    def no_more_probes_hold_places_than_may(self) -> None:
        holding = [began_s for began_s, is_probe in self.under_way if is_probe and began_s + self.most_s > self.now_s]
        assert len(holding) <= self.settings.probes

    @invariant()
    def share_is_a_share_and_none_when_nobody_is_admitted(self) -> None:
        share = self.breaker.share(self.now_s)
        assert 0.0 <= share <= 1.0
        assert (share > 0.0) == self.breaker.admits(self.now_s)

    @invariant()
    def calm_is_closed_with_the_whole_share(self) -> None:
        if self.breaker.is_calm:
            assert (self.breaker.state, self.breaker.share(self.now_s)) == ("closed", 1.0)

    @invariant()
    def nobody_is_left_out_for_ever(self) -> None:
        assert self.settings.cooldown <= self.breaker.cooldown_s <= self.most_s
        if self.breaker.state == "open":
            assert self.breaker.until_s <= self.breaker.since_s + self.most_s
            assert self.breaker.admits(self.breaker.until_s)
        assert self.breaker.admits(self.now_s + self.most_s)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=100, stateful_step_count=60)


@given(any_settings, st.lists(st.floats(0.0, 20.0), max_size=60))
def test_successes_alone_never_open_it(chosen: BreakerSettings, steps_s: list[float]) -> None:
    breaker, now_s = Breaker(chosen), 0.0

    for step_s in steps_s:
        now_s += step_s
        breaker.begin(now_s - step_s / 2)
        assert breaker.succeed(now_s, now_s - step_s / 2) is None

    assert (breaker.state, breaker.is_calm) == ("closed", True)


@given(any_settings, st.lists(st.tuples(st.floats(0.0, 1.0), st.sampled_from(["good", "bad", "lost"])), max_size=60))
def test_healthy_provider_is_back_within_the_longest_cooldown(
    chosen: BreakerSettings, past: list[tuple[float, str]]
) -> None:
    breaker, now_s, step_s = Breaker(chosen), 0.0, 0.01
    for wait_s, end in past:
        now_s += wait_s
        is_probe = breaker.begin(now_s)
        if end == "good":
            breaker.succeed(now_s, now_s, is_probe)
        elif end == "bad":
            breaker.fail(now_s, now_s, "reset", is_probe)
    healed_s = now_s

    while breaker.state != "closed" and now_s < healed_s + 20.0:
        if breaker.admits(now_s):
            breaker.succeed(now_s, now_s, breaker.begin(now_s))
        now_s += step_s

    assert breaker.state == "closed"
    assert now_s - healed_s <= max(chosen.cooldown, chosen.max_cooldown) + step_s * (chosen.probes + 1)


@given(any_settings, st.floats(0.1, 3.0))
def test_provider_that_flaps_changes_state_a_bounded_number_of_times(chosen: BreakerSettings, half_s: float) -> None:
    breaker, openings, now_s, step_s = Breaker(chosen), 0, 0.0, 0.05

    while now_s < 60.0:
        is_down = int(now_s / half_s) % 2
        if breaker.admits(now_s):
            is_probe = breaker.begin(now_s)
            if is_down:
                openings += breaker.fail(now_s, now_s, "reset", is_probe) == "open"
            else:
                breaker.succeed(now_s, now_s, is_probe)
        now_s += step_s

    assert openings <= 60.0 / chosen.cooldown + 1
