"""A provider with one answer and a bad way to it; each test runs on both event loops, as authors may use either."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from proxy.testing import FakeProvider, FaultProxy
from tests.proxy.testing.rig import ANSWER


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply_raw(ANSWER)
        yield provider


@pytest.fixture
async def faulty(upstream: FakeProvider) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(upstream.url) as proxy:
        yield proxy
