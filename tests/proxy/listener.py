"""A plugin that listens to every relayed response, as a cache does; requests steer it by headers."""

from collections.abc import Callable

from proxy import hookimpl
from proxy.errors import ProxyError
from proxy.exchange import Exchange, Reply
from proxy.plugin import Plugin, PluginConfig
from proxy.testing.changes import Changes

HEARD: list["Listener"] = []
"""Everybody who listened, in order; emptied by the tests that read it."""


class ListenerConfig(PluginConfig):
    """Section `listener`."""


class Listener:
    """Takes down what it hears."""

    def __init__(self, *, is_wanted: bool, has_better: bool) -> None:
        self.is_wanted = is_wanted
        self.status: int | None = None
        self.body = b""
        self.concluded_with: list[int | None] = []
        self.ends: list[ProxyError | str | None] = []
        self._has_better = has_better

    def start(self, status: int, headers: bytes) -> None:
        self.status = status

    def write(self, data: bytes) -> bool:
        self.body += data
        return True

    def finish(self) -> None:
        self.ends.append("whole")

    def fail(self, error: ProxyError | None) -> None:
        self.ends.append(error)

    async def drain(self) -> None:
        """Never be behind."""

    def when_unwanted(self, act: Callable[[], object]) -> None:
        self.unwanted = act

    def concluded(self, exchange: Exchange) -> None:
        self.concluded_with.append(exchange.status)

    def covers(self, error: ProxyError) -> bool:
        return self._has_better and error.status >= 500

    def instead(self, exchange: Exchange, error: ProxyError) -> Reply | None:
        return Reply(body=b"what was known before")


class ListenerPlugin(Plugin[ListenerConfig]):
    """Listens, and tells so in a header."""

    name = "listener"

    @hookimpl
    def pre_request(self, exchange: Exchange) -> None:
        wishes = exchange.request.fields.get(b"x-listener", b"")
        listener = Listener(is_wanted=b"stay" in wishes, has_better=b"better" in wishes)
        HEARD.append(listener)
        exchange.audience = listener
        exchange.tell(b"X-Listener", b"1")

    @hookimpl
    def post_response(self, exchange: Exchange) -> None:
        ENDED.append(exchange)
        CHANGES.notify()


ENDED: list[Exchange] = []
"""Every exchange that has ended, in order."""
CHANGES = Changes("listener")


async def wait_for_ended(count: int = 1) -> None:
    """Wait until so many exchanges have ended."""
    await CHANGES.wait(lambda: len(ENDED) >= count, 5.0, lambda: f"{count} ended exchanges")
