"""A request body on its way from the client to the provider, while the response may already come."""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.errors import ClientError, UpstreamError
from proxy.exchange import UploadBody
from proxy.tasks import Tasks
from proxy.upstream.connection import Connection
from proxy.upstream.headers import LAST_CHUNK, frame_chunk
from proxy.upstream.relay import Relay

CLIENT_POLL_S: Final = 0.1
"""How often a client is looked at while its upload is stalled, because nothing is read from it then."""


async def run_upload(
    upload: UploadBody, relay: Relay, connection: Connection, tasks: Tasks, write_timeout_s: float
) -> None:
    """Send the body while the response may already come. Raises as `Relay.run`, and what the client did wrong."""
    pump = tasks.spawn(_pump(upload, relay, connection), name="upload")
    try:
        await relay.run(connection, write_timeout_s)
    except UpstreamError:
        if pump.done() and not pump.cancelled() and (cause := pump.result()) is not None:
            raise cause from None
        raise
    finally:
        pump.cancel()
        await asyncio.wait((pump,))  # it holds the client's stream until it has run


async def _pump(upload: UploadBody, relay: Relay, connection: Connection) -> Exception | None:
    """Send the body; return what the client did wrong, after breaking the call off for it."""
    is_chunked = upload.length is None
    try:
        async for part in upload:
            if relay.is_over:
                return None
            if not connection.write_body(frame_chunk(part) if is_chunked else part):
                await _drained(connection, upload.is_client_gone)
        connection.end_body(LAST_CHUNK if is_chunked else b"")
    except (ClientError, ConnectionError) as error:
        if not relay.is_over:
            connection.abort()
            relay.on_failure(UpstreamError("the upload ended early"))
        return error
    return None


async def _drained(connection: Connection, is_client_gone: Callable[[], bool]) -> None:
    """Wait until the provider takes more; raises ConnectionResetError when the client leaves meanwhile."""
    while True:
        try:
            async with asyncio.timeout(CLIENT_POLL_S):
                await connection.drain()
            return
        except TimeoutError:
            if is_client_gone():
                raise ConnectionResetError("the client left during its upload") from None
