"""A living plugin object and what belongs to it alone: its hooks, its routes, its background work, its gauges."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any

from proxy.host.dispatch import tame
from proxy.host.hook_rules import new_plugin_manager
from proxy.host.hooks import ARGUMENTS, adapt
from proxy.host.loader import LoadedPlugin
from proxy.plugin import AdminRoute, Machinery, Plugin, PluginConfig, PluginContext
from proxy.tasks import Tasks


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
        own = {
            **{each.name: getattr(tools, each.name) for each in fields(tools)},
            "metrics": self._metrics,
            "log": tools.log.bind(plugin=self.loaded.name),
        }
        context = PluginContext(**own, spawn=self._spawn)
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
