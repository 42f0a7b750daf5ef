"""200 requests a second with 10 changes a second: none fails, and each sees one revision from end to end (D7)."""

import asyncio
import os
from collections import Counter
from typing import Any

import orjson

from proxy.testing import FakeProvider, ProxyHarness, RawClient
from tests.proxy.reload.witness import WitnessPlugin
from tests.proxy.server.test_config_routes import call

SECONDS = float(os.environ.get("SWITCHYARD_LOAD_SECONDS", "3"))
"""How long; `scripts/prove` says 30."""
CLIENTS = 20
REQUESTS_PER_S = 200
CHANGES_PER_S = 10

CHAT = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
STREAM = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True})


async def ask_regularly(url: str, until_s: float, statuses: list[int]) -> None:
    """One client's share of the load; every fourth request is a stream."""
    loop = asyncio.get_running_loop()
    next_s = loop.time()
    async with RawClient(url) as client:
        while next_s < until_s:
            await asyncio.sleep(max(0.0, next_s - loop.time()))
            body = STREAM if len(statuses) % 4 == 0 else CHAT
            answer = await client.request("POST", "/v1/chat/completions", body)
            is_whole = body is CHAT or answer.body.endswith(b"data: [DONE]\n\n")
            statuses.append(answer.status if is_whole else 0)
            next_s += CLIENTS / REQUESTS_PER_S


async def change_regularly(proxy: ProxyHarness, upstream: FakeProvider, until_s: float) -> dict[int, int]:
    """Change the plugin's number, limits, keys, and the provider's connections; gives the number of each revision."""
    loop = asyncio.get_running_loop()
    numbers = {1: 0}
    while loop.time() < until_s:
        number = len(numbers)
        change = {
            "witness": {"number": number},
            "maxConcurrency": 50 + number % 50,
            "providers": {"x": {"apiKey": f"sk-of-number-{number:06}", "keepAlive": 10 + number % 3}},
            "debug": {"enabled": number % 5 == 0},
        }
        answer = await call(proxy, "PATCH", "/config", change)
        document: Any = answer.json()
        assert answer.status == 200, answer.body
        numbers[document["revision"]] = number
        await asyncio.sleep(1 / CHANGES_PER_S)
    return numbers


async def test_no_request_fails_and_each_sees_one_revision(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    WitnessPlugin.seen.clear()
    await proxy.start(
        plugins=["debug", "tests.proxy.reload.witness"],
        providers={"x": upstream.provider(models=["m"], apiKey="sk-of-number-000000")},
    )
    until_s = asyncio.get_running_loop().time() + SECONDS
    statuses: list[int] = []

    *_, numbers = await asyncio.gather(
        *(ask_regularly(proxy.url, until_s, statuses) for _ in range(CLIENTS)),
        change_regularly(proxy, upstream, until_s),
    )

    seen = WitnessPlugin.seen
    failed = [status for status in statuses if status != 200]
    print(f"{len(statuses)} requests, {len(numbers) - 1} changes in {SECONDS:g} s: {len(failed)} failed")
    assert failed == []
    assert len(seen) == len(statuses)
    assert (len(statuses) >= 2 * CLIENTS, len(numbers) > SECONDS) == (True, True)  # a busy machine does less
    mixed = [one for one in seen if one[:2] != one[2:] or numbers[one[0]] != one[1]]
    assert mixed == []
    assert len({one[0] for one in seen}) > 1
    keys = Counter(one.header("authorization") for one in upstream.requests)
    assert keys == Counter(f"Bearer sk-of-number-{one[1]:06}" for one in seen)
