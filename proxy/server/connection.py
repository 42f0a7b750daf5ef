"""aiohttp's server with what it lacks: deadlines for slow senders, a cap on connections, errors in our shape."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from proxy.events import Events
from proxy.exchange import Exchange
from proxy.server.answers import plain_error
from proxy.server.facts import HeaderFacts
from proxy.server.serving import Handler, RequestLoop

SWEEP_S: Final = 1.0

SURPLUS: Final = 32
"""Connections above the limit that are taken all the same when none is idle: for the admin side, and to say 503."""

READ_BYTES: Final = 64 << 10
"""What is read ahead of a body. aiohttp's own 256 KB cost 0.6 MB for each connection that sends one, this 0.27, and a
tenth more CPU."""

SAME_NEWS_EVERY_S: Final = 10.0


class ServerProtocol(RequestLoop):
    """One client connection.

    Source: aiohttp 3.14.5 has no deadline for request headers, and answers parse errors with its own text and a
        logged traceback.
    """

    __slots__ = (
        "_is_busy",
        "_is_held",
        "_line",
        "_server",
        "_waiting",
        "ends_after_reply",
        "exchange",
        "facts",
        "is_behind",
        "is_quiet",
        "is_surplus",
        "peer",
    )

    def __init__(self, manager: "ConnectionServer", waiting: "dict[ServerProtocol, float]", **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._server = manager
        self._waiting = waiting
        self._is_busy = False
        self._is_held = False
        self._line = manager.silent
        """Where it stands while it is quiet: among those of which nothing has come yet, or that asked before."""
        self.is_quiet = True
        """Nothing of a request has come: it may be closed to make room."""
        self.is_behind = False
        self.ends_after_reply = False
        self.is_surplus = False
        """It is one more than may be: only the admin side answers it."""
        self.exchange: Exchange | None = None
        """What is being answered on the data side."""
        self.facts: HeaderFacts | None = None
        """What the headers of the last request said."""
        self.peer = ""
        """Address of the TCP peer; empty for a Unix socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the first request's headers."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._waiting[self] = self._loop.time()
        self._line[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection, and cancel its request, unless others read the response."""
        self._waiting.pop(self, None)
        self._line.pop(self, None)
        exchange, server = self.exchange, self._server
        server.handler_cancellation = exchange is None or not server.goes_on(exchange)  # asked by the next call
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the clock of later requests' headers with their first byte."""
        if self.is_quiet:
            self.is_quiet = False  # as `_speak`: a call of it would take as long as all of this
            self._line.pop(self, None)
            if self not in self._waiting:
                self._waiting[self] = self._loop.time()
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the client takes our bytes too slowly."""
        self.is_behind = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        self.is_behind = False
        super().resume_writing()

    def pause_reading(self) -> None:
        """Stop reading: the body is ahead of who takes it."""
        self._is_held = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if reading had been stopped: aiohttp asks at every part, and its own way costs a parser run."""
        if self._is_held:
            self._is_held = False
            super().resume_reading(resume_parser)

    @property
    def is_idle(self) -> bool:
        """No request is in work, and none has begun to come."""
        return not self._is_busy and self not in self._waiting

    def begin(self) -> None:
        """A whole request head has been read."""
        if self.is_quiet:  # it had come before the last request was answered
            self._speak()
        self._is_busy = True
        self.has_begun = False
        self._waiting.pop(self, None)
        self._server.busy += 1  # not a call: this is the hot path

    def end(self) -> None:
        """The request has been answered; telling it twice does no harm."""
        if self._is_busy:
            self._is_busy = False
            if self.transport is not None:
                self.is_quiet = True
                self._line = self._server.kept
                self._line[self] = None
            self._server.end()

    def _speak(self) -> None:
        """Note that a request has begun to come."""
        self.is_quiet = False
        self._line.pop(self, None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be read as HTTP, without repeating any of it (it may hold a secret)."""
        if self.has_begun:
            raise ConnectionResetError("the response had begun")
        self.force_close_after_reply()
        if isinstance(exc, MemoryError):
            return plain_error(503, "there was no memory for the request", "overloaded", retry_after_s=1)
        return plain_error(status, HTTPStatus(status).phrase, "invalid_http" if status == 400 else "internal_error")

    def force_close_after_reply(self) -> None:
        """Close once the current reply is out."""
        self.keep_alive(False)

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Leave aiohttp's traceback unwritten: the event of the fault is written by who knows what happened."""


class ConnectionServer(web.Server):
    """Makes and counts connections.

    Args:
        header_timeout_s: asked at each sweep, so that it changes live.
        goes_on: told that a client has left; whether its request goes on for others.
        max_connections: likewise. When they are all there, one that was idle the longest gives way to a new one.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        header_timeout_s: Callable[[], float],
        max_connections: Callable[[], int],
        keep_alive_s: Callable[[], float],
        goes_on: Callable[[Exchange], bool],
        events: Events,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.goes_on = goes_on
        self._header_timeout_s = header_timeout_s
        self._max_connections = max_connections
        self._keep_alive_s = keep_alive_s
        self._events = events
        self._waiting: dict[ServerProtocol, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.silent: OrderedDict[ServerProtocol, None] = OrderedDict()
        """New ones of which nothing has come; whoever was so the longest first."""
        self.kept: OrderedDict[ServerProtocol, None] = OrderedDict()
        """Those that asked before and may ask again; likewise."""
        self._evicted = self._refused = 0
        self._told_s = -SAME_NEWS_EVERY_S
        self.busy = 0
        """Requests in work, on both sides."""
        self._emptied: asyncio.Future[None] | None = None

    def __call__(self) -> ServerProtocol:
        """Make the protocol of a new connection."""
        if self._sweeper is None:
            self._arm()
        return ServerProtocol(
            self,
            self._waiting,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._keep_alive_s(),
            lingering_time=0,
            read_bufsize=READ_BYTES,
            auto_decompress=False,
            access_log=None,
            max_line_size=16 << 10,
            max_field_size=16 << 10,
        )

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection in; when there are too many, another one gives way, or it is itself too many."""
        super().connection_made(handler, transport)
        surplus = len(self._connections) - self.limit
        if surplus <= 0:
            return
        # of the more numerous kind: a flood of silent ones takes no more than half from those who ask
        line = self.silent if len(self.silent) > len(self.kept) else self.kept
        if line:
            oldest, _ = line.popitem(last=False)
            oldest.force_close()  # an orderly close, as when its time were up (RFC 9112, 9.5)
            self._evicted += 1
            return
        self._refused += 1
        if surplus > SURPLUS or not isinstance(handler, ServerProtocol):
            transport.abort()
        else:
            handler.is_surplus = True

    @property
    def limit(self) -> int:
        """Connections at most, as things are now."""
        return self._max_connections()

    def problem(self) -> str | None:
        """Tell operators that there are as many connections as may be; None while there is room."""
        if len(self._connections) < self.limit:
            return None
        return f"all {self.limit} connections are in use, idle ones give way (server.maxConnections, ulimit -n)"

    def end(self) -> None:
        """Count a request that was answered."""
        self.busy -= 1
        if self._emptied is not None and not self.busy and not self._emptied.done():
            self._emptied.set_result(None)

    async def emptied(self) -> None:
        """Wait until no request is in work."""
        while self.busy:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def pre_shutdown(self) -> None:
        """Close idle connections, and have the others end with their current reply."""
        for connection in self.connections:
            if isinstance(connection, ServerProtocol):
                connection.ends_after_reply = True
                if connection.is_idle:
                    connection.force_close()

    def close(self) -> None:
        """Stop the sweeper."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _arm(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Close the connections whose request head is overdue; the oldest come first."""
        self._arm()
        self._tell_if_full()
        limit_s = self._header_timeout_s()
        overdue_since_s = asyncio.get_running_loop().time() - limit_s
        late = []
        for protocol, since_s in self._waiting.items():
            if since_s > overdue_since_s:
                break
            late.append(protocol)
        for protocol in late:
            self._waiting.pop(protocol, None)
            protocol.force_close()
        if late:
            self._events.emit(
                "WARN", "slow_headers", f"closed {len(late)} connections without a whole request in {limit_s:g} s"
            )

    def _tell_if_full(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if not (self._evicted or self._refused) or now_s - self._told_s < SAME_NEWS_EVERY_S:
            return
        self._told_s = now_s
        self._events.emit(
            "WARN",
            "connections_full",
            f"all {self.limit} connections are in use (server.maxConnections, ulimit -n): "
            f"{self._evicted} idle ones were closed to make room, {self._refused} new ones refused",
        )
        self._evicted = self._refused = 0
