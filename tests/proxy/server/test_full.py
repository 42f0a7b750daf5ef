"""Who gives way, and who is still answered, when there are as many connections as may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from proxy.server.connection import SURPLUS
from proxy.testing import FakeProvider, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def connect(stack: AsyncExitStack, proxy: ProxyHarness, count: int = 1) -> list[RawClient]:
    """Open connections; they are accepted in the same order."""
    return [await stack.enter_async_context(RawClient(proxy.url)) for _ in range(count)]


async def occupy(stack: AsyncExitStack, proxy: ProxyHarness, upstream: FakeProvider, count: int) -> list[RawClient]:
    """Open connections with a stream on each that does not end before `upstream`'s gate is set."""
    clients = await connect(stack, proxy, count)
    for client in clients:
        await client.send(encode_request("POST", CHAT, BODY, host="localhost"))
    await upstream.wait_for_request(count)
    return clients


async def test_connection_that_was_idle_the_longest_gives_way(proxy: ProxyHarness, stack: AsyncExitStack) -> None:
    await proxy.start(server={"maxConnections": 3})
    first, second, third = await connect(stack, proxy, 3)
    for client in (second, first, third):
        assert (await client.request("POST", CHAT, BODY)).status == 200

    [new] = await connect(stack, proxy)
    served = [(await client.request("GET", "/livez")).status for client in (first, third, new)]
    left = await second.read_until_closed()

    assert (served, left) == ([200, 200, 200], b"")
    assert len(proxy.app.connections) == 3


async def test_connection_that_never_said_anything_gives_way(proxy: ProxyHarness, stack: AsyncExitStack) -> None:
    await proxy.start(server={"maxConnections": 5})
    silent = await connect(stack, proxy, 5)

    answers = [await proxy.request("GET", "/livez") for _ in range(5)]

    assert [answer.status for answer in answers] == [200] * 5
    assert await silent[0].read_until_closed() == b""


async def test_flood_of_silent_connections_leaves_those_who_ask(proxy: ProxyHarness, stack: AsyncExitStack) -> None:
    await proxy.start(server={"maxConnections": 10})
    asking = await connect(stack, proxy, 3)
    for client in asking:
        assert (await client.request("GET", "/livez")).status == 200

    await connect(stack, proxy, 50)
    served = [(await client.request("GET", "/livez")).status for client in asking]

    assert served == [200] * 3
    assert len(proxy.app.connections) <= 10


async def test_newcomer_is_not_closed_for_the_next_one_while_others_are_kept(
    proxy: ProxyHarness, stack: AsyncExitStack
) -> None:
    await proxy.start(server={"maxConnections": 6})
    for client in await connect(stack, proxy, 6):
        assert (await client.request("GET", "/livez")).status == 200

    newcomers = await connect(stack, proxy, 3)
    served = [(await client.request("GET", "/livez")).status for client in newcomers]

    assert served == [200] * 3


async def test_requests_at_work_or_begun_are_not_closed(
    proxy: ProxyHarness, upstream: FakeProvider, stack: AsyncExitStack
) -> None:
    gate = asyncio.Event()
    upstream.stream(["one"], gate=gate)
    await proxy.start(providers={"vendor": upstream.provider()}, server={"maxConnections": 2})
    [running] = await occupy(stack, proxy, upstream, 1)
    [begun] = await connect(stack, proxy)
    request = encode_request("POST", CHAT, BODY, host="localhost")
    await begun.send(request[:20])
    await until(lambda: not any(one.is_quiet for one in proxy.app.connections), "the beginning has come")

    alive = await proxy.request("GET", "/livez")
    gate.set()
    await begun.send(request[20:])
    ends = [(await client.read_response()).body[-14:] for client in (running, begun)]

    assert alive.status == 200
    assert ends == [b"data: [DONE]\n\n"] * 2


async def test_when_none_is_idle_the_admin_side_answers_and_the_data_side_says_503(
    proxy: ProxyHarness, upstream: FakeProvider, stack: AsyncExitStack
) -> None:
    upstream.stream(["one"], gate=asyncio.Event())
    await proxy.start(providers={"vendor": upstream.provider()}, server={"maxConnections": 2})
    await occupy(stack, proxy, upstream, 2)

    health = await proxy.request("GET", "/health")
    refused = await proxy.request("POST", CHAT, BODY)
    patched = await proxy.request("PATCH", "/config", {"server": {"maxConnections": 10}})
    taken = await proxy.request("POST", CHAT, BODY[:-15] + b"}")

    assert health.json()["problems"] == [  # type: ignore[index]
        "all 2 connections are in use, idle ones give way (server.maxConnections, ulimit -n)"
    ]
    assert (refused.status, refused.header("retry-after"), refused.header("connection")) == (503, "1", "close")
    assert b'"code":"overloaded"' in refused.body
    assert (patched.status, taken.status) == (200, 200)


async def test_connections_far_above_the_limit_are_dropped_at_once(
    proxy: ProxyHarness, upstream: FakeProvider, stack: AsyncExitStack
) -> None:
    upstream.stream(["one"], gate=asyncio.Event())
    await proxy.start(providers={"vendor": upstream.provider()}, server={"maxConnections": 1})
    await occupy(stack, proxy, upstream, 1)
    above = []
    for _ in range(SURPLUS):
        above += await connect(stack, proxy)
        await above[-1].send(b"GET /livez")  # begun, so that it does not give way to the next
        await until(lambda: not any(one.is_quiet for one in proxy.app.connections), "the beginning has come")

    [further] = await connect(stack, proxy)
    dropped = await further.read_until_closed()
    await above[0].send(b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await above[0].read_response()

    assert (dropped, answer.status) == (b"", 200)


async def test_being_full_is_told_once_with_numbers(proxy: ProxyHarness, stack: AsyncExitStack) -> None:
    await proxy.start(server={"maxConnections": 2})
    await connect(stack, proxy, 7)

    def told() -> list[str]:
        return [event.message for event in proxy.events.recent() if event.kind == "connections_full"]

    await until(lambda: bool(told()), "the event")

    [message] = told()
    assert message.startswith("all 2 connections are in use (server.maxConnections, ulimit -n): ")
    assert message.endswith(": 5 idle ones were closed to make room, 0 new ones refused")
