"""A provider that failed is asked by an unbilled call whether it is back, where its settings say so."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until

BREAKER = {"failures": 1, "cooldown": "50ms", "maxCooldown": "50ms"}


def probed(provider: FakeProvider, **settings: Any) -> dict[str, Any]:
    return provider.provider(activeProbe={"enabled": True, "interval": "40ms", "timeout": "1s"}, **settings)


def paths(provider: FakeProvider) -> list[str]:
    return [request.path for request in provider.requests]


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


async def test_probes_and_no_requests_go_to_a_provider_while_it_fails(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": probed(upstream), "second": spare.provider(priority=1)}, breaker=BREAKER)
    await proxy.chat("one")

    await until(lambda: paths(upstream).count("/v1/models") >= 3, "three probes")
    for _ in range(5):
        await proxy.chat("more")

    assert paths(upstream).count("/v1/chat/completions") == 1
    assert spare.requests_seen == 6
    assert upstream.last_request.header("authorization") == "Bearer sk-fake"


async def test_first_request_after_an_answered_probe_tries_the_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": probed(upstream), "second": spare.provider(priority=1)}, breaker=BREAKER)
    await proxy.chat("one")

    upstream.reply("back again")
    await until(lambda: any(event.kind == "probe_answered" for event in proxy.events.recent()), "an answered probe")
    reply = await proxy.chat("two")

    assert reply.text == "back again"
    assert "circuit_closed" in [event.kind for event in proxy.events.recent()]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "probe of first"]


async def move(proxy: ProxyHarness, provider: FakeProvider, **probe: Any) -> None:  # Any: of `activeProbe`
    """Let the provider `first` be another place from now on."""
    patch = {"providers": {"first": {"baseUrl": f"{provider.url}/v1", "activeProbe": probe}}}
    reply = await proxy.request("PATCH", "/config", patch)
    assert reply.status == 200, reply.text


async def test_provider_that_takes_the_place_of_a_failing_one_under_its_name_is_probed_for_itself(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    spare.reply_status(503)
    probe = {"enabled": True, "interval": "1h"}
    await proxy.start(providers={"first": upstream.provider(activeProbe=probe)}, breaker=BREAKER)
    await proxy.chat("one")
    earlier = proxy.app.pipeline.generation.health["first"]
    assert earlier.awaits_probe

    await move(proxy, spare, interval="40ms")
    health = proxy.app.pipeline.generation.health["first"]
    inherited = health.awaits_probe
    await proxy.chat("two")

    assert (health is earlier, inherited, health.awaits_probe) == (False, False, True)
    await until(lambda: paths(spare).count("/v1/models") >= 2, "probes of its own")
    spare.reply("well")
    await until(lambda: not health.awaits_probe, "requests try it again")
    assert (await proxy.chat("three")).text == "well"


async def test_provider_that_takes_the_place_of_a_failing_one_is_not_probed_for_that(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": probed(upstream)}, breaker=BREAKER)
    await proxy.chat("one")

    await move(proxy, spare)
    await until(
        lambda: all(task.get_name() != "probe of first" for task in asyncio.all_tasks()), "the end of the probing"
    )

    assert spare.requests_seen == 0
    assert "probe_answered" not in [event.kind for event in proxy.events.recent()]


async def test_probing_ends_when_it_is_switched_off(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": probed(upstream), "second": spare.provider(priority=1)}, breaker=BREAKER)
    await proxy.chat("one")
    health = proxy.app.pipeline.generation.health["first"]
    assert health.awaits_probe

    patch = {"providers": {"first": {"activeProbe": {"enabled": False}}}}
    assert (await proxy.request("PATCH", "/config", patch)).status == 200

    await until(lambda: not health.awaits_probe, "requests probe again")


async def test_nothing_is_probed_by_default(proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)}, breaker=BREAKER)

    await proxy.chat("one")

    assert not proxy.app.pipeline.generation.health["first"].awaits_probe
    assert paths(upstream) == ["/v1/chat/completions"]
