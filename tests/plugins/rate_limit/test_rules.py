"""Which rules hold for whom, and that a request is charged by all of them or by none."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit.settings import RateLimitConfig
from proxy.callers import Allowance, Identity
from proxy.errors import UnknownModel
from proxy.exchange import Candidate, Operation
from tests.plugins.rate_limit.rig import LimitRig, request

ALGORITHMS = ["token-bucket", "gcra", "fixed-window", "sliding-window", "sliding-log"]


def test_it_is_off_unless_switched_on_and_then_allows_a_thousand_in_an_hour() -> None:
    config = RateLimitConfig()

    assert (config.enabled, config.algorithm, config.per_hour, config.burst_size) == (False, "token-bucket", 1000, 50)
    assert LimitRig(perHour=1000).admitted(60) == 50


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_of_a_thousand_at_once_exactly_as_many_pass_as_the_limit_says(algorithm: str) -> None:
    rig = LimitRig(perMinute=100, burstSize=100, algorithm=algorithm)

    async def ask() -> bool:
        await asyncio.sleep(0)
        return rig.passes()

    assert sum(await asyncio.gather(*(ask() for _ in range(1000)))) == 100


@pytest.mark.parametrize(
    ("name", "seconds"), [("perSecond", 1), ("perMinute", 60), ("perHour", 3600), ("perDay", 86400)]
)
def test_simple_form_counts_requests_of_each_caller(name: str, seconds: int) -> None:
    rig = LimitRig(**{name: 3}, algorithm="sliding-log")

    assert rig.admitted(5) == 3
    assert rig.admitted(5, lambda: request("sk-bob-0000001")) == 3
    rig.now_s += seconds
    assert rig.admitted(5) == 3


def test_burst_size_is_the_depth_of_buckets_and_windows_ignore_it() -> None:
    assert LimitRig(perMinute=100, burstSize=7).admitted(200) == 7
    assert LimitRig(perMinute=100, burstSize=7, algorithm="fixed-window").admitted(200) == 100


def test_callers_without_key_are_told_apart_by_address() -> None:
    rig = LimitRig(perMinute=2, burstSize=2)

    assert rig.admitted(3, lambda: request(None, peer="192.0.2.1")) == 2
    assert rig.admitted(3, lambda: request(None, peer="192.0.2.2")) == 2


@pytest.mark.parametrize(
    ("per", "same", "other"),
    [
        ("caller", {"caller": "sk-alice-000001", "peer": "192.0.2.9"}, {"caller": "sk-bob-0000001"}),
        ("ip", {"caller": "sk-bob-0000001"}, {"peer": "192.0.2.9"}),
        ("route", {"caller": "sk-bob-0000001"}, {"operation": Operation("anthropic", "chat", "POST", "/v1/messages")}),
        ("header:x-TEAM", {"caller": "sk-bob-0000001"}, {"headers": {"X-Team": "blue"}}),
    ],
)
def test_rule_counts_for_each_of_its_dimension(per: str, same: dict[str, Any], other: dict[str, Any]) -> None:
    rig = LimitRig(rules=[{"name": "two", "per": [per], "amount": 2}])

    assert rig.admitted(2) == 2
    assert not rig.passes(request(**same))
    assert rig.admitted(3, lambda: request(**other)) == 2


def test_rule_for_all_counts_everybody_together() -> None:
    rig = LimitRig(rules=[{"name": "whole", "per": ["all"], "amount": 3}])

    assert rig.admitted(2) + rig.admitted(2, lambda: request("sk-bob-0000001")) == 3


def test_model_and_provider_are_those_of_the_first_candidate() -> None:
    """Otherwise an alias, and each name of a model, would be a limit of its own."""
    rig = LimitRig(
        rules=[{"name": "m", "per": ["model"], "amount": 2}, {"name": "p", "per": ["provider"], "amount": 3}]
    )

    assert [rig.passes(request(model=name)) for name in ("fast", "openai/gpt-4o", "gpt-4o")] == [True, True, False]
    rig.targets = lambda exchange: [Candidate("openai", "gpt-5")]
    assert [rig.passes() for _ in range(2)] == [True, False]


def test_unknown_models_share_one_limit_and_are_refused_by_who_looks_for_a_provider() -> None:
    rig = LimitRig(rules=[{"name": "m", "per": ["model"], "amount": 2}])

    def nobody(exchange: object) -> list[Candidate]:
        raise UnknownModel("no such model")

    rig.targets = nobody

    assert [rig.passes(request(model=name)) for name in ("a", "b", "c")] == [True, True, False]


def test_several_dimensions_count_each_combination() -> None:
    rig = LimitRig(rules=[{"name": "both", "per": ["caller", "header:X-Team"], "amount": 1}])

    callers, teams = ("sk-alice-000001", "sk-bob-0000001"), ("red", "blue")

    made = [rig.admitted(2, lambda: request(who, headers={"X-Team": team})) for who in callers for team in teams]  # noqa: B023  # called at once
    assert made == [1, 1, 1, 1]


def test_rule_for_some_models_leaves_the_others_alone() -> None:
    rig = LimitRig(rules=[{"name": "dear", "per": ["all"], "amount": 1, "models": ["gpt-5*", "o?"]}])

    assert [rig.passes(request(model=name)) for name in ("gpt-5-pro", "o3", "gpt-4o", "gpt-4o")] == [
        True,
        False,
        True,
        True,
    ]


def test_rule_for_some_models_holds_for_an_alias_of_them() -> None:
    rig = LimitRig(
        [Candidate("openai", "gpt-5-pro")], rules=[{"name": "dear", "per": ["all"], "amount": 1, "models": ["gpt-5*"]}]
    )

    assert [rig.passes(request(model="fast")) for _ in range(2)] == [True, False]


def test_refused_request_takes_nothing_from_the_rules_that_have_room() -> None:
    rig = LimitRig(perMinute=10, burstSize=10, rules=[{"name": "whole", "per": ["all"], "amount": 2}])

    rig.admitted(9)
    rig.now_s += 60

    assert rig.admitted(9) == 2
    rig.change(perMinute=10, burstSize=10)
    assert rig.admitted(20) == 8


def test_shadow_rule_reports_and_refuses_nobody() -> None:
    rig = LimitRig(rules=[{"name": "tried", "per": ["caller"], "amount": 2, "mode": "shadow"}])

    assert rig.admitted(5) == 5
    (event,) = rig.told("rate_limited")
    assert "tried (shadow) would refuse" in event.message
    decisions = dict(rig.plugin._decisions.items())
    assert {labels: value.value for labels, value in decisions.items() if value.value} == {
        ("tried", "admitted"): 2,
        ("tried", "would_refuse"): 3,
    }


def test_shadow_rule_is_not_told_to_clients() -> None:
    rig = LimitRig(rules=[{"name": "tried", "amount": 2, "mode": "shadow"}])
    exchange = request()

    rig.passes(exchange)

    assert exchange.told == b""


class TestOwnLimits:
    @pytest.mark.parametrize(
        ("name", "exchange"),
        [
            ("peer:192.0.2.1", {"caller": None}),
            ("192.0.2.1", {"caller": None}),
            ("team-red", {"identity": Identity("id-1", "team-red")}),
            ("id-1", {"identity": Identity("id-1", "team-red")}),
            ("key:id-1", {"identity": Identity("id-1", "team-red")}),
        ],
    )
    def test_caller_is_found_by_name_id_or_address(self, name: str, exchange: dict[str, Any]) -> None:
        rig = LimitRig(perMinute=2, algorithm="fixed-window", callers={name: {"perMinute": 5}})

        assert rig.admitted(9, lambda: request(**exchange)) == 5
        assert rig.admitted(9, lambda: request("sk-bob-0000001", peer="192.0.2.2")) == 2

    def test_address_in_callers_is_not_that_of_one_who_shows_a_key(self) -> None:
        rig = LimitRig(perMinute=2, algorithm="fixed-window", callers={"192.0.2.1": {"perMinute": 5}})

        assert rig.admitted(9) == 2

    def test_exempt_caller_is_held_by_rules_for_all_only(self) -> None:
        rig = LimitRig(
            perMinute=2,
            algorithm="fixed-window",
            callers={"peer:192.0.2.1": {"exempt": True}},
            rules=[{"name": "whole", "per": ["all"], "amount": 7}],
        )

        assert rig.admitted(20, lambda: request(None)) == 7

    def test_single_rule_has_another_amount(self) -> None:
        rule = {"name": "listed", "amount": 2, "algorithm": "fixed-window"}
        rig = LimitRig(rules=[rule], callers={"peer:192.0.2.1": {"rules": {"listed": {"amount": 4}}}})

        assert rig.admitted(9, lambda: request(None)) == 4

    def test_change_for_one_caller_is_live_and_forgets_nothing(self) -> None:
        rig = LimitRig(perMinute=2, algorithm="fixed-window")
        rig.admitted(9, lambda: request(None))

        rig.change(perMinute=2, algorithm="fixed-window", callers={"peer:192.0.2.1": {"perMinute": 5}})

        assert rig.admitted(9, lambda: request(None)) == 3

    async def test_asking_what_would_hold_by_other_rules_changes_no_count(self) -> None:
        rig = LimitRig(perHour=10, burstSize=5, callers={"peer:192.0.2.1": {"perHour": 100, "burstSize": 100}})
        rig.admitted(60, lambda: request(None))
        rig.now_s += 1200

        levels = await rig.plugin.levels(request(None), rig.plugin.sets.general)

        assert levels[0].wait_us > 0
        assert rig.admitted(200, lambda: request(None)) == 73

    def test_limits_of_a_virtual_key_hold_besides_the_general_ones(self) -> None:
        rig = LimitRig(perHour=4, algorithm="fixed-window")
        key = Identity("id-1", "team-red", (Allowance("requests", 3, 60),))

        assert rig.admitted(9, lambda: request(identity=key)) == 3
        rig.now_s += 60
        assert rig.admitted(9, lambda: request(identity=key)) == 1

    def test_limits_of_a_virtual_key_are_kept_through_a_change_of_the_settings(self) -> None:
        rig = LimitRig(algorithm="fixed-window")
        key = Identity("id-1", "team-red", (Allowance("requests", 3, 60),))
        rig.admitted(9, lambda: request(identity=key))

        rig.change(algorithm="fixed-window", maxBuckets=10)

        assert not rig.passes(request(identity=key))


@pytest.mark.parametrize("after", ALGORITHMS)
@pytest.mark.parametrize("before", ALGORITHMS)
def test_algorithm_changed_live_forgets_nothing(before: str, after: str) -> None:
    rig = LimitRig(perMinute=10, burstSize=10, algorithm=before)
    rig.admitted(6)

    rig.change(perMinute=10, burstSize=10, algorithm=after)

    assert rig.admitted(20) == 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lower_limit_holds_at_once(algorithm: str) -> None:
    rig = LimitRig(perMinute=10, burstSize=10, algorithm=algorithm)
    rig.admitted(6)

    rig.change(perMinute=7, burstSize=7, algorithm=algorithm)

    assert rig.admitted(20) == 1


@given(name=st.text(max_size=300), value=st.binary(max_size=300))
def test_whatever_a_client_sends_it_is_counted(name: str, value: bytes) -> None:
    rules = [
        {"name": "a", "per": ["header:X-Team", "ip", "model"], "amount": 2},
        {"name": "b", "per": ["caller"], "counts": "inputTokens", "amount": 10**9},
    ]
    rig = LimitRig(rules=rules, trustedProxies=["192.0.2.0/24"])
    rig.targets = lambda exchange: [Candidate("openai", exchange.request.model)]

    def make() -> Any:
        exchange = request(name or None, model=name, document={"messages": name}, body=name.encode("utf-8", "replace"))
        exchange.request.fields = {b"x-team": value, b"x-forwarded-for": value}
        return exchange

    assert rig.admitted(3, make) == 2


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"rules": [{"name": "a", "amount": 1.5}]}, "whole numbers"),
        ({"rules": [{"name": "perHour", "amount": 1}]}, "twice"),
        ({"rules": [{"name": "a", "amount": 1}, {"name": "a", "amount": 2}]}, "twice"),
        ({"rules": [{"name": "a", "amount": 1, "per": ["nobody"]}]}, "pattern"),
        ({"rules": [{"name": "a", "amount": 1, "counts": "concurrent", "algorithm": "gcra"}]}, "neither"),
        ({"rules": [{"name": "a", "amount": 1e-9, "counts": "costUsd"}]}, "millionth"),
        ({"trustedProxies": ["10.0.0.0/99"]}, "10.0.0.0/99"),
        ({"callers": {"x": {"rules": {"a": {"amount": 1}}}}}, "no rule"),
        ({"perHour": 0}, "whole number from 1 to"),
        ({"perHour": True}, "whole number from 1 to"),
        ({"perHour": 10**13}, "whole number from 1 to"),
        ({"burstSize": 10**13}, "less than or equal"),
        ({"rules": [{"name": "a", "amount": 1e300}]}, "less than or equal"),
        ({"rules": [{"name": "a", "amount": float("nan")}]}, "finite"),
        ({"rules": [{"name": "a", "amount": 2e9, "counts": "costUsd"}]}, "billion"),
        ({"rules": [{"name": "a", "amount": 1, "burst": 1e300}]}, "less than or equal"),
        ({"rules": [{"name": "a", "amount": 1, "period": "400d"}]}, "less than or equal"),
        ({"rules": [{"name": "a", "amount": 1, "queue": "2h"}]}, "less than or equal"),
        ({"rules": [{"name": "key.a", "amount": 1}]}, "begin with key."),
        ({"rules": [{"name": "a", "amount": 1}], "callers": {"x": {"rules": {"a": {"amount": 1.5}}}}}, "whole numbers"),
        ({"rules": [{"name": "a", "amount": 1}], "callers": {"x": {"rules": {"a": {"amount": 1e300}}}}}, "less than"),
    ],
)
def test_section_that_cannot_be_meant_is_refused(section: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RateLimitConfig.model_validate(section)
