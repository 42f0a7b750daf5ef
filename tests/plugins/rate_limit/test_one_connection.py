"""Requests of one connection share what was worked out of the last one: only as far as they are alike."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers import Allowance, Identity
from proxy.exchange import Candidate, Exchange
from tests.plugins.rate_limit.rig import LimitRig, request
from tests.plugins.rig import CHAT

ANN, BOB = Identity("1", "ann"), Identity("2", "bob")
DAY = {"amount": 1, "period": "1d"}


def on_one(memo: dict[object, Any], *, caller: str = "sk-alice-000001", **fields: Any) -> Exchange:
    revision, provider = fields.pop("revision", 0), fields.pop("provider", None)
    exchange = request(caller, memo=memo, **fields)
    exchange.revision, exchange.named_provider = revision, provider
    return exchange


@pytest.mark.parametrize(
    ("per", "one", "other"),
    [
        ("model", {"model": "a"}, {"model": "b"}),
        ("caller", {"caller": "sk-alice-000001"}, {"caller": "sk-bob-000002"}),
        ("caller", {"identity": ANN}, {"identity": BOB}),
        ("route", {}, {"operation": replace(CHAT, name="completions")}),
        ("provider", {"provider": "a"}, {"provider": "b"}),
        ("provider", {"revision": 1}, {"revision": 2}),
    ],
)
def test_what_differs_counts_apart(per: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    rig = LimitRig(rules=[{"name": "twice", "per": [per], **DAY, "amount": 2}])
    memo: dict[object, Any] = {}

    def targets(exchange: Exchange) -> list[Candidate]:
        return [Candidate(exchange.named_provider or f"of revision {exchange.revision}", exchange.request.model)]

    rig.targets = targets

    passed = [rig.passes(on_one(memo, **each)) for each in (one, other) * 3]

    assert passed == [True, True, True, True, False, False]


def test_other_settings_are_heeded_at_once() -> None:
    rig = LimitRig(rules=[{"name": "wide", "per": ["model"], **DAY, "amount": 9}])
    memo: dict[object, Any] = {}
    first = rig.passes(on_one(memo))

    rig.change(rules=[{"name": "wide", "per": ["model"], **DAY, "amount": 2}])
    more = [rig.passes(on_one(memo)) for _ in range(2)]
    rig.change(rules=[{"name": "narrow", "per": ["caller"], **DAY}])

    assert (first, more) == (True, [True, False])
    assert [rig.passes(on_one(memo)) for _ in range(2)] == [True, False]


def test_key_whose_limits_change_is_held_by_the_new_ones() -> None:
    rig = LimitRig()
    memo: dict[object, Any] = {}
    tight, wide = (replace(ANN, limits=(Allowance("requests", amount, 86400),)) for amount in (1, 3))

    passed = [rig.passes(on_one(memo, identity=each)) for each in (tight, tight, wide, wide, wide, tight)]

    assert passed == [True, False, True, True, False, False]


def test_renamed_key_has_the_settings_of_its_new_name() -> None:
    rig = LimitRig(perDay=1, burstSize=1, callers={"gold": {"perDay": 100, "burstSize": 100}})
    memo: dict[object, Any] = {}
    plain, gold = Identity("1", "plain"), Identity("1", "gold")

    before = [rig.passes(on_one(memo, identity=plain)) for _ in range(2)]
    as_gold = [rig.passes(on_one(memo, identity=gold)) for _ in range(3)]
    renamed_back = rig.passes(on_one(memo, identity=plain))

    assert (before, as_gold, renamed_back) == ([True, False], [True] * 3, False)


FORMATS = {
    "openai": CHAT,
    "anthropic": replace(CHAT, format="anthropic", name="messages"),
    "ollama": replace(CHAT, format="ollama"),
}


@pytest.mark.parametrize("algorithm", ["token-bucket", "fixed-window", "sliding-window", "sliding-log"])
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(FORMATS)), st.sampled_from([0.0, 0.4, 1.0, 30.0])), max_size=12))
def test_what_is_told_is_what_a_connection_of_its_own_would_be_told(
    algorithm: str, steps: list[tuple[str, float]]
) -> None:
    rules = [
        {"name": name, "per": ["caller"], "amount": amount, "period": "1m"} for name, amount in (("a", 90), ("b", 6))
    ]
    kept, fresh = (LimitRig(algorithm=algorithm, rules=rules) for _ in range(2))
    memo: dict[object, Any] = {}

    for name, pause_s in steps:
        told = []
        for rig, shared in ((kept, memo), (fresh, {})):
            rig.now_s += pause_s
            exchange = on_one(shared, operation=FORMATS[name])
            told.append((rig.passes(exchange), exchange.told))
        assert told[0] == told[1]


def test_request_that_a_later_rule_refuses_takes_nothing_from_the_earlier_ones() -> None:
    rules = [{"name": "wide", "per": ["caller"], **DAY, "amount": 5}, {"name": "narrow", "per": ["model"], **DAY}]
    rig = LimitRig(rules=rules)
    rig.targets = lambda exchange: [Candidate("openai", exchange.request.model)]
    memo: dict[object, Any] = {}

    passed = [rig.passes(on_one(memo)) for _ in range(4)]
    others = [rig.passes(on_one(memo, model=f"m{number}")) for number in range(5)]

    assert (passed, others) == ([True, False, False, False], [True] * 4 + [False])
    counted = {labels: value.value for labels, value in rig.plugin._decisions.items()}
    assert (counted["wide", "admitted"], counted["narrow", "refused"]) == (5, 3)
