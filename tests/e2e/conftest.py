"""Processes that all end-to-end tests use, one for each configuration, and the fakes behind them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from proxy.testing import FakeProvider, ProxyProcess
from tests.e2e.rig import ROOT, clean_environment, relay_config


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def default_proxy(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProxyProcess]:
    """The shipped configuration, without any key in the environment."""
    state = tmp_path_factory.mktemp("state")
    async with ProxyProcess(
        arguments=("--config", str(ROOT / "conf" / "proxy.yaml")),
        environment=clean_environment(PROXY_STATE_DIR=str(state)),
    ) as process:
        yield process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fakes() -> AsyncIterator[tuple[FakeProvider, FakeProvider]]:
    async with FakeProvider() as upstream, FakeProvider() as spare:
        yield upstream, spare


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def relay(fakes: tuple[FakeProvider, FakeProvider]) -> AsyncIterator[ProxyProcess]:
    """A proxy in front of the fake providers, see `relay_config`."""
    async with ProxyProcess(relay_config(*fakes), environment=clean_environment()) as process:
        yield process


@pytest.fixture
def upstream(fakes: tuple[FakeProvider, FakeProvider]) -> FakeProvider:
    """The provider nearly all models are at, as if new."""
    return _renewed(fakes[0])


@pytest.fixture
def spare(fakes: tuple[FakeProvider, FakeProvider]) -> FakeProvider:
    """The provider to fall back on, as if new."""
    return _renewed(fakes[1])


def _renewed(provider: FakeProvider) -> FakeProvider:
    lists: tuple[list[Any], ...] = (provider.requests, provider.problems, provider.early_closes)
    for seen in lists:
        seen.clear()
    provider.answers_before_body = False
    provider.reply()
    return provider
