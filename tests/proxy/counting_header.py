"""A plugin that gives each request a header of its own."""

from itertools import count

from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.plugin import Plugin, PluginConfig, PluginContext


class CountingHeaderConfig(PluginConfig):
    """No settings."""


class CountingHeaderPlugin(Plugin[CountingHeaderConfig]):
    name = "counting_header"

    def __init__(self, config: CountingHeaderConfig, context: PluginContext) -> None:
        self.config = config
        self._numbers = count(1)

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        exchange.request.headers = [*exchange.request.headers, (b"X-Number", b"%d" % next(self._numbers))]
