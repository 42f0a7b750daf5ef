"""When a circuit opens, half-opens and closes, and which reports count."""

import pytest

from proxy.config.routing_models import BreakerSettings
from proxy.routing.breaker import COOLDOWNS_TO_FORGET, FIRST_SHARE, Breaker


def make(**more: object) -> Breaker:
    settings = {"failures": 3, "minRequests": 10, "cooldown": 1.0, "maxCooldown": 5.0, "slowStart": 10.0, **more}
    return Breaker(BreakerSettings.model_validate(settings))


def fail(breaker: Breaker, times: int, now_s: float) -> None:
    for _ in range(times):
        breaker.fail(now_s, now_s, "timeout")


def opened(**more: object) -> Breaker:
    breaker = make(**more)
    fail(breaker, 3, 10.0)
    assert breaker.state == "open"
    return breaker


def probe(breaker: Breaker, now_s: float, is_good: bool) -> None:
    assert breaker.begin(now_s)
    if is_good:
        breaker.succeed(now_s, now_s, is_probe=True)
    else:
        breaker.fail(now_s, now_s, "timeout", is_probe=True)


# -- opening --------------------------------------------------------------------------------------------------------


def test_new_breaker_is_closed_and_calm() -> None:
    breaker = make()

    assert (breaker.state, breaker.is_calm, breaker.admits(0.0), breaker.share(0.0)) == ("closed", True, True, 1.0)
    assert (breaker.reason, breaker.begin(0.0)) == (None, False)


def test_failures_in_a_row_open_it_and_the_last_one_tells() -> None:
    breaker = make()

    changes = [breaker.fail(now_s, now_s, "upstream_timeout") for now_s in (10.0, 11.0, 12.0)]

    assert changes == [None, None, "open"]
    assert (breaker.state, breaker.since_s, breaker.until_s, breaker.cooldown_s) == ("open", 12.0, 13.0, 1.0)
    assert breaker.reason == "3 failures in a row: upstream_timeout"
    assert (breaker.admits(12.9), breaker.share(12.9), breaker.is_calm) == (False, 0.0, False)


def test_success_in_between_begins_the_row_anew() -> None:
    breaker = make()

    for now_s in range(20):
        breaker.fail(now_s, now_s, "timeout")
        breaker.succeed(now_s, now_s)
        breaker.succeed(now_s, now_s)

    assert breaker.state == "closed"


def test_failure_ends_the_calm_and_a_success_brings_it_back() -> None:
    breaker = make()

    breaker.fail(1.0, 1.0, "timeout")
    in_between = breaker.is_calm
    breaker.succeed(2.0, 2.0)

    assert (in_between, breaker.is_calm) == (False, True)


def test_share_of_failures_opens_it_once_there_are_enough_requests() -> None:
    breaker = make(failures=100, errorRatio=0.5)

    for now_s in range(4):
        breaker.succeed(now_s, now_s)
        breaker.fail(now_s, now_s, "timeout")
    breaker.succeed(4.0, 4.0)
    change = breaker.fail(5.0, 5.0, "reset")

    assert change == "open"
    assert breaker.reason == "5 of 10 requests failed in 30 s: reset"


def test_share_below_the_limit_does_not_open_it() -> None:
    breaker = make(failures=100, errorRatio=0.5)

    for now_s in range(25):
        breaker.succeed(now_s, now_s)
        breaker.fail(now_s, now_s, "timeout")
        breaker.succeed(now_s, now_s)

    assert breaker.state == "closed"


@pytest.mark.parametrize(("idle_s", "state"), [(7.0, "open"), (31.0, "closed")])
def test_failures_count_for_half_a_window_at_least_and_a_whole_one_at_most(idle_s: float, state: str) -> None:
    breaker = make(failures=100, window=30.0)
    fail(breaker, 9, 14.0)

    fail(breaker, 1, 14.0 + idle_s)

    assert breaker.state == state


def test_disabled_breaker_admits_everybody_and_counts_nothing() -> None:
    breaker = make(enabled=False)

    fail(breaker, 100, 1.0)

    assert (breaker.state, breaker.is_calm, breaker.admits(1.0), breaker.share(1.0)) == ("closed", True, True, 1.0)


# -- probes ---------------------------------------------------------------------------------------------------------


def test_after_the_cooldown_one_probe_goes_and_nobody_beside_it() -> None:
    breaker = opened()

    looks = [breaker.admits(now_s) for now_s in (10.9, 11.0)]
    is_probe = breaker.begin(11.0)

    assert (looks, is_probe) == ([False, True], True)
    assert (breaker.state, breaker.since_s) == ("half_open", 11.0)
    assert (breaker.admits(11.5), breaker.begin(11.5), breaker.share(11.5)) == (False, False, 0.0)


def test_good_probe_closes_it() -> None:
    breaker = opened()
    breaker.begin(11.0)

    change = breaker.succeed(11.2, 11.0, is_probe=True)

    assert (change, breaker.state, breaker.since_s) == ("closed", "closed", 11.2)
    assert breaker.reason == "3 failures in a row: timeout"


def test_as_many_probes_must_succeed_as_may_go_at_once() -> None:
    breaker = opened(probes=2)
    begun = [breaker.begin(11.0), breaker.begin(11.1), breaker.begin(11.2)]

    changes = [breaker.succeed(11.3, 11.0, is_probe=True), breaker.succeed(11.4, 11.1, is_probe=True)]

    assert begun == [True, True, False]
    assert changes == [None, "closed"]


def test_failed_probe_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    breaker, now_s, cooldowns = opened(), 11.0, []

    for _ in range(4):
        probe(breaker, now_s, is_good=False)
        cooldowns.append(breaker.cooldown_s)
        now_s = breaker.until_s

    assert cooldowns == [2.0, 4.0, 5.0, 5.0]
    assert breaker.reason == "a probe failed: timeout"


def test_every_round_of_probes_begins_to_count_anew() -> None:
    breaker = opened(probes=2)
    probe(breaker, 11.0, is_good=True)
    probe(breaker, 11.1, is_good=False)

    states = []
    for now_s in (13.1, 13.2):
        probe(breaker, now_s, is_good=True)
        states.append(breaker.state)

    assert states == ["half_open", "closed"]


def test_probe_without_verdict_gives_its_place_to_the_next() -> None:
    breaker = opened()
    breaker.begin(11.0)

    breaker.cancel(11.5, 11.0, is_probe=True)

    assert (breaker.state, breaker.admits(11.5), breaker.begin(11.5)) == ("half_open", True, True)


def test_lost_probe_holds_its_place_for_the_longest_cooldown_only() -> None:
    breaker = opened()
    breaker.begin(11.0)

    looks = [breaker.admits(now_s) for now_s in (15.9, 16.0)]

    assert looks == [False, True]
    assert (breaker.begin(16.0), breaker.admits(16.0)) == (True, False)


def test_verdict_of_a_lost_probe_still_counts() -> None:
    breaker = opened()
    breaker.begin(11.0)
    breaker.begin(16.0)

    change = breaker.fail(17.0, 11.0, "timeout", is_probe=True)

    assert change == "open"


def test_probe_that_outlives_an_opening_keeps_its_place_and_has_no_say() -> None:
    breaker = opened(probes=2)
    breaker.begin(11.0)
    breaker.begin(11.1)
    breaker.fail(11.2, 11.0, "timeout", is_probe=True)

    begun = [breaker.begin(13.2), breaker.begin(13.2)]
    change = breaker.fail(13.3, 11.1, "timeout", is_probe=True)

    assert (begun, change, breaker.state) == ([True, False], None, "half_open")
    assert breaker.begin(13.3)


def test_next_probe_waits_for_a_place_when_all_are_held_and_says_so() -> None:
    breaker = opened()
    breaker.begin(11.0)
    breaker.begin(16.0)  # in the place of the first, which got lost
    breaker.fail(16.1, 11.0, "timeout", is_probe=True)

    assert breaker.until_s == 21.0
    assert (breaker.admits(20.9), breaker.admits(21.0)) == (False, True)


def test_probe_that_succeeds_when_all_is_calm_again_gives_its_place_back() -> None:
    breaker = opened(slowStart=0)
    breaker.begin(11.0)
    breaker.succeed(11.2, 11.1)
    breaker.succeed(11.3, 11.2)
    assert breaker.is_calm

    breaker.succeed(11.4, 11.0, is_probe=True)
    fail(breaker, 3, 12.0)

    assert breaker.until_s == 14.0


# -- late reports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("began_s", [5.0, 10.0])
def test_success_that_began_before_the_opening_does_not_close_it(began_s: float) -> None:
    breaker = opened()

    changes = [breaker.succeed(10.5, began_s), breaker.begin(11.0), breaker.succeed(11.5, began_s)]

    assert changes == [None, True, None]
    assert breaker.state == "half_open"


def test_failures_that_began_before_the_closing_do_not_open_it_again() -> None:
    breaker = opened()
    probe(breaker, 11.0, is_good=True)

    changes = [breaker.fail(12.0, began_s, "timeout") for began_s in (5.0, 9.0, 10.5, 10.8, 10.9)]

    assert changes == [None] * 5
    assert breaker.state == "closed"


def test_failures_of_requests_that_were_let_in_while_half_open_change_nothing() -> None:
    breaker = opened()
    breaker.begin(11.0)
    is_probe = breaker.begin(11.1)

    change = breaker.fail(11.2, 11.1, "timeout")

    assert (is_probe, change, breaker.state) == (False, None, "half_open")


# -- panic: asked all the same --------------------------------------------------------------------------------------


def test_success_of_somebody_asked_all_the_same_counts_like_a_probe() -> None:
    breaker = opened()
    is_probe = breaker.begin(10.2)

    change = breaker.succeed(10.4, 10.2)

    assert (is_probe, change) == (False, "closed")


def test_failure_of_somebody_asked_all_the_same_makes_nothing_longer() -> None:
    breaker = opened()

    changes = [breaker.fail(10.0 + late_s, 10.0 + late_s, "timeout") for late_s in (0.2, 0.4, 0.6)]

    assert changes == [None] * 3
    assert (breaker.state, breaker.until_s, breaker.cooldown_s) == ("open", 11.0, 1.0)


def test_closed_early_it_opens_again_when_the_first_cooldown_is_over_and_not_before() -> None:
    breaker = opened()
    breaker.succeed(10.2, 10.1)

    early = [breaker.fail(10.3 + step / 10, 10.3, "timeout") for step in range(6)]
    late = breaker.fail(11.0, 10.9, "timeout")

    assert (early, late) == ([None] * 6, "open")
    assert breaker.cooldown_s == 2.0


# -- after recovery -------------------------------------------------------------------------------------------------


def test_share_grows_evenly_after_recovery_and_the_calm_returns() -> None:
    breaker = opened(slowStart=10.0)
    probe(breaker, 11.0, is_good=True)

    shares = [breaker.share(now_s) for now_s in (11.0, 16.0, 21.0, 30.0)]
    breaker.succeed(20.9, 20.0)
    before = breaker.is_calm
    breaker.succeed(21.0, 20.5)

    assert shares == pytest.approx([FIRST_SHARE, 0.55, 1.0, 1.0])
    assert (before, breaker.is_calm) == (False, True)


def test_no_slow_start_gives_the_whole_share_at_once() -> None:
    breaker = opened(slowStart=0)

    probe(breaker, 11.0, is_good=True)

    assert breaker.share(11.0) == 1.0


def test_what_was_counted_before_the_opening_is_forgotten_after_recovery() -> None:
    breaker = make(failures=9, minRequests=10, window=30.0)
    fail(breaker, 9, 10.0)
    probe(breaker, 11.0, is_good=True)

    fail(breaker, 8, 12.0)

    assert breaker.state == "closed"


@pytest.mark.parametrize(("calm_s", "cooldown_s"), [(9.9, 2.0), (COOLDOWNS_TO_FORGET * 1.0, 1.0)])
def test_cooldown_goes_on_growing_unless_it_stayed_closed_long_enough(calm_s: float, cooldown_s: float) -> None:
    breaker = opened()
    probe(breaker, 11.0, is_good=True)

    fail(breaker, 3, 11.0 + calm_s)

    assert (breaker.state, breaker.cooldown_s) == ("open", cooldown_s)


# -- operators ------------------------------------------------------------------------------------------------------


def test_reset_closes_it_and_forgets_the_growth() -> None:
    breaker = opened()
    probe(breaker, 11.0, is_good=False)

    changes = [breaker.reset(12.0), breaker.reset(12.0)]
    fail(breaker, 3, 12.0)

    assert changes == ["closed", None]
    assert (breaker.state, breaker.cooldown_s) == ("open", 1.0)


def test_shorter_cooldown_holds_at_once_and_a_longer_one_the_next_time() -> None:
    breaker = opened(cooldown=60.0, maxCooldown=60.0)
    settings = breaker.settings

    breaker.resettle(settings.model_copy(update={"cooldown": 2.0}), 10.5)
    shorter = breaker.until_s
    breaker.resettle(settings.model_copy(update={"cooldown": 30.0}), 10.5)

    assert (shorter, breaker.until_s, breaker.state) == (12.0, 12.0, "open")
    probe(breaker, 12.0, is_good=True)
    fail(breaker, 3, 1000.0)
    assert breaker.cooldown_s == 30.0


def test_longest_cooldown_made_shorter_holds_at_once() -> None:
    breaker = opened(cooldown=60.0, maxCooldown=60.0)

    breaker.resettle(breaker.settings.model_copy(update={"cooldown": 1.0, "max_cooldown": 5.0}), 10.5)

    assert breaker.until_s <= 15.0


def test_switching_it_off_closes_it_and_back_on_it_starts_anew() -> None:
    breaker = opened()
    on = breaker.settings

    changes = [breaker.resettle(on.model_copy(update={"enabled": False}), 10.5), breaker.resettle(on, 10.6)]
    fail(breaker, 2, 10.7)

    assert changes == ["closed", None]
    assert (breaker.state, breaker.reason) == ("closed", None)
