"""A provider on loopback that follows a script, down to the byte, and what it and the client side saw."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from proxy.config.models import TimeoutSettings
from proxy.errors import UpstreamError
from proxy.sink import ResponseHead
from proxy.upstream.connection import Connection
from proxy.upstream.dial import Origin
from proxy.upstream.pool import Pool

GET = b"GET /v1/models HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """One accepted connection as the script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.received = bytearray()
        self.gone = asyncio.Event()
        """Set when our side closed, seen by `wait_gone`."""

    async def read_head(self) -> bytes:
        """Read one request head; empty if the client closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.received += head
        return head

    async def read(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.received += data
        return data

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait_gone(self) -> None:
        """Read until the client closes."""
        try:
            while data := await self.reader.read(65536):
                self.received += data
        except ConnectionError:
            pass
        self.gone.set()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[Any]]  # Any: the script's result is not read


class Scripted:
    """The server; use with `async with`. The connection is closed when its script returns."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.peers: list[Peer] = []
        self.accepted = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Scripted":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        self.accepted.set()
        task = asyncio.get_running_loop().create_task(self._serve(peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer) -> None:
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            peer.writer.transport.abort() if self.tls else peer.writer.close()


class Recorder:
    """A receiver that writes down every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.head: ResponseHead | None = None
        self.parts: list[bytes] = []
        self.error: UpstreamError | None = None
        self.idle_at_end: int | None = None
        self.pool: Pool | None = None
        self._done = asyncio.get_running_loop().create_future()
        self._news = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def on_head(self, head: ResponseHead) -> None:
        self.calls.append("head")
        self.head = head

    def on_data(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.calls.append("data")
        self.parts.append(data)
        self._news.set()

    def on_read(self) -> None:
        self.calls.append("read")
        self._news.set()

    def on_end(self) -> None:
        self.calls.append("end")
        if self.pool is not None:
            self.idle_at_end = self.pool.idle
        self._done.set_result(None)

    def on_failure(self, error: UpstreamError) -> None:
        self.calls.append("failure")
        self.error = error
        self._done.set_result(None)

    async def read(self) -> None:
        """Wait for the next bytes, or the head."""
        async with asyncio.timeout(5):
            await self._news.wait()
        self._news.clear()

    async def done(self) -> "Recorder":
        """Wait for the end; checks that it was told once and last."""
        async with asyncio.timeout(5):
            await asyncio.shield(self._done)
        assert [call for call in self.calls if call in ("end", "failure")] == [self.calls[-1]]
        return self


def make_pool(port: int, *, timeouts: TimeoutSettings | None = None, host: str = "127.0.0.1", **settings: Any) -> Pool:
    """Make a pool named `test`; Any: the settings of Pool."""
    scheme = "https" if settings.get("tls") is not None else "http"
    return Pool("test", Origin(scheme, host, port), timeouts=timeouts or TimeoutSettings(), **settings)


def start(
    connection: Connection,
    *,
    pool: Pool | None = None,
    head: bytes = GET,
    body: bytes = b"",
    timeouts: TimeoutSettings | None = None,
    is_head_request: bool = False,
    is_upload: bool = False,
) -> Recorder:
    """Send a request and return who will hear of it."""
    recorder = Recorder()
    recorder.pool = pool
    connection.send(head, body, recorder, is_head_request, timeouts or TimeoutSettings(), is_upload=is_upload)
    return recorder


async def ask(pool: Pool, **settings: Any) -> Recorder:
    """Send a request on a connection of the pool and wait for the end; Any: the settings of `start`."""
    return await start(pool.take() or await pool.connect(), pool=pool, **settings).done()


def answer(*parts: bytes, then: str = "wait") -> Script:
    """Make a script: read a head, send the parts one by one, then `wait` for the client, `close` or `reset`."""

    async def script(peer: Peer) -> None:
        if not await peer.read_head():
            return
        for part in parts:
            await peer.send(part)
            await asyncio.sleep(0)
        if then == "wait":
            await peer.wait_gone()
        elif then == "reset":
            peer.reset()

    return script


async def serve_forever(peer: Peer) -> None:
    """Answer every request with OK."""
    while await peer.read_head():
        await peer.send(OK)
