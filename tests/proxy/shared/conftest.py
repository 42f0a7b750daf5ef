"""A store in the test's own process."""

from collections.abc import AsyncIterator

import pytest

from tests.proxy.shared.rig import StoreRig, store_rig


@pytest.fixture
async def rig() -> AsyncIterator[StoreRig]:
    async with store_rig() as made:
        yield made
