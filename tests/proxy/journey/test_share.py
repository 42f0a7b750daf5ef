"""What a provider without a limit of its own may hold of the process's slots."""

import asyncio

import pytest

from proxy.config.models import ProviderSettings, Settings
from proxy.reload.generation import calls_at_once
from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until

REMOTE = {"type": "http", "baseUrl": "http://a.example"}


@pytest.mark.parametrize(
    ("others", "limit", "whole", "expected"),
    [
        ([REMOTE], None, 100, 80),
        ([REMOTE, REMOTE], None, 100, 80),
        ([REMOTE], None, 4, 4),
        ([REMOTE], 100, 100, 100),
        ([REMOTE], 7, 100, 7),
        ([], None, 100, None),
        ([], 7, 100, 7),
        ([{"type": "echo"}], None, 100, None),
        ([{**REMOTE, "enabled": False}], None, 100, None),
    ],
)
def test_provider_leaves_a_fifth_to_others_unless_it_has_a_limit_or_is_alone(
    others: list[dict[str, object]], limit: int | None, whole: int, expected: int | None
) -> None:
    one = {**REMOTE, "maxConcurrency": limit}
    providers = {"one": one, **{f"other{number}": other for number, other in enumerate(others)}}
    settings = Settings.model_validate({"maxConcurrency": whole, "providers": providers})

    assert calls_at_once(settings, settings.providers["one"]) == expected


def test_provider_in_this_process_has_no_share() -> None:
    settings = Settings.model_validate({"providers": {"a": REMOTE, "b": REMOTE, "echo": {"type": "echo"}}})

    assert calls_at_once(settings, ProviderSettings(type="echo")) is None


async def test_share_that_is_reached_sends_nobody_elsewhere(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    async with FakeProvider() as spare:
        gate = asyncio.Event()
        upstream.stream(["slow"], gate=gate, gate_after=0)
        await proxy.start(
            providers={
                "first": upstream.provider(models=["fake-model"]),
                "second": spare.provider(models=["fake-model"], priority=1),
                "other": spare.provider(models=["other"], priority=2),
            },
            max_concurrency=5,
        )
        running = [asyncio.create_task(proxy.chat("Hello", stream=True)) for _ in range(5)]
        slots = proxy.app.pipeline.generation.endpoints["first"].slots
        await until(lambda: (slots.in_use, slots.waiting) == (4, 1), "one waits for the provider")

        beside = await proxy.chat("Hello", model="other")
        gate.set()
        texts = [(await task).text for task in running]

    assert beside.status == 200
    assert texts == ["slow"] * 5
    assert upstream.requests_seen == 5


async def test_share_follows_the_process_limit_live(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"first": upstream.provider(), "second": upstream.provider(priority=1)})
    slots = proxy.app.pipeline.generation.endpoints["first"].slots
    before = slots.limit

    await proxy.request("PATCH", "/config", {"maxConcurrency": 10})

    assert (before, slots.limit) == (80, 8)
