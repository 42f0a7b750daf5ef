"""Changes of the configuration while a request is between its attempts."""

import asyncio
from typing import Any

from proxy.testing import FakeProvider, ProxyHarness

KEYS = {"K1": "sk-one-aaaaaaaaaa1111", "K2": "sk-two-bbbbbbbbbb2222", "K3": "sk-three-cccccccc3333"}


def held_refusal(gate: asyncio.Event) -> tuple[bytes | asyncio.Event, ...]:
    return gate, b"HTTP/1.1 429 Slow\r\nContent-Length: 2\r\n\r\n{}"


async def patch(proxy: ProxyHarness, **sections: Any) -> None:  # Any: the configuration, of whatever shape
    reply = await proxy.request("PATCH", "/config", sections)
    assert reply.status == 200, reply.text


def keys_used(upstream: FakeProvider) -> list[str]:
    return [(one.header("authorization") or "").removeprefix("Bearer ") for one in upstream.requests]


async def test_keys_that_are_replaced_while_a_request_is_under_way_serve_its_next_attempt(
    upstream: FakeProvider,
) -> None:
    gate = asyncio.Event()
    upstream.once.reply_raw(*held_refusal(gate))
    upstream.reply("Paris")
    async with ProxyHarness(environ=KEYS) as proxy:
        keyed = upstream.provider(apiKey=None, apiKeys=["${K1}", "${K2}"])
        known = {"type": "openai", "baseUrl": "http://127.0.0.1:9/v1", "apiKey": "${K3}", "enabled": False}
        await proxy.start(providers={"v": keyed, "other": known})
        running = asyncio.create_task(proxy.chat("Hello"))
        await upstream.wait_for_request()

        await patch(proxy, providers={"v": {"apiKeys": ["${K3}"]}})
        gate.set()
        reply = await running

    assert (reply.status, reply.text, reply.header("x-attempts")) == (200, "Paris", "2")
    assert keys_used(upstream) == [KEYS["K1"], KEYS["K3"]]


async def test_drained_provider_stays_so_when_it_moves(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"v": upstream.provider()})
    proxy.app.pipeline.generation.health["v"].drained_s = 1.0

    await patch(proxy, providers={"v": {"baseUrl": f"{upstream.url}/v1/"}})
    reply = await proxy.chat("Hello")

    assert (reply.status, upstream.requests_seen) == (503, 0)
    assert "drained by an operator" in reply.response.text
