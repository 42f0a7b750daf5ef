"""A plugin that notes how each exchange ended, to count the calls of its hook."""

from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.plugin import Plugin, PluginConfig
from proxy.testing import ProxyHarness


class WitnessConfig(PluginConfig):
    pass


class WitnessPlugin(Plugin[WitnessConfig]):
    name = "witness"

    @hookimpl
    async def post_response(self, exchange: Exchange) -> None:
        code = None if exchange.error is None else exchange.error.code
        self.context.events.emit("DEBUG", "ended", f"{exchange.id} {exchange.status} {code}")


def outcomes(proxy: ProxyHarness) -> list[str]:
    """List id, status and error of every exchange that ended, in this order."""
    return [event.message for event in proxy.events.recent() if event.kind == "ended"]
