"""A context for plugins under test: what they count, tell and log stays in it."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from loguru import logger

from proxy.events import Event, Events
from proxy.exchange import Exchange, Operation, Request
from proxy.metrics import Registry
from proxy.plugin import PluginContext

NO_CORE: Final = (
    Path("state"),
    lambda exchange: (),
    lambda exchange, audience: False,
    lambda exchange, body: None,
    lambda exchange, body: False,
    lambda: None,
    lambda method, target, headers, body, peer: make_exchange(body),
    lambda text, is_credential: None,
)
"""What a plugin gets of a core that is not there: no folder, candidates, refresh, other form of a reply, tools."""

CHAT = Operation("openai", "chat", "POST", "/v1/chat/completions", streams=True)


class Rig:
    """A PluginContext with its parts at hand."""

    def __init__(self) -> None:
        self.metrics = Registry()
        self.events = Events()
        self.context = PluginContext(
            time.monotonic, time.time, self.metrics, self.events, logger, *NO_CORE, spawn=self._spawn
        )

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.events.recent() if event.kind == kind]

    def _spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> "asyncio.Task[Any]":
        return asyncio.get_running_loop().create_task(coro, name=name)


def make_exchange(body: bytes = b'{"model":"gpt-4o"}', **fields: Any) -> Exchange:
    headers = ((b"Authorization", b"Bearer sk-canary"), (b"X-Api-Key", b"sk-canary"), (b"User-Agent", b"curl/8"))
    request = Request(
        CHAT,
        method="POST",
        path=b"/v1/chat/completions",
        query=b"key=sk-canary",
        headers=headers,
        body=body,
        model="gpt-4o",
    )
    exchange = Exchange(request, id="r-1", received_s=1000.0, peer="127.0.0.1", caller="sk-canary")
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange
