"""Names in the balancer's section that lead to nobody are told, with a patch that shows no key."""

from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.balancing_issues import overlap
from proxy.config.issues import find_issues
from proxy.config.patch import merge
from proxy.plugin import Issue
from tests.proxy.config.issue_facts import CANARY, facts, remote

KINDS = ("route_to_nothing", "balancing_of_nothing")


def written(**balancer: Any) -> dict[str, Any]:
    providers = {
        "a": remote(models=["gpt-*"]),
        "b": remote(models=["y"]),
        "off": remote(models=["o3"], enabled=False),
        "raw": {"type": "http", "baseUrl": "https://raw.example"},
    }
    return {"providers": providers, "models": {"fast": ["b/z"]}, "balancer": balancer}


def told(raw: dict[str, Any]) -> list[Issue]:
    return [issue for issue in find_issues(facts(raw)) if issue.kind in KINDS]


def route(*use: str, **when: str) -> dict[str, Any]:
    return {"when": when, "use": list(use)}


@pytest.mark.parametrize(
    ("balancer", "kind", "severity", "path", "message"),
    [
        (
            {"routes": [route("a", "azrue")]},
            "route_to_nothing",
            "warning",
            "balancer.routes.0.use.1",
            '"azrue": there is no provider "azrue"',
        ),
        (
            {"routes": [route("a"), route("off/o3")]},
            "route_to_nothing",
            "warning",
            "balancer.routes.1.use.0",
            '"off/o3": the provider off is not enabled',
        ),
        (
            {"routes": [route("raw")]},
            "route_to_nothing",
            "warning",
            "balancer.routes.0.use.0",
            '"raw": the provider raw is of type http, which is reached at /proxy/raw/ only',
        ),
        (
            {"routes": [route("a/gtp-4")]},
            "route_to_nothing",
            "warning",
            "balancer.routes.0.use.0",
            '"a/gtp-4": no alias leads to it, and it is none of the models of a: gpt-*',
        ),
        (
            {"routes": [route("a", model="fsat")]},
            "balancing_of_nothing",
            "warning",
            "balancer.routes.0.when.model",
            '"fsat" is no alias, and nobody has it',
        ),
        (
            {"routes": [route("a", model="gtp-*")]},
            "balancing_of_nothing",
            "info",
            "balancer.routes.0.when.model",
            '"gtp-*" fits no alias and no model of an enabled provider',
        ),
        (
            {"models": {"fsat": {"strategy": "cost"}}},
            "balancing_of_nothing",
            "warning",
            "balancer.models.fsat",
            "is no alias, and no enabled provider has a model of this name",
        ),
    ],
)
def test_name_that_leads_to_nobody_is_told_and_the_patch_mends_it(
    balancer: dict[str, Any], kind: str, severity: str, path: str, message: str
) -> None:
    raw = written(**balancer)

    (issue,) = told(raw)

    assert (issue.kind, issue.severity, issue.path, issue.message) == (kind, severity, path, message)
    assert issue.patch is not None
    assert told(merge(raw, issue.patch)) == []


@pytest.mark.parametrize(
    "balancer",
    [
        {"routes": [route("a", "b/y", "b/z", "a/gpt-4o")]},
        {"routes": [route("a", model="*-4?")], "models": {"fast": {}, "gpt-4o": {}, "b/any": {}}},
        {"routes": [route("a", model="f?st"), route("a", model="b/*"), route("a", model="y"), route("a", model="*")]},
        {"enabled": False, "routes": [route("nobody", model="nothing")], "models": {"nothing": {}}},
    ],
)
def test_names_that_lead_to_somebody_are_not_told(balancer: dict[str, Any]) -> None:
    assert told(written(**balancer)) == []


def test_no_key_of_a_route_is_shown() -> None:
    routes = [route("a", key=CANARY), route("nobody")]

    (issue,) = told(written(routes=routes))

    assert (issue.patch, CANARY in repr(issue)) == (None, False)


TEXTS = ["".join(each) for length in range(7) for each in product("ab", repeat=length)]


@given(st.text("ab*?", max_size=3), st.text("ab*?", max_size=3))
def test_patterns_overlap_where_some_text_fits_both(one: str, other: str) -> None:
    assert overlap(one, other) == any(fnmatchcase(each, one) and fnmatchcase(each, other) for each in TEXTS)


def test_long_patterns_are_compared_without_trouble() -> None:
    assert not overlap("a*" * 500 + "x", "a*" * 500 + "y")
