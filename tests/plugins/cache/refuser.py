"""A plugin that refuses, answers or holds requests after the cache has seen them; requests steer it by a header."""

import asyncio

from proxy import hookimpl
from proxy.errors import Refused
from proxy.exchange import Exchange, Reply, Wait
from proxy.plugin import Plugin, PluginConfig

GATES: dict[str, asyncio.Event] = {}
"""Opened by a test that lets requests wait here."""


class RefuserConfig(PluginConfig):
    """Section `refuser`."""


class RefuserPlugin(Plugin[RefuserConfig]):
    """Does as the header X-Refuser says."""

    name = "refuser"

    @hookimpl(trylast=True)
    def pre_request(self, exchange: Exchange) -> Reply | Wait | None:
        match exchange.request.header(b"x-refuser"):
            case b"refuse":
                raise Refused("not today", code="not_today", status=403)
            case b"answer":
                return Reply(body=b'{"choices":[]}')
            case b"wait, then refuse":
                return Wait(self._refuse(), 30)
        return None

    async def _refuse(self) -> Reply | None:
        await GATES["refuse"].wait()
        raise Refused("not today", code="not_today", status=403)
