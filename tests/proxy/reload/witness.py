"""A plugin for tests: notes which revision and which settings each request saw, at its beginning and at its end."""

from typing import ClassVar

from pydantic import Field

from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.plugin import Plugin, PluginConfig


class WitnessConfig(PluginConfig):
    number: int = Field(0, description="A number that each revision has of its own.")


class WitnessPlugin(Plugin[WitnessConfig]):
    name = "witness"
    seen: ClassVar[list[tuple[int, int, int, int]]] = []
    """Revision and number at the beginning, then at the end."""

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        exchange.notes[self.name] = (exchange.revision, self.config.number)

    @hookimpl
    def post_response(self, exchange: Exchange) -> None:
        begin: tuple[int, int] = exchange.notes[self.name]
        self.seen.append((*begin, exchange.revision, self.config.number))
