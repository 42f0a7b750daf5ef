"""A plugin for tests: asks the shared store in the middle of a request, and says what came of it."""

from typing import ClassVar

from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.plugin import Plugin, PluginConfig
from proxy.store import StoreUnavailable


class AskingConfig(PluginConfig):
    """It has no settings of its own."""


class AskingPlugin(Plugin[AskingConfig]):
    name = "asking"
    answers: ClassVar[list[object]] = []

    @hookimpl
    async def pre_request(self, exchange: Exchange) -> None:
        store = self.context.store()
        if store is None:
            self.answers.append("none")
            return
        try:
            self.answers.append(await store.call(lambda redis: redis.incr(f"{store.prefix}:n")))
        except StoreUnavailable as error:
            self.answers.append(error.code)
