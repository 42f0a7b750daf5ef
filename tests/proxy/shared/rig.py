"""A store on a real server, with what it tells and counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from proxy.config.store_models import StoreSettings
from proxy.events import Events
from proxy.metrics import Registry
from proxy.shared.stores import SharedStores
from proxy.store import SharedStore, StoreUnavailable
from proxy.tasks import Tasks
from proxy.testing.changes import Changes

TIMEOUT_S = 0.1
SLACK_S = 0.1
"""What a call may last longer on a busy machine; a call that hangs lasts for ever."""


class StoreRig:
    """The holder of a store, as the app has it."""

    def __init__(self) -> None:
        self.events = Events()
        self._news = Changes("store")
        self.events.subscribe(lambda _: self._news.notify())
        self.metrics = Registry()
        self.tasks = Tasks(self.events)
        self.stores = SharedStores(self.metrics, self.events, self.tasks, time.monotonic)

    async def use(self, url: str, **settings: Any) -> SharedStore:
        """Put a store in force, whose first look is over."""
        store = await self.use_now(url, **settings)
        await self.quiet()
        return store

    async def use_now(self, url: str, **settings: Any) -> SharedStore:
        """Put a store in force."""
        settings = {"timeout": TIMEOUT_S, "breaker": {"cooldown": 0.05, "maxCooldown": 0.1}, **settings}
        put_in_force = await self.stores.prepare(StoreSettings.model_validate({"url": url, **settings}))
        put_in_force()
        return self.store

    @property
    def store(self) -> SharedStore:
        store = self.stores.current()
        assert store is not None
        return store

    @property
    def told(self) -> list[str]:
        return [event.kind for event in self.events.recent()]

    def calls(self, outcome: str) -> float:
        return self.metrics.counter("store_calls_total", "", ("outcome",)).series(outcome).value

    async def quiet(self) -> None:
        """Wait until no work is left in the background."""
        async with asyncio.timeout(10):
            while len(self.tasks):  # noqa: ASYNC110 (nobody is told)
                await asyncio.sleep(0.001)

    async def until(self, kind: str) -> None:
        """Wait until something has been told."""
        await self._news.wait(lambda: kind in self.told, 10, lambda: f"{kind}, but {self.told}")

    async def fails(self) -> float:
        """Make a call that cannot succeed; how long it took."""
        began_s = time.monotonic()
        try:
            await self.store.call(lambda redis: redis.get("a"))
        except StoreUnavailable:
            return time.monotonic() - began_s
        raise AssertionError("it was answered")


@asynccontextmanager
async def store_rig() -> AsyncIterator[StoreRig]:
    rig = StoreRig()
    try:
        yield rig
    finally:
        await rig.stores.close()
        await rig.tasks.close()
