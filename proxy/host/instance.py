"""A living plugin object and what belongs to it alone: its hooks, its routes, its background work, its gauges."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.callers import Identity
from proxy.events import Events
from proxy.exchange import Audience, Candidate, Exchange, Reply
from proxy.host.dispatch import tame
from proxy.host.hook_rules import new_plugin_manager
from proxy.host.hooks import ARGUMENTS, adapt
from proxy.host.loader import LoadedPlugin
from proxy.metrics import Registry
from proxy.plugin import AdminRoute, Imagine, Plugin, PluginConfig, PluginContext, nothing_shared
from proxy.store import SharedStore
from proxy.tasks import Tasks

if TYPE_CHECKING:
    from loguru import Logger


@dataclass(frozen=True, slots=True)
class Machinery:
    """What every plugin's context is made of; see PluginContext."""

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    metrics: Registry
    events: Events
    log: "Logger"
    state_dir: Path
    targets: Callable[[Exchange], Sequence[Candidate]]
    refresh: Callable[[Exchange, Audience], bool]
    rearrange: Callable[[Exchange, bytes], Reply | None]
    calls_tool: Callable[[Exchange, bytes], bool]
    give_back: Callable[[], None]
    imagine: Imagine
    identify: Callable[[str], Identity | None]
    store: Callable[[], SharedStore | None] = nothing_shared


@dataclass(frozen=True, slots=True)
class Implementation:
    """One method that implements a hook.

    Args:
        rank, call: as in Hook.
    """

    rank: int
    call: Callable[..., Any]  # Any: what a plugin answers is checked by the dispatcher


class Instance:
    """One object of a plugin's class. Nothing of it is left behind by `end`, but what the plugin gave away itself."""

    plugin: Plugin[Any]  # Any: each plugin has its own config model

    def __init__(self, loaded: LoadedPlugin, machinery: Machinery) -> None:
        self.loaded = loaded
        self.tasks = Tasks(machinery.events)
        self.implementations: dict[str, tuple[Implementation, ...]] = {}
        self.routes: dict[tuple[str, str], AdminRoute] = {}
        """By method and path, each handler taking an AdminRequest."""
        self.is_started = False
        self._is_ended = False
        self._machinery = machinery
        self._metrics = machinery.metrics.view()

    def make(self, config: PluginConfig) -> None:
        """Call the constructor and find the hooks. Raises whatever the plugin raises."""
        tools = self._machinery
        context = PluginContext(
            clock=tools.clock,
            wall_clock=tools.wall_clock,
            spawn=self._spawn,
            metrics=self._metrics,
            events=tools.events,
            log=tools.log.bind(plugin=self.loaded.name),
            state_dir=tools.state_dir,
            targets=tools.targets,
            refresh=tools.refresh,
            rearrange=tools.rearrange,
            calls_tool=tools.calls_tool,
            give_back=tools.give_back,
            imagine=tools.imagine,
            identify=tools.identify,
            store=tools.store,
        )
        self.plugin = tame(self.loaded.plugin_class, config, context)
        plugins = new_plugin_manager()
        tame(plugins.register, self.plugin, self.loaded.name)
        for name, arguments in ARGUMENTS.items():
            found = reversed(getattr(plugins.hook, name).get_hookimpls())  # pluggy calls the last one first
            self.implementations[name] = tuple(
                Implementation(0 if each.tryfirst else 2 if each.trylast else 1, adapt(each, arguments))
                for each in found
            )

    async def end(self) -> None:
        """Cancel what it left running, and forget what its gauges read; it can spawn nothing any more."""
        self._is_ended = True
        try:
            await self.tasks.close()
        finally:
            self._metrics.release()

    def _spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> "asyncio.Task[Any]":
        if self._is_ended:
            coro.close()
            raise RuntimeError(f"plugin {self.loaded.name} has ended, so it cannot start {name}")
        return self.tasks.spawn(coro, name=name)
