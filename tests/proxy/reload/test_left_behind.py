"""After many changes nothing of an earlier life is alive: plugins, providers, pools, generations, tasks."""

import asyncio
import gc
import threading

from plugins.debug import DebugPlugin
from proxy.config.loader import Loaded
from proxy.config.secrets import SecretStore
from proxy.providers.base import Provider
from proxy.reload.generation import Generation
from proxy.testing import FakeProvider, ProxyHarness
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.pool import Pool
from tests.proxy.reload.picky import PickyPlugin
from tests.proxy.server.test_config_routes import call

KINDS = (DebugPlugin, PickyPlugin, Generation, Endpoint, Provider, Pool, Loaded, SecretStore)


def living() -> dict[str, int]:
    """Objects of each kind that somebody still holds."""
    gc.collect()
    objects = gc.get_objects()
    return {kind.__name__: sum(isinstance(each, kind) for each in objects) for kind in KINDS}


async def test_changes_leave_nothing_of_an_earlier_life(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    elsewhere = living()
    await proxy.start(
        plugins=["debug", "tests.proxy.reload.picky"],
        providers={"x": upstream.provider(models=["m"])},
        picky={"enabled": False},
    )
    seen = []
    for number in range(40):
        await call(
            proxy,
            "PATCH",
            "/config",
            {
                "debug": {"enabled": number % 2 == 0, "level": "debug"},
                "picky": {"enabled": number % 3 == 0, "size": number},
                "providers": {"x": {"keepAlive": 10 + number, "apiKey": f"sk-of-number-{number:06}"}},
            },
        )
        await proxy.chat("hello", model="m")
        if number in (9, 39):
            await asyncio.sleep(0.05)
            now = living()
            tasks = sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
            seen.append(({name: count - elsewhere[name] for name, count in now.items()}, len(tasks)))

    assert seen[0] == seen[1]
    assert seen[1][0] == dict.fromkeys((kind.__name__ for kind in KINDS), 1)
    assert threading.active_count() < 45
