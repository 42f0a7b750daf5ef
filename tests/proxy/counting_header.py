"""A plugin that gives each request a header of its own, in one list that it changes in place."""

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
        self._headers: list[tuple[bytes, bytes]] = []

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        self._headers[:] = [*exchange.request.headers, (b"X-Number", b"%d" % next(self._numbers))]
        exchange.request.headers = self._headers
