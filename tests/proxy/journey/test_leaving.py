"""Whoever ends a request, and wherever it is then: slots, counts and probe places are given back."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.exchange import Exchange
from proxy.testing import FakeProvider, Fault, FaultProxy, Faults, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, held, pair

BODY = b'{"model":"fake-model","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
Ending = Callable[[ProxyHarness, RawClient], Awaitable[None]]


@asynccontextmanager
async def asking(proxy: ProxyHarness) -> AsyncIterator[RawClient]:
    """A client that has sent its request and reads nothing yet."""
    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", "/v1/chat/completions", BODY, host="localhost"))
        yield client


async def resets(proxy: ProxyHarness, client: RawClient) -> None:
    """The client leaves by RST."""
    client.reset()


async def leaves(proxy: ProxyHarness, client: RawClient) -> None:
    """The client leaves by FIN."""
    client.close()


async def is_ended(proxy: ProxyHarness, client: RawClient) -> None:
    """An operator ends the newest request, and its client is told."""
    assert proxy.app.pipeline.cancel(newest(proxy), "enough of it")
    raw = await client.read_until_closed() if newest_has_begun(proxy) else await error_of(client)
    assert b"enough of it" in raw


async def error_of(client: RawClient) -> bytes:
    return (await client.read_response()).body


def newest(proxy: ProxyHarness) -> Exchange:
    return list(proxy.app.pipeline.running)[-1]


def newest_has_begun(proxy: ProxyHarness) -> bool:
    return newest(proxy).status is not None


ENDINGS = pytest.mark.parametrize("end", [resets, leaves, is_ended], ids=lambda end: str(end.__name__))


# -- one after the other ---------------------------------------------------------------------------------------------


@ENDINGS
async def test_in_a_providers_line(proxy: ProxyHarness, upstream: FakeProvider, end: Ending) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, max_concurrency=5)
    slots = proxy.app.pipeline.generation.endpoints["first"].slots

    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    async with asking(proxy) as client:
        await until(lambda: slots.waiting == 1, "one in line")
        assert proxy.app.pipeline.slots.in_use == 1  # who waits for a provider holds no place of the process
        await end(proxy, client)
        await until(lambda: slots.waiting == 0, "nobody in line", 0.25)
    assert (slots.in_use, proxy.app.pipeline.in_flight) == (1, 1)
    gate.set()

    assert (await running).status == 200
    assert upstream.requests_seen == 1
    await given_back(proxy)


@ENDINGS
async def test_in_the_line_of_the_process_after_that_of_the_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, end: Ending
) -> None:
    gate, other = asyncio.Event(), asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    spare.stream(["slow"], gate=other, gate_after=0)
    entries = {"first": upstream.provider(maxConcurrency=1), "second": spare.provider(models=["other"])}
    await proxy.start(providers=entries, max_concurrency=1)
    pipeline = proxy.app.pipeline

    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    await proxy.request("PATCH", "/config", {"maxConcurrency": 2})
    async with asking(proxy) as client:
        await until(lambda: pipeline.generation.endpoints["first"].slots.waiting == 1, "one in line")
        blocking = asyncio.create_task(proxy.chat("Hello", model="other", stream=True))
        await spare.wait_for_request()
        await proxy.request("PATCH", "/config", {"maxConcurrency": 1})
        gate.set()
        await running
        await until(lambda: pipeline.slots.waiting == 1, "one in the line of the process")
        assert pipeline.generation.endpoints["first"].slots.in_use == 1
        (exchange,) = [one for one in pipeline.running if one.request.model == "fake-model"]
        if end is is_ended:
            pipeline.cancel(exchange, "enough of it")
            assert b"enough of it" in await error_of(client)
        else:
            await end(proxy, client)
        await until(lambda: pipeline.slots.waiting == 0, "nobody in line", 0.25)
    other.set()
    await blocking

    assert upstream.requests_seen == 1
    await given_back(proxy)


@ENDINGS
async def test_in_the_wait_before_a_provider_is_asked_again(
    proxy: ProxyHarness, upstream: FakeProvider, end: Ending
) -> None:
    upstream.reply_status(503, headers={"retry-after-ms": "4000"})
    await proxy.start(providers={"first": upstream.provider()})

    async with asking(proxy) as client:
        await until(lambda: bool(proxy.events.recent()), "a retry that was announced")
        await end(proxy, client)
        await given_back(proxy)

    assert upstream.requests_seen == 1


@ENDINGS
async def test_while_it_connects(proxy: ProxyHarness, upstream: FakeProvider, end: Ending) -> None:
    async with FaultProxy(upstream.url) as way:
        way.set(Fault.blackhole())
        await proxy.start(providers={"first": way.provider()})
        health = proxy.app.pipeline.generation.health["first"]

        async with asking(proxy) as client:
            await until(lambda: health.in_flight == 1, "a call that has begun")
            await end(proxy, client)
            await given_back(proxy)


@ENDINGS
async def test_before_the_first_byte(proxy: ProxyHarness, upstream: FakeProvider, end: Ending) -> None:
    upstream.reply(faults=Faults(never_answer=True))
    await proxy.start(providers={"first": upstream.provider()})

    async with asking(proxy) as client:
        await upstream.wait_for_request()
        ended_s = time.monotonic()
        await end(proxy, client)
        left_s = await upstream.wait_for_disconnect()
        await given_back(proxy)

    print(f"the provider's connection closed after {(left_s - ended_s) * 1000:.1f} ms")
    assert left_s - ended_s < 0.25


@ENDINGS
async def test_in_the_middle_of_a_stream(proxy: ProxyHarness, upstream: FakeProvider, end: Ending) -> None:
    upstream.stream(["one", "two"], gate=asyncio.Event())
    await proxy.start(providers={"first": upstream.provider()})

    async with asking(proxy) as client:
        response = await client.read_head()
        await client.read_part(response)
        ended_s = time.monotonic()
        await end(proxy, client)
        left_s = await upstream.wait_for_disconnect()
        await given_back(proxy)

    assert left_s - ended_s < 0.25


@ENDINGS
async def test_in_the_second_attempt(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, end: Ending
) -> None:
    upstream.reply_status(500)
    spare.reply(faults=Faults(never_answer=True))
    await proxy.start(providers=pair(upstream, spare))

    async with asking(proxy) as client:
        await spare.wait_for_request()
        await end(proxy, client)
        await spare.wait_for_disconnect()
        await given_back(proxy)


@ENDINGS
async def test_in_the_middle_of_an_upload(proxy: ProxyHarness, upstream: FakeProvider, end: Ending) -> None:
    await proxy.start(providers={"first": upstream.provider("http", apiKey=None, models=[])})

    async with RawClient(proxy.url) as client:
        await client.send(b"POST /proxy/first/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nhalf")
        await upstream.wait_for_request(is_complete=False)
        await end(proxy, client)
        await upstream.wait_for_disconnect()
        await given_back(proxy)


# -- a probe ---------------------------------------------------------------------------------------------------------


@ENDINGS
async def test_in_a_probe_whose_place_the_next_request_gets(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, end: Ending
) -> None:
    settings: dict[str, Any] = {"failures": 1, "cooldown": "50ms", "maxCooldown": "1h", "slowStart": "0s"}
    upstream.once.reply_status(503)
    await proxy.start(providers=pair(upstream, spare), breaker=settings)
    await proxy.chat("Hello")
    breaker = proxy.app.pipeline.generation.health["first"].lane("fake-model").breaker
    await until(lambda: bool(breaker.admits(proxy.app.pipeline._clock())), "the end of the cooldown")
    upstream.reply(faults=Faults(never_answer=True))

    async with asking(proxy) as client:
        await upstream.wait_for_request(2)
        assert (held(proxy)["first probes"], breaker.state) == (1, "half_open")
        await end(proxy, client)
        await given_back(proxy)
    upstream.reply("back")
    reply = await proxy.chat("Hello")

    assert (reply.text, breaker.state) == ("back", "closed")


# -- at any time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_at_any_time_with_everything_in_use(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, seed: int
) -> None:
    draw = random.Random(seed)
    upstream.stream(["one", "two", "three"], delay_s=0.01, faults=Faults(delay_s=0.01))
    spare.stream(["one", "two"], delay_s=0.01)
    entries = {
        "first": upstream.provider(maxConcurrency=3),
        "second": spare.provider(priority=1, maxConcurrency=2),
    }
    hedging = {"enabled": True, "percentile": 50, "minDelay": "1ms", "budgetPercent": 100, "minRequests": 1}
    await proxy.start(providers=entries, hedging=hedging, max_concurrency=4, failover={"backoff": "5ms"})
    pipeline = proxy.app.pipeline

    async def once() -> None:
        if draw.random() < 0.2:
            upstream.once.reply_status(draw.choice([429, 500, 503]))
        async with asking(proxy) as client:
            await asyncio.sleep(draw.uniform(0, 0.08))
            how = draw.random()
            if how < 0.4:
                client.reset()
            elif how < 0.7 and pipeline.running:
                pipeline.cancel(draw.choice(list(pipeline.running)), "enough of it")
                client.close()
            else:
                await client.read_ending(0.3)

    for _ in range(8):
        await asyncio.gather(*[once() for _ in range(15)])

    await given_back(proxy)
    assert not [event for event in proxy.events.recent() if event.kind in ("internal_error", "task_failed")]
    upstream.reply("well")
    assert (await proxy.chat("Hello")).status == 200


async def test_end_from_outside_that_comes_with_the_last_byte_adds_nothing(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["one"])
    await proxy.start(providers={"first": upstream.provider()})
    pipeline = proxy.app.pipeline
    endings = []

    def cancel_when_finished() -> None:
        for exchange in pipeline.running:
            sink = sinks.get(exchange)
            if sink is not None and sink.is_finished:
                endings.append(pipeline.cancel(exchange, "enough of it"))

    sinks: dict[Exchange, Any] = {}
    run = pipeline.run

    async def seen(exchange: Exchange, sink: Any, local: Any = None) -> None:
        sinks[exchange] = sink
        finish = sink.finish

        def finished() -> None:
            finish()
            cancel_when_finished()

        sink.finish = finished
        await run(exchange, sink, local)

    pipeline.run = seen  # type: ignore[method-assign]  # nothing else sees the instant of the last byte

    async with asking(proxy) as client:
        raw, _ = await client.read_ending()

    assert endings == [True]
    assert raw.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"enough of it" not in raw
    await given_back(proxy)
