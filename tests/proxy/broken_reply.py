"""A plugin whose reply has a header that would break out of its line."""

from proxy import hookimpl
from proxy.exchange import Exchange, Reply
from proxy.plugin import Plugin, PluginConfig, PluginContext


class BrokenReplyConfig(PluginConfig):
    """No settings."""


class BrokenReplyPlugin(Plugin[BrokenReplyConfig]):
    name = "broken_reply"

    def __init__(self, config: BrokenReplyConfig, context: PluginContext) -> None:
        self.config = config

    @hookimpl
    async def pre_request(self, exchange: Exchange) -> Reply:
        return Reply(headers=[(b"X-Model", b"a\r\nSet-Cookie: b")], body=b"{}")
