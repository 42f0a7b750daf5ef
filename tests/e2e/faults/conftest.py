"""The proxy process that the scorecard's tests share; each configures it for its own scenario."""

from collections.abc import AsyncIterator

import pytest_asyncio

from proxy.testing import ProxyProcess
from tests.e2e.faults.rig import start_proxy


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def proxy() -> AsyncIterator[ProxyProcess]:
    """See `rig.configure`."""
    async with start_proxy() as process:
        yield process
