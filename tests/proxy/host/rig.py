"""Plugins and exchanges made up for the tests of the host."""

import time
from collections.abc import Mapping
from typing import Any

from loguru import logger

from proxy.events import Event, Events
from proxy.exchange import Exchange, Operation, Request
from proxy.host.containment import Limits
from proxy.host.loader import describe_class
from proxy.host.manager import Machinery, PluginHost
from proxy.metrics import Registry
from proxy.plugin import Plugin, PluginConfig
from tests.plugins.rig import NO_CORE

CHAT = Operation("openai", "chat", "POST", "/v1/chat/completions", streams=True)
QUICK = Limits(budget_s=0.02, slow_s=0.2, most_failures=5)


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Rig:
    """A host of the given plugin classes, the first called first, with everything it tells and counts."""

    def __init__(
        self, *classes: type[Plugin[Any]], sections: Mapping[str, PluginConfig] | None = None, limits: Limits = QUICK
    ) -> None:
        self.clock = Clock()
        self.metrics = Registry()
        self.events = Events()
        machinery = Machinery(self.clock, time.time, self.metrics, self.events, logger, *NO_CORE)
        loaded = [describe_class(each, f"plugins[{index}]") for index, each in enumerate(classes)]
        self.host = PluginHost(loaded, sections or {}, machinery, limits)

    @property
    def dispatch(self) -> Any:
        return self.host.dispatch

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.events.recent() if event.kind == kind]

    def count(self, metric: str, plugin: str, hook: str) -> float:
        return self.metrics.counter(f"plugin_hook_{metric}_total", "", ("plugin", "hook")).series(plugin, hook).value

    def plugin(self, name: str) -> Any:
        return self.host._slots[name].plugin


def make_exchange(**fields: Any) -> Exchange:
    request = Request(CHAT, method="POST", path=b"/v1/chat/completions", model="gpt-4o", body=b'{"model":"gpt-4o"}')
    exchange = Exchange(request, id="r-1", received_s=1000.0)
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange
