"""What operators and other requests do while one is on its way."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize(("key", "used"), [("sk-new", "sk-new"), (None, "sk-old")])
async def test_request_that_waited_uses_the_key_that_is_held_now_and_never_none(
    proxy: ProxyHarness, upstream: FakeProvider, key: str | None, used: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"first": upstream.provider(apiKey="sk-old")}, max_concurrency=1)
    running = asyncio.create_task(proxy.chat("one", stream=True))
    await upstream.wait_for_request()
    waiting = asyncio.create_task(proxy.chat("two", stream=True))
    await until(lambda: proxy.app.pipeline.slots.waiting == 1, "the second waits")

    await proxy.request("PATCH", "/config", {"providers": {"first": {"apiKey": key}}})
    gate.set()
    replies = [await running, await waiting]

    assert [reply.status for reply in replies] == [200, 200]
    assert [seen.header("authorization") for seen in upstream.requests] == ["Bearer sk-old", f"Bearer {used}"]


async def test_drain_sends_those_in_line_elsewhere_at_once(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    spare.reply("from the spare")
    first = upstream.provider(models=["only-*", "fake-model"], maxConcurrency=1)
    await proxy.start(
        providers={"first": first, "second": spare.provider(models=["spare-*"])},
        failover={"models": {"only-here": {"fallbacks": ["second/any"]}}},
    )
    running = asyncio.create_task(proxy.chat("one", model="only-one", stream=True))
    await upstream.wait_for_request()
    alone = asyncio.create_task(proxy.chat("two", model="only-one"))
    other = asyncio.create_task(proxy.chat("three", model="only-here"))
    slots = proxy.app.pipeline.generation.endpoints["first"].slots
    await until(lambda: slots.waiting == 2, "two wait")

    drained = await proxy.request("POST", "/providers/first/drain")
    refused, answered = await alone, await other
    gate.set()

    assert drained.json()["inFlight"] == 1  # type: ignore[index]  # JSON of our own making
    assert refused.status == 503
    assert "drained" in refused.response.text
    assert answered.text == "from the spare"
    assert (await running).status == 200


async def test_clients_own_mistakes_do_not_speak_against_a_provider(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(404)
    await proxy.start(providers={"first": upstream.provider()})

    for _ in range(6):
        assert (await proxy.chat("Hello", model="misspelt")).status == 404
    status = (await proxy.request("GET", "/providers/status")).json()
    health = (await proxy.request("GET", "/health")).json()

    assert status["providers"][0]["errorRate"] == 0  # type: ignore[index, call-overload]  # JSON of our own making
    assert health["status"] == "healthy"  # type: ignore[index, call-overload]


async def test_missing_model_at_one_provider_does_not_hide_an_outage(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    spare.reply_status(404)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert reply.status == 500
