"""Requests of one connection share what was worked out of the last one: only as far as they are alike."""

from dataclasses import replace
from typing import Any

import pytest

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
