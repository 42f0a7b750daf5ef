"""Plugins made up for the tests of live changes; all of them write what is done to them into one journal."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pluggy

from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.host.instance import Instance
from proxy.host.slot import Slot
from proxy.plugin import AdminRoute, Plugin, PluginConfig, PluginContext

Journal = list[str]


class Sized(PluginConfig):
    """A section with a setting."""

    size: int = 1


def recorder(plugin_name: str, journal: Journal, **hooks: Callable[..., Any]) -> type[Plugin[Any]]:
    """Make a plugin class that is made anew when its section changes; `hooks` replace or add some, `self` included."""

    class Recorder(Plugin[Sized]):
        name = plugin_name

        def __init__(self, config: Sized, context: PluginContext) -> None:
            super().__init__(config, context)
            self.seen = 0
            context.metrics.gauge(f"{plugin_name}_size", "Size.", read=lambda: self.config.size)
            self.made = context.metrics.counter(f"{plugin_name}_made_total", "Made.")
            self.made.inc()

        @hookimpl
        async def startup(self) -> None:
            journal.append(f"{self.name} {self.config.size} up")
            self.task = self.context.spawn(asyncio.sleep(3600), name=f"{self.name}: background")

        @hookimpl
        async def shutdown(self) -> None:
            journal.append(f"{self.name} {self.config.size} down")

        @hookimpl
        async def pre_request(self, exchange: Exchange) -> None:
            self.seen += 1
            exchange.notes.setdefault("order", []).append(f"{self.name} {self.config.size}")

        @hookimpl
        def admin_routes(self) -> list[AdminRoute]:
            return [AdminRoute("GET", f"/{plugin_name}", self.show, "Its size.")]

        async def show(self) -> object:
            return self.config.size

    for name, function in hooks.items():
        setattr(Recorder, name, function if name in ("__init__", "skips") else hookimpl(function))
    return Recorder


def adapter(plugin_name: str, journal: Journal, **hooks: Callable[..., Any]) -> type[Plugin[Any]]:
    """Make a plugin class that takes over new settings in place."""

    async def reconfigure(self: Any, config: Sized) -> None:
        await asyncio.sleep(0)
        journal.append(f"{self.name} {self.config.size} -> {config.size}")

    return recorder(plugin_name, journal, **{"reconfigure": reconfigure, **hooks})


def sizes(**sizes: int) -> dict[str, PluginConfig]:
    """Make sections by their sizes."""
    return {name: Sized(size=size) for name, size in sizes.items()}


def living(*kinds: type[Plugin[Any]]) -> dict[str, int]:
    """Count what somebody still holds: objects of these classes, and what the host and pluggy made for them."""
    gc.collect()
    counts = {"Recorder": 0, "Slot": 0, "Instance": 0, "HookImpl": 0}
    for each in gc.get_objects():
        if type(each) in kinds:
            counts["Recorder"] += 1
        elif isinstance(each, Slot | Instance) and each.loaded.plugin_class in kinds:
            counts[type(each).__name__] += 1
        elif isinstance(each, pluggy.HookImpl) and type(each.plugin) in kinds:
            counts["HookImpl"] += 1
    return counts
