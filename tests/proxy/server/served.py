"""A server of connections with a handler of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy.events import Events
from proxy.server.connection import ConnectionServer, ServerProtocol
from proxy.server.serving import CLOSE, KEEP_ALIVE, Handler

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def server_of(handler: Handler, keep_alive_s: float = 60.0) -> ConnectionServer:
    """Make what makes the connections."""
    return ConnectionServer(
        handler,
        header_timeout_s=lambda: 10.0,
        max_connections=lambda: 100,
        keep_alive_s=lambda: keep_alive_s,
        goes_on=lambda _: False,
        events=Events(),
    )


@asynccontextmanager
async def serving(handler: Handler, keep_alive_s: float = 60.0) -> AsyncIterator[tuple[ConnectionServer, str]]:
    """Serve on a port of loopback until the block ends."""
    manager = server_of(handler, keep_alive_s)
    server = await asyncio.get_running_loop().create_server(manager, "127.0.0.1", 0)
    try:
        yield manager, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await manager.shutdown(5)
        manager.close()


def writing(act: Callable[[web.BaseRequest], object], *, goes_on: bool = True) -> Handler:
    """Make a handler that writes past aiohttp, as the data side does."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        act(request)
        assert isinstance(request.protocol, ServerProtocol)
        assert request.transport is not None
        request.protocol.has_begun = True
        request.transport.write(OK)
        return KEEP_ALIVE if goes_on else CLOSE

    return handle
