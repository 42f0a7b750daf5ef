"""The connections to one provider: idle ones are kept for a while, the newest is used first."""

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from typing import Final

from proxy.config.models import TimeoutSettings
from proxy.errors import ConfigError
from proxy.upstream.connection import Connection
from proxy.upstream.dial import Dialer, Origin
from proxy.upstream.tunnel import ForwardProxy

DISTRUST_S: Final = 60.0
"""How long a provider that sent more than its responses gets one request a connection only.

Its surplus is dropped with the connection it came on, unless the next request went out there a moment before: then it
would be taken for the answer. Who sends such once sends it again.
"""


class Pool:
    """Gives out connections and takes them back; to be made and used on one loop.

    Args:
        provider: name for messages.
        origin: scheme, host, port.
        tls: how to check the provider's certificate; None for http.
        server_name: asked for and checked instead of the host's name, if given.
        proxy_url: an HTTP proxy to tunnel through, if any.
        keep_alive_s: how long an idle connection is kept; 0 keeps none.
        max_idle: idle connections at most.
        header_limit: largest response head, in bytes.
        clock: monotonic seconds.
        made_from: all that the connections depend on; compared to tell whether they still serve.
    Raises:
        ConfigError: the proxy's URL is none we can use.
    """

    def __init__(
        self,
        provider: str,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        proxy_url: str | None = None,
        timeouts: TimeoutSettings,
        keep_alive_s: float = 30.0,
        max_idle: int = 100,
        header_limit: int = 64 << 10,
        clock: Callable[[], float] = time.monotonic,
        made_from: object = None,
    ) -> None:
        if (origin.scheme == "https") != (tls is not None):
            raise ConfigError(f"{provider}: https needs a TLS context, http must have none")
        self.provider = provider
        self.origin = origin
        self.made_from = made_from
        self.opened = 0
        self.reused = 0
        self._dialer = Dialer(
            provider,
            origin,
            tls=tls,
            server_name=server_name,
            proxy=ForwardProxy.parse(proxy_url) if proxy_url else None,
            connect_timeout_s=timeouts.connect,
            header_limit=header_limit,
        )
        self._keep_alive_s = keep_alive_s
        self._max_idle = max_idle
        self._clock = clock
        self._emptied: asyncio.Future[None] | None = None
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._timer: asyncio.TimerHandle | None = None
        self._keeps = keep_alive_s > 0 and max_idle > 0
        self._distrusts_until_s = -math.inf

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Connections in use."""
        return len(self._open) - len(self._idle)

    def take(self) -> Connection | None:
        """Take the idle connection that was used last, or None. It comes back by itself when its exchange ends."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.is_closed and self._clock() - connection.idle_since_s < self._keep_alive_s:
                self.reused += 1
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """Open a connection. Raises as `Dialer.dial` does. It comes back by itself when its exchange ends."""
        connection = await self._dialer.dial(self)
        if not connection.is_closed:
            self._open.add(connection)
        self.opened += 1
        return connection

    def close(self) -> None:
        """Close idle connections now and busy ones when their exchange ends."""
        self._keeps = False
        self._drop_idle()
        self._dialer.close()

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Abort all connections, and wait until the loop has let go of them.

        Whoever waits for a response on one of them is not told: end the exchanges first.
        """
        self.close()
        for connection in self._open:
            connection.abort()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._emptied,), timeout=timeout_s)

    # -- called by connections -----------------------------------------------------------------------------------------

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, if there is room."""
        now_s = self._clock()
        if not self._keeps or len(self._idle) >= self._max_idle or now_s < self._distrusts_until_s:
            connection.abort()
            return
        connection.idle_since_s = now_s
        self._idle.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._keep_alive_s, self._expire)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def distrust(self) -> None:
        """Keep no connection for a while: bytes came that belong to no response."""
        self._distrusts_until_s = self._clock() + DISTRUST_S
        self._drop_idle()

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Close what has been idle too long; the oldest stands first."""
        self._timer = None
        now_s = self._clock()
        idle = self._idle
        while idle and now_s - idle[0].idle_since_s >= self._keep_alive_s:
            idle.pop(0).abort()
        if idle:
            delay_s = self._keep_alive_s - (now_s - idle[0].idle_since_s)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._expire)
