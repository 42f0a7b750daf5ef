"""What operators are told of a provider, its models and its keys: every state there is, and how one comes into it."""

import orjson
import pytest

from proxy.config.routing_models import BreakerSettings
from proxy.routing.failures import Verdict
from proxy.routing.health import ProviderHealth
from proxy.routing.key_state import key_rows
from proxy.routing.lane import Lane
from proxy.routing.quota import Quota
from proxy.routing.state import (
    LEAST_CALLS,
    MOST_SHOWN,
    NOT_CALLED,
    Condition,
    condition_of_provider,
    model_rows,
    models_left_out,
)

KEYS = ("sk-first-0123456789-aaaa", "sk-second-0123456789-bbbb")
OF_MODEL = Verdict("server-error", "model")
OF_PROVIDER = Verdict("connect", "provider")
SETTINGS = BreakerSettings.model_validate({"failures": 3, "cooldown": 1, "maxCooldown": 4, "slowStart": 10})


class Rig:
    """A provider with two keys, at 100 s on its clock."""

    def __init__(self, settings: BreakerSettings = SETTINGS, keys: tuple[str, ...] = KEYS) -> None:
        self.health = ProviderHealth("p", settings, keys)
        self.now_s = 100.0
        self.calls = self.failures = 0

    def lane(self, model: str | None = "m") -> Lane:
        return self.health.lane(model)

    def succeed(self, model: str | None = "m") -> None:
        lane = self.lane(model)
        self.health.succeed(lane, self.now_s, self.health.begin(lane, self.now_s), self.now_s)
        lane.observe(0.2, 0.9, self.now_s, is_streaming=True)
        self.calls += 1

    def fail(self, verdict: Verdict = OF_MODEL, model: str | None = "m", times: int = 3) -> None:
        for _ in range(times):
            lane = self.lane(model)
            probes = self.health.begin(lane, self.now_s)
            self.health.fail(lane, self.now_s, probes, self.now_s, verdict, "upstream_rejected")
            self.calls += 1
            self.failures += 1

    @property
    def condition(self) -> Condition:
        return condition_of_provider(self.health, self.calls, self.failures, self.now_s)

    def rows(self) -> list[tuple[str | None, str, str | None]]:
        return [(row["model"], row["state"], row["why"]) for row in model_rows(self.health, when, self.now_s)]


def when(time_s: float | None) -> str | None:
    return None if time_s is None else f"at {time_s:g}"


# -- providers -------------------------------------------------------------------------------------------------------


def test_provider_that_was_not_called_is_unknown() -> None:
    assert Rig().condition == Condition("unknown", NOT_CALLED)


def test_provider_that_answers_is_ok() -> None:
    rig = Rig()

    rig.succeed()

    assert rig.condition == Condition("ok")
    assert rig.rows() == [("m", "ok", None)]


def test_drained_provider_says_since_when_whatever_else_is_wrong() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)

    rig.health.drained_s = 90.0

    assert rig.condition == Condition("drained", "drained by an operator", 90.0)
    assert rig.rows() == [("m", "drained", "the whole provider: drained by an operator")]


def test_open_circuit_tells_why_since_when_and_until_when() -> None:
    rig = Rig()

    rig.fail(OF_PROVIDER)

    assert rig.condition == Condition("open", "3 failures in a row: upstream_rejected", 100.0, 101.0)
    assert rig.rows() == [("m", "open", "the whole provider: 3 failures in a row: upstream_rejected")]


def test_open_circuit_whose_time_is_over_waits_for_a_request() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)

    rig.now_s = 107.0

    expected = "3 failures in a row: upstream_rejected; its next request tries it out"
    assert rig.condition == Condition("open", expected, 100.0, 107.0)


def test_open_circuit_that_the_proxy_probes_itself_says_so() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)

    rig.health.awaits_probe = True

    assert rig.condition.until_s is None
    assert rig.condition.why.endswith("the proxy itself probes it (activeProbe)")


def test_circuit_with_a_probe_under_way_is_half_open() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)

    rig.now_s = 102.0
    rig.health.begin(rig.lane(), rig.now_s)

    expected = "3 failures in a row: upstream_rejected; a request is trying it out"
    assert rig.condition == Condition("half_open", expected, 102.0)


def test_provider_that_comes_back_is_degraded_until_it_has_its_whole_share() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)
    rig.now_s = 102.0
    rig.succeed()
    rig.calls += 10

    rig.now_s = 107.0
    at_half = rig.condition
    rig.now_s = 112.0
    rig.succeed()

    assert (at_half.state, at_half.since_s, at_half.until_s) == ("degraded", 102.0, 112.0)
    assert at_half.why.startswith("coming back, with 55% of its share")
    assert rig.condition == Condition("ok", "", 102.0)


def test_provider_of_which_one_model_in_use_fails_is_degraded() -> None:
    rig = Rig()
    rig.succeed("good")
    rig.calls += 10

    rig.fail(model="bad")

    assert rig.condition == Condition("degraded", "model bad: 3 failures in a row: upstream_rejected", 100.0, 101.0)
    assert rig.rows() == [("bad", "open", "3 failures in a row: upstream_rejected"), ("good", "ok", None)]


@pytest.mark.parametrize("models", [1, 3])
def test_provider_of_which_every_model_in_use_fails_is_open(models: int) -> None:
    rig = Rig()
    rig.succeed("unused for an hour")
    rig.now_s += 3600
    rig.calls += 100

    for number in range(models):
        rig.now_s += 0.1
        rig.fail(model=f"m{number}")

    condition = rig.condition
    assert (condition.state, condition.since_s) == ("open", rig.now_s)
    assert condition.why.endswith("model m0: 3 failures in a row: upstream_rejected")
    assert condition.why.startswith("none of the 3 models in use") is (models == 3)
    assert condition.until_s == pytest.approx(3700.1 + 1.0)


def test_provider_most_of_whose_calls_fail_though_it_may_be_asked_is_failing() -> None:
    rig = Rig(BreakerSettings.model_validate({"enabled": False}))

    rig.succeed()
    rig.fail(times=7)

    assert rig.condition == Condition("failing", "7 of 8 calls failed in the last minutes")


@pytest.mark.parametrize(("failures", "state"), [(1, "ok"), (LEAST_CALLS - 1, "ok"), (LEAST_CALLS, "failing")])
def test_few_failed_calls_do_not_make_a_provider_failing(failures: int, state: str) -> None:
    rig = Rig(BreakerSettings.model_validate({"enabled": False}))

    rig.fail(times=failures)

    assert rig.condition.state == state


def test_failing_provider_names_the_model_that_is_left_out() -> None:
    rig = Rig()
    rig.succeed("good")

    rig.fail(model="bad", times=LEAST_CALLS)

    assert rig.condition.state == "failing"
    assert rig.condition.why.endswith("; model bad: 3 failures in a row: upstream_rejected")


def test_slow_model_is_left_out_for_a_while() -> None:
    rig = Rig()
    rig.succeed()
    rig.lane("other").observe(0.1, 0.1, rig.now_s, is_streaming=False)

    rig.lane().slow_until_s, rig.lane().slow_reason = 120.0, "usual time to first byte 9.0 s, 1.0 s elsewhere"

    expected = "slow: usual time to first byte 9.0 s, 1.0 s elsewhere"
    assert rig.rows()[0] == ("m", "open", expected)
    assert rig.condition == Condition("degraded", f"model m: {expected}", 90.0, 120.0)


@pytest.mark.parametrize(("refused", "state"), [(1, "degraded"), (2, "open")])
def test_model_is_out_once_all_its_keys_rest_and_degraded_before(refused: int, state: str) -> None:
    rig = Rig()
    rig.succeed()
    keys = rig.lane().keys
    assert keys is not None

    for key in keys.keys[:refused]:
        rig.now_s += 1
        keys.refused(key, rig.now_s)

    condition = rig.condition
    assert condition.state == state
    assert "the provider refused the key" in condition.why
    assert (condition.since_s, condition.until_s) == (rig.now_s, 111.0)
    assert models_left_out(rig.health, rig.now_s) == (condition.why if refused == 2 else "")


def test_model_without_quota_is_out_since_the_provider_said_so() -> None:
    rig = Rig(keys=KEYS[:1])
    rig.succeed()
    keys = rig.lane().keys
    assert keys is not None

    keys.used(keys.keys[0], 103.0, 102.0, Quota(0, None, 7.0, None))
    rig.now_s = 104.0

    expected = "model m: the key is left alone: nothing is left until the limit starts anew"
    assert rig.condition == Condition("open", expected, 103.0, 110.0)


def test_breaker_that_is_off_leaves_nothing_out() -> None:
    rig = Rig(BreakerSettings.model_validate({"enabled": False}), KEYS[:1])
    rig.succeed()
    keys = rig.lane().keys
    assert keys is not None

    keys.refused(keys.keys[0], rig.now_s)
    rig.lane("slow").slow_until_s = 200.0

    assert rig.condition.state == "degraded"
    assert models_left_out(rig.health, rig.now_s) == ""


def test_requests_without_a_model_have_a_name_too() -> None:
    rig = Rig()

    rig.fail(model=None)

    assert rig.condition.why.startswith("requests that name no model: ")


def test_models_are_listed_worst_first_and_not_without_end() -> None:
    rig = Rig()
    for number in range(30):
        rig.succeed(f"well-{number:02}")
    rig.fail(model="z-bad")

    rows = model_rows(rig.health, when, rig.now_s)

    assert len(rows) == MOST_SHOWN
    assert [row["model"] for row in rows[:3]] == ["z-bad", "well-00", "well-01"]


def test_row_of_a_model_tells_its_times() -> None:
    rig = Rig()

    rig.succeed()
    rig.fail()
    row = model_rows(rig.health, when, rig.now_s)[0]

    assert (row["since"], row["until"]) == ("at 100", "at 101")
    assert 100 <= row["timeToFirstByteMs"]["p50"] <= 250
    assert 500 <= row["latencyMs"]["p95"] <= 1000


def test_what_a_reset_made_undone_is_counted() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)
    rig.fail(model="n")
    keys = rig.lane().keys
    assert keys is not None
    keys.refused(keys.keys[0], rig.now_s)
    rig.lane("slow").slow_until_s = 200.0

    first, second = rig.health.reset(rig.now_s), rig.health.reset(rig.now_s)

    assert (first.circuits, first.cooldowns) == (("p", "p/n"), 2)
    assert (second.circuits, second.cooldowns) == ((), 0)
    assert not models_left_out(rig.health, rig.now_s)


# -- keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_listed_before_any_was_used_and_never_in_clear() -> None:
    rows = key_rows(Rig().health, when, 100.0)

    assert [(row["key"], row["state"], row["models"]) for row in rows] == [("…aaaa", "ok", []), ("…bbbb", "ok", [])]


def test_key_is_shown_as_it_is_where_it_does_worst_with_the_models_it_rests_for() -> None:
    rig = Rig()
    for model in ("a", "b", "c"):
        rig.succeed(model)
    pools = [lane.keys for lane in rig.health.lanes()]
    for pool, retry_after_s in zip(pools[:2], (5.0, 50.0), strict=True):
        assert pool is not None
        pool.limited(pool.keys[1], 100.0, retry_after_s)

    first, second = key_rows(rig.health, when, 101.0)

    assert (first["state"], first["models"]) == ("ok", [])
    assert (second["key"], second["state"], second["models"]) == ("…bbbb", "cooling", ["b", "a"])
    assert (second["until"], second["failures"]) == ("at 150", 1)
    assert second["reason"] == "rate limit, and the provider said when to come back"


def test_scarcest_quota_is_shown_with_its_model_and_age() -> None:
    rig = Rig()
    for model, left in (("a", 90), ("b", 7), ("c", 50)):
        keys = rig.lane(model).keys
        assert keys is not None
        keys.used(keys.keys[0], 100.0, 99.0, Quota(left, left * 10, 30.0, None))

    row = key_rows(rig.health, when, 105.0)[0]

    told = (row["remainingRequests"], row["remainingTokens"], row["quotaModel"], row["quotaAt"])
    assert told == (7, 70, "b", "at 100")


def test_no_row_shows_more_than_four_characters_of_a_key() -> None:
    rig = Rig()
    rig.fail(OF_PROVIDER)
    rig.succeed()

    text = orjson.dumps([key_rows(rig.health, when, 101.0), model_rows(rig.health, when, 101.0)]).decode()

    assert not any(key[start : start + 5] in text for key in KEYS for start in range(len(key) - 4))
