"""A client that sends exactly the bytes it is given and tells when each byte of the answer came."""

import asyncio
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self
from urllib.parse import urlsplit

import orjson

LINGER_ZERO: Final = struct.pack("ii", 1, 0)
READ_BYTES: Final = 1 << 16
Ending = Literal["fin", "rst", "silence"]


class CutOff(ConnectionError):
    """The connection ended before the response was whole; `partial` is the body so far."""

    def __init__(self, message: str, partial: bytes = b"") -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(slots=True)
class RawResponse:
    """One response. `parts` are the chunks of a chunked body, else the reads, with their time (monotonic)."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    parts: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The body without its framing."""
        return b"".join(part for _, part in self.parts)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> object:
        """The body as JSON."""
        return orjson.loads(self.body)

    def header(self, name: str) -> str | None:
        """Find the first header of this name, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class RawClient:
    """One connection. Every read has a timeout and raises TimeoutError.

    Args:
        url: scheme and path are ignored, only host and port count.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        split = urlsplit(url)
        self._address = (split.hostname or "127.0.0.1", split.port or 80)
        self._timeout_s = timeout_s
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._buffer = bytearray()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Its own end of the connection."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def has_more(self) -> bool:
        """Bytes came that nobody has read, beyond the responses so far."""
        return bool(self._buffer)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        async with asyncio.timeout(self._timeout_s):
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawResponse:
        """Send a request with Host and Content-Length added, and read the whole response."""
        await self.send(encode_request(method, target, body, headers, host=f"{self._address[0]}:{self._address[1]}"))
        return await self.read_response(is_head=method == "HEAD")

    async def read_response(self, *, is_head: bool = False) -> RawResponse:
        """Read one response, interim ones skipped.

        Raises:
            CutOff: the connection ended before the response was whole.
        """
        response = await self.read_head()
        while 100 <= response.status < 200:
            response = await self.read_head()
        if is_head or response.status in (204, 304):
            return response
        while await self.read_part(response):
            pass
        return response

    async def read_head(self) -> RawResponse:
        """Read a status line and its headers, of an interim response too."""
        head = (await self._read_until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        _, status, *reason = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        return RawResponse(int(status), "".join(reason), [(key, value.strip()) for key, _, value in pairs])

    async def read_part(self, response: RawResponse) -> bytes:
        """Read the next chunk, or whatever of an unchunked body is there; empty at the end. Keeps it in `parts`."""
        part = await self._next_part(response)
        if part:
            response.parts.append((time.monotonic(), part))
        return part

    async def _next_part(self, response: RawResponse) -> bytes:
        if "chunked" in (response.header("transfer-encoding") or "").lower():
            try:
                size = int((await self._read_until(b"\r\n")).split(b";")[0], 16)
                if size:
                    return (await self._read_exactly(size + 2))[:-2]
                while await self._read_until(b"\r\n") != b"\r\n":  # trailers
                    pass
            except CutOff as error:
                raise CutOff("the chunked body has no end", response.body + error.partial) from error
            return b""
        length = response.header("content-length")
        left = int(length) - len(response.body) if length is not None else None
        if left == 0:
            return b""
        if not self._buffer and not await self._fill():
            if left is None:
                return b""
            raise CutOff(f"{left} bytes of the body are missing", response.body)
        taken = bytes(self._buffer[:left])
        del self._buffer[: len(taken)]
        return taken

    async def read_until_closed(self) -> bytes:
        """Read all that still comes, until the peer closes or resets."""
        try:
            while await self._fill():
                pass
        except ConnectionError:
            pass  # a reset ends it as well
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    async def read_ending(self, silence_s: float = 0.25) -> tuple[bytes, Ending]:
        """Read all that still comes, and tell how it ends; `silence` is nothing more for so long."""
        ending: Ending = "fin"
        try:
            async with asyncio.timeout(silence_s) as quiet:
                while await self._fill():
                    quiet.reschedule(asyncio.get_running_loop().time() + silence_s)
        except TimeoutError:
            ending = "silence"
        except ConnectionError:
            ending = "rst"
        return self._take(len(self._buffer)), ending

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close politely: FIN, or RST if bytes of the peer are unread."""
        self._socket.close()

    def reset(self) -> None:
        """Close by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self._socket.close()

    async def _fill(self) -> bool:
        async with asyncio.timeout(self._timeout_s):
            data = await asyncio.get_running_loop().sock_recv(self._socket, READ_BYTES)
        self._buffer += data
        return bool(data)

    async def _read_until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            await self._fill_or_fail()
        return self._take(at + len(mark))

    async def _read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._fill_or_fail()
        return self._take(count)

    async def _fill_or_fail(self) -> None:
        try:
            if await self._fill():
                return
        except ConnectionError as error:
            raise CutOff(f"the connection was reset: {error}", bytes(self._buffer)) from error
        raise CutOff("the connection was closed", bytes(self._buffer))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def encode_request(
    method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, *, host: str
) -> bytes:
    """Write a request; Host and, with a body, Content-Length and Content-Type are added where they are missing."""
    fields = {"Host": host}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    for key, value in (headers or {}).items():
        fields = {have: old for have, old in fields.items() if have.lower() != key.lower()} | {key: value}
    lines = [f"{method} {target} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")
