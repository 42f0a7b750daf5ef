"""Two processes on one Redis hold a limit together, however many requests come at once."""

import asyncio
from typing import Any

from proxy.testing import ProxyProcess, RawClient
from tests.e2e.rig import clean_environment
from tests.redis_server import RedisServer

LIMIT = 100
REQUESTS = 1000
CLIENTS = 50
"""Connections to each process, one request at a time on each."""


def config(redis: RedisServer) -> dict[str, Any]:
    return {
        "store": {"url": redis.unix_url, "timeout": "30s"},  # a busy machine is no failure of the server
        "rateLimit": {"enabled": True, "perHour": "none", "perDay": LIMIT, "burstSize": LIMIT, "store": "shared"},
    }


async def ask(url: str, count: int) -> list[int]:
    async with RawClient(url) as client:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
        replies = [await client.request("POST", "/v1/chat/completions", body) for _ in range(count)]
    return [reply.status for reply in replies]


async def test_of_a_thousand_requests_to_two_processes_exactly_a_hundred_pass(redis_server: RedisServer) -> None:
    environment = clean_environment()
    async with (
        ProxyProcess(config(redis_server), environment=environment) as one,
        ProxyProcess(config(redis_server), environment=environment) as other,
    ):
        each = REQUESTS // (2 * CLIENTS)
        answers = await asyncio.gather(*(ask(url, each) for url in [one.url, other.url] * CLIENTS))

    statuses = [status for answer in answers for status in answer]
    assert len(statuses) == REQUESTS
    assert (statuses.count(200), statuses.count(429)) == (LIMIT, REQUESTS - LIMIT)
