"""Operators' calls and clients' requests at a proxy under test."""

from typing import Any

import orjson

from proxy.testing import ProxyHarness

MESSAGES = [{"role": "user", "content": "hi"}]


async def call(proxy: ProxyHarness, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    reply = await proxy.request(method, path, body, headers)
    assert reply.status == 200, reply.body
    return orjson.loads(reply.body)


async def statuses(proxy: ProxyHarness, count: int, **fields: Any) -> list[int]:
    return [(await proxy.chat("hi", **fields)).status for _ in range(count)]


async def made(proxy: ProxyHarness, name: str, **limits: int) -> Any:
    reply = await proxy.request("POST", "/keys", {"name": name, "limits": limits})
    assert reply.status == 201, reply.body
    return orjson.loads(reply.body)


async def chat_statuses(proxy: ProxyHarness, key: str, count: int) -> list[int]:
    headers, body = {"Authorization": f"Bearer {key}"}, {"model": "echo/m", "messages": MESSAGES}
    return [(await proxy.request("POST", "/v1/chat/completions", body, headers)).status for _ in range(count)]
