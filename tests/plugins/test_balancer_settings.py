"""The balancer's section: what is refused, what is told, and that it takes effect while it runs."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from plugins.balancer.settings import BalancerConfig
from proxy.testing import FakeProvider, ProxyHarness
from tests.plugins.balancer_rig import asked, candidates_of, make, names


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"strategy": "fastest"}, "strategy"),
        ({"affinity": "cookie"}, "affinity"),
        ({"affinityHeader": "X Session"}, "affinityHeader"),
        ({"affinityHeader": ""}, "affinityHeader"),
        ({"models": {"fast": {"weight": 1}}}, "weight"),
        ({"routes": [{}]}, "use"),
        ({"routes": [{"use": []}]}, "use"),
        ({"routes": [{"use": [""]}]}, "use"),
        ({"routes": [{"use": ["a"], "when": {"headers": {}}}]}, "headers"),
        ({"routes": [{"use": ["a"], "when": {"header": {"": "x"}}}]}, "header"),
        ({"routes": [{"use": ["a"], "when": {"key": "two words"}}]}, "visible ASCII"),
        ({"routes": [{"use": ["a"], "when": {"key": "schlüssel"}}]}, "visible ASCII"),
        (
            {"routes": [{"use": ["a"], "when": {"minSize": "1KB", "maxSize": 1000}}]},
            r"minSize \(1024 bytes\) is above maxSize \(1000 bytes\)",
        ),
    ],
)
def test_section_is_refused(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BalancerConfig.model_validate(section)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({}, []),
        ({"affinity": "header", "affinityHeader": "X-Chat"}, []),
        ({"affinityHeader": "X-Session-Id"}, []),
        ({"affinityHeader": "X-Chat", "models": {"fast": {"affinity": "header"}}}, []),
        ({"affinityHeader": "X-Chat"}, [("affinity_header_unused", "balancer.affinityHeader")]),
        ({"routes": [{"use": ["a"], "when": {"key": "k"}}]}, []),
        (
            {"routes": [{"use": ["a"]}, {"use": ["a"], "when": {"key": ""}}]},
            [("route_key_empty", "balancer.routes.1.when.key")],
        ),
    ],
)
def test_settings_that_do_nothing_are_told(section: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert [(issue.kind, issue.path) for issue in make(**section).config_issues()] == told


def test_patch_of_the_unused_header_mends_it() -> None:
    section = {"affinityHeader": "X-Chat"}

    (issue,) = make(**section).config_issues()

    assert issue.patch is not None
    assert list(make(**section | issue.patch["balancer"]).config_issues()) == []


def test_new_settings_are_taken_in_place() -> None:
    balancer = make()
    order = [names(balancer.select_provider(asked(model="m"), candidates_of(1, 1)))]

    balancer.reconfigure(BalancerConfig.model_validate({"routes": [{"when": {"model": "m"}, "use": ["b"]}]}))
    order.append(names(balancer.select_provider(asked(model="m"), candidates_of(1, 1))))
    balancer.reconfigure(BalancerConfig())
    order.append(names(balancer.select_provider(asked(model="m"), candidates_of(1, 1))))

    assert [len(each) for each in order] == [2, 1, 2]
    assert order[1] == ["b"]


async def test_strategy_of_an_alias_is_switched_while_it_runs() -> None:
    async with FakeProvider() as first, FakeProvider() as second, ProxyHarness() as proxy:
        await proxy.start(
            providers={"a": first.provider(), "b": second.provider()}, models={"fast": ["a/one", "b/two"]}
        )

        async def ask() -> tuple[int, int]:
            before = first.requests_seen, second.requests_seen
            for _ in range(8):
                assert (await proxy.chat("hello", model="fast")).status == 200
            return first.requests_seen - before[0], second.requests_seen - before[1]

        in_order = await ask()
        section = {"models": {"fast": {"strategy": "round-robin", "ignorePriority": True}}}
        answer = await proxy.request("PATCH", "/config", orjson.dumps({"balancer": section}))
        shared = await ask()

    assert answer.status == 200
    assert in_order == (8, 0)
    assert shared in [(4, 4), (5, 3)]  # the first is drawn, seven turns follow
