"""Requests that come while memory is short, and those for which there is none left."""

import asyncio
from typing import Any

import pytest

from proxy.journey import journey
from proxy.server import data
from proxy.testing import FakeProvider, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'


async def short(proxy: ProxyHarness, percent: float) -> None:
    """Set the share of memory above which requests are refused, and let the proxy look."""
    response = await proxy.request("PATCH", "/config", {"server": {"shedMemoryPercent": percent}})
    assert response.status == 200, response.text
    proxy.app.memory.look()


async def health(proxy: ProxyHarness) -> dict[str, Any]:
    document = (await proxy.request("GET", "/health")).json()
    assert isinstance(document, dict)
    return document


async def test_new_requests_get_503_and_running_ones_go_on(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["one", " two"], gate=gate)
    await proxy.start(providers={"vendor": upstream.provider()})

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", CHAT, BODY[:-1] + b',"stream":true}', host="localhost"))
        await upstream.wait_for_request()
        await short(proxy, 1e-4)
        refused = await proxy.chat("Hello")
        gate.set()
        running = await client.read_response()
        told = (await health(proxy))["problems"]
        await short(proxy, 95)
        taken = await proxy.chat("Hello")

    assert (refused.status, refused.header("retry-after")) == (503, "2")
    assert b'"code":"overloaded"' in refused.response.body
    assert running.body.endswith(b"data: [DONE]\n\n")
    assert taken.status == 200
    assert len(told) == 1
    assert told[0].startswith("memory is at ")
    assert [event.kind for event in proxy.events.recent() if "memory" in event.kind] == [
        "memory_short",
        "memory_relieved",
    ]


async def test_connection_that_had_passed_is_refused_too(proxy: ProxyHarness) -> None:
    await proxy.start()

    async with RawClient(proxy.url) as client:
        before = await client.request("POST", CHAT, BODY)
        await short(proxy, 1e-4)
        during = await client.request("POST", CHAT, BODY)
        await short(proxy, 95)
        after = await client.request("POST", CHAT, BODY)

    assert (before.status, during.status, after.status) == (200, 503, 200)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_body_without_room_gets_503_while_small_ones_pass(
    proxy: ProxyHarness, upstream: FakeProvider, is_chunked: bool
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})
    usage = proxy.app.memory.usage
    await short(proxy, 100 * (usage.used_bytes + (40 << 20)) / usage.limit_bytes)
    size = 20 << 20

    async with RawClient(proxy.url) as client:
        fields = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(size)}
        await client.send(encode_request("POST", CHAT, None, fields, host="localhost"))
        if is_chunked:
            await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size)))
        large = await client.read_response()
    small = await proxy.chat("Hello")

    assert (large.status, large.header("retry-after"), large.header("connection")) == (503, "2", "close")
    assert b"a request body of " in large.body
    assert small.status == 200
    await until(lambda: proxy.app.memory.held_bytes == 0, "no room is held for bodies any more")


async def test_admin_side_answers_while_memory_is_short(proxy: ProxyHarness) -> None:
    await proxy.start()
    await short(proxy, 1e-4)

    statuses = [(await proxy.request("GET", path)).status for path in ("/health", "/livez", "/readyz", "/metrics")]

    assert statuses == [200, 200, 200, 200]


async def test_request_that_finds_no_memory_gets_503_and_the_next_one_is_served(
    proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proxy.start()

    def no_memory(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(data, "parse_object", no_memory)
        reading = await proxy.chat("Hello")
    with monkeypatch.context() as patched:
        patched.setattr(journey.Journey, "_may_begin", no_memory)
        asking = await proxy.chat("Hello")
    with monkeypatch.context() as patched:
        patched.setattr(data.DataSide, "_open", no_memory)
        opening = await proxy.chat("Hello")
    after = await proxy.chat("Hello")

    assert [reply.status for reply in (reading, asking, opening, after)] == [503, 503, 503, 200]
    assert [reply.header("retry-after") is not None for reply in (reading, asking, opening)] == [True] * 3
    assert proxy.app.pipeline.slots.in_use == 0
