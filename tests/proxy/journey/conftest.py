"""A second provider, asked after the first."""

from collections.abc import AsyncIterator

import pytest

from proxy.testing import FakeProvider


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply("from the spare")
        yield provider
