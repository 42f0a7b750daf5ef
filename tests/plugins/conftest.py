"""A proxy in the test's own process, not yet started, and a provider for it."""

from collections.abc import AsyncIterator

import pytest

from proxy.testing import FakeProvider, ProxyHarness


@pytest.fixture
async def upstream() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def proxy() -> AsyncIterator[ProxyHarness]:
    async with ProxyHarness() as harness:
        yield harness
