"""How far failover goes now is told in sentences that name the setting."""

from typing import Any

import pytest

from proxy.config.models import Settings
from proxy.routing.budget import RetryBudget
from proxy.routing.policy import Policies
from proxy.routing.reach import hindrances, reach_of


def budget_at(level: float) -> RetryBudget:
    budget = RetryBudget(0.2, 50)
    budget.level = level
    return budget


OFF = "is false): no other provider and no fallback is asked after a failure"
EMPTY = "is empty: after any failure the request ends, and nobody is asked again"
ALONE = "there is nobody to go on to: no other provider has the model, and it has no fallback that leads anywhere"
USED_UP = (
    "the retry budget of the process is used up (0.4 of 50 left): nobody is asked again after a failure now; "
    "each request pays 0.2 in (failover.retryBudget)"
)
NEARLY = (
    "the retry budget of the process is nearly used up: it pays for 1 further attempts of all requests; "
    "each request pays 0.2 in (failover.retryBudget)"
)


@pytest.mark.parametrize(
    ("raw", "level", "others", "sentence"),
    [
        ({"enableFallbackProviders": False}, 50, 0, f"failover is off (enableFallbackProviders {OFF}"),
        (
            {"failover": {"models": {"m": {"enabled": False}}}},
            50,
            0,
            f"failover is off (failover.models.m.enabled {OFF}",
        ),
        ({}, 50, 0, ALONE),
        ({"failover": {"on": []}}, 50, 1, f"failover.on {EMPTY}"),
        ({"failover": {"models": {"m": {"on": []}}}}, 50, 1, f"failover.models.m.on {EMPTY}"),
        ({"failover": {"attempts": 1}}, 50, 1, "failover.attempts is 1: nobody is asked again after a failure"),
        ({}, 0.4, 1, USED_UP),
        ({}, 1.4, 1, NEARLY),
    ],
)
def test_what_keeps_failover_from_helping_is_said(raw: Any, level: float, others: int, sentence: str) -> None:
    settings = Settings.model_validate(raw)
    policy = Policies(settings).of("m")

    found = list(hindrances(policy, budget_at(level), settings.failover, "m", others))

    assert found == [sentence]


def test_nothing_is_said_where_failover_can_help() -> None:
    settings = Settings()

    assert list(hindrances(Policies(settings).general, budget_at(50), settings.failover, "m", 1)) == []


@pytest.mark.parametrize(
    ("failover", "level", "attempts"), [({}, 50, 4), ({}, 2.9, 3), ({}, 0.9, 1), ({"on": []}, 50, 1)]
)
def test_attempts_end_with_the_first_bound(failover: Any, level: float, attempts: int) -> None:
    policy = Policies(Settings.model_validate({"failover": failover})).general

    assert reach_of(policy, budget_at(level)).attempts == attempts
