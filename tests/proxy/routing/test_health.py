"""Whether a provider may be asked now, and what each outcome of an attempt does to that."""

import pytest

from proxy.config.models import ProviderSettings
from proxy.config.routing_models import BreakerSettings
from proxy.routing.failures import Verdict
from proxy.routing.health import LANE_PROBE, MOST_LANES, PROVIDER_PROBE, Absence, ProviderHealth

SETTINGS = BreakerSettings.model_validate({"failures": 2, "cooldown": 10, "maxCooldown": 40})
KEYS = ("sk-aaaaaaaaaaaa1111", "sk-bbbbbbbbbbbb2222")
AS_PROVIDER = Verdict("connect", "provider")
AS_MODEL = Verdict("overloaded", "model")


def health(keys: tuple[str, ...] = (), **settings: object) -> ProviderHealth:
    return ProviderHealth("p", BreakerSettings.model_validate({**SETTINGS.model_dump(by_alias=True), **settings}), keys)


def fail(one: ProviderHealth, verdict: Verdict, now_s: float, model: str = "m") -> None:
    lane = one.lane(model)
    one.fail(lane, now_s, one.begin(lane, now_s), now_s, verdict, "upstream_error")


def cause(absence: Absence | None) -> str | None:
    return None if absence is None else absence.cause


def test_failing_provider_is_left_out_with_all_its_models_and_a_failing_model_alone() -> None:
    broken, picky = health(), health()
    for second in (1.0, 2.0):
        fail(broken, AS_PROVIDER, second)
        fail(picky, AS_MODEL, second)

    assert cause(broken.absence(broken.lane("m"), 3.0)) == cause(broken.absence(broken.lane("other"), 3.0)) == "open"
    assert cause(picky.absence(picky.lane("m"), 3.0)) == "open"
    assert picky.absence(picky.lane("other"), 3.0) is None


def test_absence_tells_why_and_until_when() -> None:
    one = health()
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second)

    absence = one.absence(one.lane("m"), 3.0)

    assert absence == Absence(
        "open", "the circuit of the model m is open: 2 failures in a row: upstream_error", 12.0, is_hard=False
    )


def test_request_that_went_wrong_by_its_own_fault_speaks_for_the_provider() -> None:
    one = health()
    fail(one, AS_MODEL, 1.0)
    fail(one, Verdict(None), 2.0)

    fail(one, AS_MODEL, 3.0)

    assert one.absence(one.lane("m"), 4.0) is None


def test_limits_of_a_key_are_no_failure_of_model_or_provider() -> None:
    one = health()
    for second in range(1, 20):
        fail(one, Verdict("rate-limit", "key"), float(second))

    assert one.absence(one.lane("m"), 20.0) is None


def test_probe_closes_both_circuits_it_went_through() -> None:
    one = health()
    lane = one.lane("m")
    for second in (1.0, 2.0):
        fail(one, AS_PROVIDER, second)
        fail(one, AS_MODEL, second)

    probes = one.begin(lane, 20.0)
    changes = one.succeed(lane, 20.0, probes, 21.0)

    assert probes == PROVIDER_PROBE | LANE_PROBE
    assert [(change.what, change.state) for change in changes] == [("p", "closed"), ("p/m", "closed")]
    assert not one.has_open_circuit


def test_cancelled_probe_gives_its_place_back() -> None:
    one = health()
    lane = one.lane("m")
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second)
    probes = one.begin(lane, 20.0)
    assert one.absence(lane, 20.5) is not None

    one.cancel(lane, 20.0, probes, 21.0)

    assert one.absence(lane, 21.0) is None


def test_probe_of_our_own_keeps_requests_away_until_it_is_answered() -> None:
    one = health()
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second)

    one.awaits_probe = True
    meanwhile = one.absence(one.lane("m"), 30.0)
    one.awaits_probe = False
    one.hasten(5.0)

    assert cause(meanwhile) == "open"
    assert one.absence(one.lane("m"), 5.0) is None


def test_drained_provider_is_out_for_good_and_nothing_else_is() -> None:
    one = health()

    one.drained_s = 1.0

    assert one.absence(one.lane("m"), 2.0) == Absence("drained", "drained by an operator", None, is_hard=True)
    assert not one.is_calm(one.lane("m"), 2.0)


def test_all_keys_at_rest_leave_a_model_out_and_no_other() -> None:
    one = health(KEYS)
    lane = one.lane("m")
    assert lane.keys is not None
    for key in lane.keys.keys:
        lane.keys.refused(key, 1.0)

    absence = one.absence(lane, 2.0)

    assert absence is not None
    assert (absence.cause, absence.is_hard, absence.until_s) == ("auth", False, 11.0)
    assert absence.reason == "all 2 keys are left alone: the provider refused the key"
    assert one.absence(one.lane("other"), 2.0) is None


def test_providers_own_time_is_kept_even_where_nobody_else_is_left() -> None:
    one = health(KEYS[:1])
    lane = one.lane("m")
    assert lane.keys is not None
    (key,) = lane.keys.keys
    lane.keys.limited(key, 1.0, 30.0)

    absence = one.absence(lane, 2.0)

    assert absence is not None
    assert (absence.cause, absence.is_hard, absence.until_s) == ("rate-limit", True, 31.0)
    assert one.key_for(lane, 2.0) is None
    assert one.key_for(lane, 31.0) is key


def test_model_that_asked_to_be_left_alone_is_until_then_and_until_a_reset() -> None:
    one = health()
    lane = one.lane("m")

    lane.rest(1.0, 30.0)
    absence = one.absence(lane, 2.0)

    assert absence == Absence("rate-limit", "rate limit, and the provider said when to come back", 31.0, is_hard=True)
    assert not one.is_calm(lane, 2.0)
    assert one.absence(one.lane("other"), 2.0) is None
    assert one.absence(lane, 31.0) is None
    lane.rest(31.0, 30.0)
    assert lane.cooldowns(32.0) == 1
    lane.reset(32.0)
    assert one.absence(lane, 32.0) is None


def test_switched_off_circuits_leave_nobody_out_but_the_drained() -> None:
    one = health(KEYS[:1], enabled=False)
    lane = one.lane("m")
    assert lane.keys is not None
    (key,) = lane.keys.keys
    for second in range(1, 20):
        fail(one, AS_PROVIDER, float(second))
    lane.keys.limited(key, 20.0, 30.0)

    assert one.absence(lane, 21.0) is None
    assert one.key_for(lane, 21.0) is key
    one.drained_s = 22.0
    assert cause(one.absence(lane, 23.0)) == "drained"


def test_new_settings_keep_what_was_seen() -> None:
    one = health(KEYS)
    lane = one.lane("m")
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second)
    assert lane.keys is not None
    lane.keys.refused(lane.keys.keys[0], 2.0)
    provider = ProviderSettings.model_validate(
        {"type": "openai", "baseUrl": "http://a.test", "maxConcurrency": 7, "adaptiveConcurrency": "aimd"}
    )

    one.resettle(provider, SETTINGS, (KEYS[0], "sk-cccccccccccc3333"), 3.0)

    assert cause(one.absence(lane, 3.0)) == "open"
    assert [key.refused_until_s > 3.0 for key in lane.keys.keys] == [True, False]
    assert one.adaptive is not None
    assert one.adaptive.limit <= 7


def test_reset_forgets_everything_that_went_wrong() -> None:
    one = health(KEYS)
    lane = one.lane("m")
    for second in (1.0, 2.0):
        fail(one, AS_PROVIDER, second)
        fail(one, AS_MODEL, second)
    assert lane.keys is not None
    for key in lane.keys.keys:
        lane.keys.limited(key, 2.0, 60.0)
    lane.slow_until_s = 99.0

    one.reset(3.0)

    assert one.is_calm(lane, 3.0)
    assert one.absence(lane, 3.0) is None


def test_made_up_models_do_not_grow_the_memory_and_failing_ones_are_not_forgotten_for_them() -> None:
    one = health()
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second, "failing")

    for number in range(3 * MOST_LANES):
        one.lane(f"made-up-{number}")

    assert len(list(one.lanes())) <= MOST_LANES
    assert cause(one.absence(one.lane("failing"), 3.0)) == "open"


def test_keys_at_rest_and_usual_times_are_not_forgotten_for_made_up_models() -> None:
    one = health(KEYS)
    lane, used = one.lane("m"), one.lane("used")
    assert lane.keys is not None
    lane.keys.limited(lane.keys.keys[0], 1.0, 600.0)
    used.observe(0.2, 0.5, 1.0, is_streaming=True)

    for number in range(3 * MOST_LANES):
        one.lane(f"made-up-{number}")

    assert one.lane("m") is lane
    assert one.lane("used") is used
    assert len(list(one.lanes())) <= MOST_LANES


def test_more_models_than_are_told_apart_are_forgotten_calm_ones_first() -> None:
    one = health(KEYS)
    for number in range(MOST_LANES - 1):
        one.lane(f"used-{number}").observe(0.2, 0.5, 1.0, is_streaming=True)
    for second in (1.0, 2.0):
        fail(one, AS_MODEL, second, "failing")

    one.lane("one more").observe(0.2, 0.5, 1.0, is_streaming=True)

    assert len(list(one.lanes())) <= MOST_LANES
    assert cause(one.absence(one.lane("failing"), 3.0)) == "open"


def test_models_are_bounded_even_if_all_of_them_fail() -> None:
    one = health()
    for number in range(2 * MOST_LANES):
        for second in (1.0, 2.0):
            fail(one, AS_MODEL, second, f"failing-{number}")

    assert len(list(one.lanes())) == MOST_LANES


@pytest.mark.parametrize("tried", [0, 1, 2])
def test_key_that_was_tried_is_not_used_again(tried: int) -> None:
    one = health(KEYS)
    lane = one.lane("m")
    assert lane.keys is not None
    used = lane.keys.keys[:tried]

    key = one.key_for(lane, 1.0, used)

    assert key not in used
    assert (key is None) is (tried == 2)
