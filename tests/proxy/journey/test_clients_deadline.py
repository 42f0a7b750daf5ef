"""A client's SDK says how long it waits: nobody is asked for an answer that comes too late."""

from collections.abc import AsyncIterator

import pytest

from proxy.testing import FakeProvider, Faults, ProxyHarness


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.mark.parametrize(("limit", "status", "asked"), [("0.05", 504, 0), ("600", 200, 1), ("soon", 200, 1)])
async def test_no_attempt_begins_after_the_client_has_given_up(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, limit: str, status: int, asked: int
) -> None:
    upstream.reply("late", faults=Faults(never_answer=True))
    slow = upstream.provider(timeouts={"firstByte": "100ms"})
    await proxy.start(providers={"first": slow, "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello", headers={"x-stainless-read-timeout": limit})

    assert (reply.status, spare.requests_seen) == (status, asked)
