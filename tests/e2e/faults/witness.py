"""A plugin for tests: shows which asyncio tasks the proxy has, so that those left behind by a fault are seen."""

import asyncio
from collections import Counter

from proxy import hookimpl
from proxy.plugin import AdminRoute, Plugin, PluginConfig


class TaskWitnessConfig(PluginConfig):
    """Nothing to set."""


class TaskWitnessPlugin(Plugin[TaskWitnessConfig]):
    name = "task_witness"

    @hookimpl
    def admin_routes(self) -> list[AdminRoute]:
        return [AdminRoute("GET", "/tasks", self.show, "The tasks there are, by what they run.")]

    async def show(self) -> dict[str, int]:
        return dict(Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()))
