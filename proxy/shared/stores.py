"""The store that is in force: made ready beside the present one, then put in its place."""

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, Final

from proxy.config.store_models import StoreAddress, StoreSettings
from proxy.events import Events
from proxy.metrics import Registry
from proxy.shared.accounts import StoreMetrics
from proxy.shared.redis_store import RedisStore
from proxy.store import SharedStore
from proxy.tasks import Tasks

LIBRARY: Final = "proxy.shared.client"
"""Loaded by name when the first store is made: it takes 0.1 s, which only those pay who have one."""


class SharedStores:
    """Holds the store of section `store`, or none.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Registry, events: Events, tasks: Tasks, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._events = events
        self._tasks = tasks
        self._clock = clock
        self._current: RedisStore | None = None

    def current(self) -> SharedStore | None:
        """Give the store to ask now; None: everything stays in this process."""
        return self._current

    def problem(self) -> str | None:
        """Say what an operator should know of it."""
        return None if self._current is None else self._current.problem()

    async def prepare(self, settings: StoreSettings) -> Callable[[], None]:
        """Make a store ready; nothing is opened yet.

        Returns:
            What puts it in force, at once; calls that run go on with the one before.
        Raises:
            ConfigError: `caFile` cannot be read.
        """
        if self._current is not None and settings == self._current.settings:
            return lambda: None
        address = settings.address
        store = None if address is None else await asyncio.to_thread(self._make, settings, address)
        return lambda: self._put_in_force(store)

    async def close(self) -> None:
        """Give up the store."""
        if self._current is not None:
            await self._current.close()

    def _make(self, settings: StoreSettings, address: StoreAddress) -> RedisStore:
        library: Any = importlib.import_module(LIBRARY)  # Any: a module, known by the protocols of redis_store
        return RedisStore(
            settings,
            address.shown,
            library.Client(settings, address),
            library,
            metrics=StoreMetrics(self._metrics),
            events=self._events,
            tasks=self._tasks,
            clock=self._clock,
        )

    def _put_in_force(self, store: RedisStore | None) -> None:
        before, self._current = self._current, store
        if before is not None:
            self._tasks.spawn(before.close(), name="close of the shared store before")
        if store is not None:
            help_text = "Whether the shared store is left alone: 0 it is asked, 1 its circuit is open."
            self._metrics.gauge("store_state", help_text, read=self._state)
            store.start()

    def _state(self) -> float:
        return 1.0 if self._current is not None and self._current.is_open else 0.0
