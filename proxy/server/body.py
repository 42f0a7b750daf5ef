"""Request bodies: collected up to a limit, or streamed on; each silence has a deadline."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import StreamReader, web

from proxy.errors import BodyTooLarge, ClientTimeout, MalformedHttp
from proxy.server.memory import Room

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

LINGER_S: Final = 2.0
MAX_DISCARDED_BYTES: Final = 64 << 20

GONE_STATES: Final = frozenset({7, 8})
"""TCP_CLOSE and TCP_CLOSE_WAIT of Linux's tcp_states.h: the client has sent RST or FIN."""


def declared_length(fields: dict[bytes, bytes]) -> int | None:
    """Read Content-Length; None if there is none. aiohttp's parser has refused what is not a number."""
    value = fields.get(b"content-length")
    return int(value) if value is not None else None


CLIENT_LIMIT: Final = "(server.clientMaxSize)"


def admit(
    request: web.BaseRequest, fields: dict[bytes, bytes], limit_bytes: int, limit_name: str = CLIENT_LIMIT
) -> int | None:
    """Refuse a body that is declared too large before any of it is read; answer `Expect: 100-continue` otherwise.

    Returns:
        The declared length, None for none.
    Raises:
        BodyTooLarge: the declared length is above the limit.
    """
    length = declared_length(fields)
    if length is not None and length > limit_bytes:
        raise too_large(length, limit_bytes, limit_name)
    is_waiting = fields.get(b"expect", b"").lower() == b"100-continue" and request.version >= (1, 1)
    if is_waiting and request.transport is not None:
        request.transport.write(CONTINUE)
    return length


def too_large(size_bytes: int, limit_bytes: int, limit_name: str = CLIENT_LIMIT) -> BodyTooLarge:
    """Make the error for a body of a known size."""
    return BodyTooLarge(f"the body is {size_bytes} bytes, the limit {limit_name} is {limit_bytes}")


async def next_part(content: StreamReader, idle_s: float) -> bytes:
    """Wait for the next part; empty at the end."""
    try:
        async with asyncio.timeout(idle_s):
            return await content.readany()
    except TimeoutError:
        raise ClientTimeout(f"nothing of the body came for {idle_s:g} s (server.bodyIdleTimeout)") from None
    except (web.RequestPayloadError, web.PayloadAccessError) as error:
        raise MalformedHttp("the body is not framed as HTTP demands") from error


async def collect(
    content: StreamReader,
    limit_bytes: int,
    idle_s: float,
    limit_name: str = CLIENT_LIMIT,
    room: Room | None = None,
) -> bytes:
    """Read a whole body.

    Args:
        room: grows with what is read.
    Raises:
        Overloaded: there is no room for more of it.
        BodyTooLarge: it is longer than the limit; at most 256 KiB beyond it have been read.
        ClientTimeout: nothing came for `idle_s`.
        MalformedHttp: its framing is broken.
    """
    parts: list[bytes] = []
    size = 0
    while not content.at_eof():
        part = content.read_nowait() if content.is_eof() else await next_part(content, idle_s)
        size += len(part)
        if size > limit_bytes:
            raise BodyTooLarge(f"the body is larger than {limit_bytes} bytes, the limit {limit_name}")
        if room is not None:
            room.grow_to(size)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def discard(content: StreamReader) -> None:
    """Read and throw away what a client still sends after its reply, within bounds.

    Closing at once would reset the connection, and a client that writes before it reads would never see the reply.

    Source: RFC 9112, 9.6.
    """
    size = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while not content.at_eof() and size <= MAX_DISCARDED_BYTES:
                size += len(await content.readany())
    except (TimeoutError, ConnectionError, RuntimeError, web.PayloadAccessError, web.RequestPayloadError):
        return


class ClientUpload:
    """A body that is streamed on as it arrives.

    Args:
        first: what was already read of it.
        length: declared length, None for chunks.
    """

    def __init__(
        self, request: web.BaseRequest, *, first: bytes, length: int | None, limit_bytes: int, idle_s: float
    ) -> None:
        self.length = length
        self._request = request
        self._first = first
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts as they come; the same errors as `collect`."""
        content = self._request.content
        size = len(self._first)
        if self._first:
            yield self._first
        while not content.at_eof():
            part = await next_part(content, self._idle_s)
            size += len(part)
            if size > self._limit_bytes:
                raise BodyTooLarge(f"the body is larger than {self._limit_bytes} bytes (server.clientMaxSize)")
            if part:
                yield part

    def is_client_gone(self) -> bool:
        """Ask the kernel for the state of the client's connection (3 µs)."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return True
        sock = transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return False
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in GONE_STATES
