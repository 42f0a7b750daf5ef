"""A plugin that answers as a header of the request asks."""

from proxy import hookimpl
from proxy.exchange import Exchange, Reply
from proxy.plugin import Plugin, PluginConfig

REPLIES = {
    b"whole": Reply(headers=((b"Content-Type", b"application/json"),), body=b'{"a":1}'),
    b"stream": Reply(headers=((b"Content-Type", b"text/event-stream"),), body=b"data: 1\n\n", is_stream=True),
    b"nothing": Reply(status=204),
    b"large": Reply(headers=((b"Content-Type", b"application/json"),), body=b'"%b"' % (b"x" * 500_000)),
}


class ReplyingConfig(PluginConfig):
    """No settings."""


class ReplyingPlugin(Plugin[ReplyingConfig]):
    name = "replying"

    @hookimpl
    def pre_request(self, exchange: Exchange) -> Reply | None:
        return REPLIES.get(exchange.request.fields.get(b"x-reply", b""))
