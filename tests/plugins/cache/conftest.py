"""A proxy for the cache: a test that asks for `clock` sets its wall clock, so that answers grow old without waiting."""

import time
from collections.abc import AsyncIterator

import pytest

from proxy.testing import ProxyHarness
from tests.plugins.cache.rig import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def proxy(request: pytest.FixtureRequest) -> AsyncIterator[ProxyHarness]:
    is_set = "clock" in request.fixturenames
    async with ProxyHarness(wall_clock=request.getfixturevalue("clock") if is_set else time.time) as harness:
        yield harness
