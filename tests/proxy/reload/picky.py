"""A plugin for tests: takes new settings in place unless they say that it refuses; keeps a journal."""

import asyncio
from typing import ClassVar

from pydantic import Field

from proxy import hookimpl
from proxy.plugin import AdminReply, AdminRoute, Plugin, PluginConfig


class PickyConfig(PluginConfig):
    size: int = Field(1, description="A number.")
    refuses: bool = Field(False, description="Whether it refuses these settings.")
    route: str = Field("/picky", description="Where it shows itself.")


class PickyPlugin(Plugin[PickyConfig]):
    name = "picky"
    journal: ClassVar[list[str]] = []
    fails: ClassVar[bool] = False
    """It cannot start, whatever the settings."""
    startup_s: ClassVar[float] = 0.0

    @hookimpl
    async def startup(self) -> None:
        self.journal.append(f"up {self.config.size}")
        await asyncio.sleep(self.startup_s)
        if self.config.refuses or self.fails:
            raise RuntimeError("not with these")

    @hookimpl
    def shutdown(self) -> None:
        self.journal.append(f"down {self.config.size}")

    @hookimpl
    def admin_routes(self) -> list[AdminRoute]:
        return [AdminRoute("GET", self.config.route, self.show, "Its size.")]

    async def show(self) -> AdminReply:
        return AdminReply({"size": self.config.size})

    @hookimpl
    async def reconfigure(self, config: PickyConfig) -> None:
        if config.refuses:
            raise ValueError("too picky for that")
        self.journal.append(f"{self.config.size} to {config.size}")
