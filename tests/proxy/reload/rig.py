"""What the tests of live changes share: a clock to set, and what the proxy says of itself."""

from typing import Any

from proxy.testing import ProxyHarness
from tests.proxy.server.test_config_routes import call

PLUGINS = ["debug", "tests.proxy.reload.picky", "balancer", "metrics"]


class Clock:
    """The wall clock of a test."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now_s


async def health(proxy: ProxyHarness) -> Any:
    return (await call(proxy, "GET", "/health")).json()


def kinds(proxy: ProxyHarness) -> list[str]:
    return [event.kind for event in proxy.events.recent()]
