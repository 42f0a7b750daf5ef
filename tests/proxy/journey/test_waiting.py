"""Requests that wait in a provider's line while the provider goes from well to bad."""

import asyncio
import time
from typing import Any

from proxy.routing.failures import Verdict
from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, kinds, pair

KEYS = ["sk-one-aaaaaaaaaa1111", "sk-two-bbbbbbbbbb2222"]


async def occupy(proxy: ProxyHarness, provider: FakeProvider, model: str) -> tuple[asyncio.Event, asyncio.Task[object]]:
    """Take a provider's only slot until the event is set."""
    gate = asyncio.Event()
    provider.once.stream(["slow"], gate=gate, gate_after=0)
    running: asyncio.Task[object] = asyncio.create_task(proxy.chat("Hello", stream=True, model=model))
    await provider.wait_for_request(provider.requests_seen + 1)
    return gate, running


async def waits_for(proxy: ProxyHarness, name: str) -> None:
    slots = proxy.app.pipeline.generation.endpoints[name].slots
    await until(lambda: slots.waiting == 1, f"somebody waits for {name}")


def open_circuit(proxy: ProxyHarness, name: str) -> None:
    health, now_s = proxy.app.pipeline.generation.health[name], time.monotonic()
    lane = health.lane("fake-model")
    for _ in range(5):
        health.fail(lane, now_s, health.begin(lane, now_s), now_s, Verdict("connect", "provider"), "refused")


async def test_one_that_waits_for_a_provider_whose_circuit_opens_meanwhile_goes_to_another(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare, maxConcurrency=1), breaker={"cooldown": "5s"})
    spare_limit = proxy.app.pipeline.generation.endpoints["second"].slots
    spare_limit.resize(1, 10, 5.0)
    gate, first = await occupy(proxy, upstream, "first/fake-model")
    other_gate, second = await occupy(proxy, spare, "second/fake-model")
    waiting = asyncio.create_task(proxy.chat("Hello"))
    await waits_for(proxy, "first")

    open_circuit(proxy, "first")
    gate.set()
    await waits_for(proxy, "second")
    other_gate.set()
    reply = await waiting

    assert (reply.status, reply.text, reply.header("x-attempts")) == (200, "from the spare", "1")
    assert upstream.requests_seen == 1
    await asyncio.gather(first, second)
    await given_back(proxy)


async def test_one_that_waits_for_the_only_provider_is_sent_to_it_though_its_circuit_has_opened(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, breaker={"cooldown": "5s"})
    gate, first = await occupy(proxy, upstream, "fake-model")
    waiting = asyncio.create_task(proxy.chat("Hello"))
    await waits_for(proxy, "first")

    open_circuit(proxy, "first")
    gate.set()
    reply = await waiting

    assert reply.status == 200
    await first
    await given_back(proxy)


async def test_key_that_came_to_rest_while_the_request_waited_is_not_used(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1, apiKey=None, apiKeys=KEYS)})
    gate, first = await occupy(proxy, upstream, "fake-model")
    waiting = asyncio.create_task(proxy.chat("Hello"))
    await waits_for(proxy, "first")

    keys = proxy.app.pipeline.generation.health["first"].lane("fake-model").keys
    assert keys is not None
    keys.limited(keys.keys[1], time.monotonic(), 60.0)
    gate.set()
    reply = await waiting

    assert (reply.status, reply.header("x-attempts")) == (200, "1")
    assert [one.header("authorization") for one in upstream.requests] == [f"Bearer {KEYS[0]}"] * 2
    await first


async def pauses(proxy: ProxyHarness, provider: FakeProvider) -> asyncio.Task[Any]:
    """Start a request that is told to come back soon, and waits for that."""
    provider.once.reply_status(429, headers={"retry-after-ms": "400"})
    asking = asyncio.create_task(proxy.chat("Hello"))
    await provider.wait_for_request()
    await until(lambda: kinds(proxy) == ["retry"], "the request waits to ask again")
    return asking


async def test_key_that_came_to_rest_for_long_during_a_pause_is_not_used(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(apiKey=KEYS[0])})
    asking = await pauses(proxy, upstream)

    keys = proxy.app.pipeline.generation.health["first"].lane("fake-model").keys
    assert keys is not None
    keys.limited(keys.keys[0], time.monotonic(), 60.0)
    reply = await asking

    assert (reply.status, upstream.requests_seen) == (429, 1)
    assert int(reply.header("retry-after") or 0) >= 59
    await given_back(proxy)


async def test_key_that_rests_a_little_longer_is_waited_for_again(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"first": upstream.provider(apiKey=KEYS[0])})
    asking = await pauses(proxy, upstream)

    keys, began_s = proxy.app.pipeline.generation.health["first"].lane("fake-model").keys, time.monotonic()
    assert keys is not None
    keys.limited(keys.keys[0], began_s, 0.8)
    reply = await asking

    assert (reply.status, reply.header("x-attempts")) == (200, "2")
    assert upstream.requests[1].at_s - began_s >= 0.79
    await given_back(proxy)


async def test_circuit_that_opened_during_a_pause_sends_the_request_elsewhere(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})
    health = proxy.app.pipeline.generation.health["second"]
    open_circuit(proxy, "second")
    asking = await pauses(proxy, upstream)

    open_circuit(proxy, "first")
    health.reset(time.monotonic())
    reply = await asking

    assert (reply.text, upstream.requests_seen) == ("from the spare", 1)
    await given_back(proxy)
