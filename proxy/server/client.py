"""The client's connection as a sink: head, framing, backpressure, and the honest end of a broken response."""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from proxy.errors import Cancelled, PluginFailed, ProxyError, Refused, UpstreamError
from proxy.exchange import Exchange, write_headers
from proxy.formats.attempts import attempt_lines
from proxy.formats.base import Format
from proxy.server.answers import PROBLEM, problem_body
from proxy.server.connection import ServerProtocol
from proxy.server.serving import CLOSE, KEEP_ALIVE, Written

STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}

NO_CONTENT: Final = 204
"""Must not have a Content-Length (RFC 9110, 8.6)."""

UNBUFFERED: Final = b"X-Accel-Buffering: no\r\n"
"""Asks nginx and its like, in front of this proxy, to hand a stream on event by event."""

CONNECTION_CLOSE: Final = b"Connection: close\r\n"

WHOLE: Final = b"%b%b%b%bContent-Length: %d\r\n%b\r\n%b"
"""Status line, our own lines, what plugins tell, the response's lines, framing and body."""

CLOSE_TIMEOUT_S: Final = 30.0
"""How long a client may take to read what was written before its broken response was closed."""
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing resets the connection."""

EVENT_STREAMS: Final = (b"text/event-stream", b"application/x-ndjson")
CONTENT_TYPE: Final = re.compile(rb"^content-type:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
"""Where it is repeated the last one counts, as it does for who watches the response."""
ENCODED: Final = re.compile(rb"^content-encoding:", re.IGNORECASE | re.MULTILINE)

NO_OPERATION: Final = "none"
"""Name of the operation of an exchange whose path stands for nothing."""

PROBLEM_JSON: Final = (b"Content-Type", PROBLEM.encode())
JSON: Final = (b"Content-Type", b"application/json")


class ClientSink:
    """Writes a response straight to the client's transport.

    Every byte goes through `transport.write`: aiohttp's own response classes cost up to a quarter more per event.

    Args:
        wire: the client's format for errors.
        extra: header lines of ours, each with its CRLF.
    """

    # What most responses never change is an attribute of the class, so that making a sink is cheap.
    _head = b""
    _is_chunked = False
    _ends_with_close = False
    _is_flowing = False
    """Head and first bytes are out and chunks follow: the hot state of a stream."""
    _is_event_stream = False
    _has_body = True
    is_started = False
    is_finished = False
    is_cut = False

    def __init__(
        self,
        request: web.BaseRequest,
        protocol: ServerProtocol,
        exchange: Exchange,
        wire: Format,
        clock: Callable[[], float],
        extra: bytes,
    ) -> None:
        self._protocol = protocol
        self._request = request
        self._content = request.content
        self._exchange = exchange
        self._wire = wire
        self._clock = clock
        self._extra = extra
        self._is_old = request.version < (1, 1)
        self._may_keep_alive = request.keep_alive and not self._is_old

    # -- the sink --------------------------------------------------------------------------------------------------

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Write down the head; it leaves with the first bytes of the body."""
        first = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        framing = b""
        self._is_chunked = False
        if length is not None:
            if status != NO_CONTENT:
                framing = b"Content-Length: %d\r\n" % length
        elif has_body:
            self._ends_with_close = self._is_old
            if self._exchange.request.operation.name != "raw" and is_event_stream(headers):
                self._is_event_stream = True
                framing = UNBUFFERED
            if not self._is_old:
                self._is_chunked = True
                framing += b"Transfer-Encoding: chunked\r\n"
        if (
            not self._may_keep_alive or self._protocol.ends_after_reply or not self._content.is_eof()
        ):  # what follows an unread body is no request
            self._may_keep_alive = False
            framing += CONNECTION_CLOSE
        exchange = self._exchange
        self._head = b"%b%b%b%b%b\r\n" % (first, self._extra, exchange.told, headers, framing)
        self.is_started = self._protocol.has_begun = True
        exchange.status = status
        self._has_body = has_body

    def write(self, data: bytes) -> bool:
        """Send body bytes; with the head, if it has not left yet."""
        exchange = self._exchange
        if self._is_flowing and data:
            exchange.bytes_out += len(data)
            transport = self._protocol.transport
            if transport is None:
                return True
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            return not self._protocol.is_behind
        if not data or not self._has_body:
            data = self._head
            if not data:
                return True
        else:
            exchange.bytes_out += len(data)
            if exchange.time_to_first_token_s is None:
                exchange.time_to_first_token_s = self._clock() - exchange.received_s
            if self._is_chunked:
                data = b"%b%x\r\n%b\r\n" % (self._head, len(data), data)
            elif self._head:
                data = self._head + data
        self._head = b""
        protocol = self._protocol
        transport = protocol.transport
        if transport is None:  # the client has left; the cancellation of the exchange is on its way
            return True
        transport.write(data)
        self._is_flowing = self._is_chunked and exchange.time_to_first_token_s is not None
        return not protocol.is_behind

    def finish(self) -> None:
        """End the response."""
        self.is_finished = True
        last = self._head + b"0\r\n\r\n" if self._is_chunked else self._head
        if last and (transport := self._protocol.transport) is not None:
            transport.write(last)
        self._head = b""

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Send a response that is all there, in one write."""
        exchange, protocol = self._exchange, self._protocol
        if self._may_keep_alive and not protocol.ends_after_reply and self._content.is_eof():
            closing = b""
        else:
            self._may_keep_alive, closing = False, CONNECTION_CLOSE
        length = len(body)
        first = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        data = WHOLE % (first, self._extra, exchange.told, headers, length, closing, body)
        self.is_started = self.is_finished = protocol.has_begun = True
        exchange.status = status
        exchange.bytes_out += length
        if exchange.time_to_first_token_s is None:
            exchange.time_to_first_token_s = self._clock() - exchange.received_s
        if (transport := protocol.transport) is not None:
            transport.write(data)
        return not protocol.is_behind

    def fail(self, error: ProxyError) -> None:
        """Answer an error, or end what has begun so that nobody takes it as whole; what is whole stays so."""
        exchange, wire = self._exchange, self._wire
        if self.is_finished:  # an end from outside came with the last byte: the client has all there is
            return
        if not self.is_started:
            is_placeless = exchange.request.operation.name == NO_OPERATION and wire.name == "native"
            body = problem_body(error, exchange.id) if is_placeless else wire.error_body(error, exchange.id)
            headers = [PROBLEM_JSON if is_placeless else JSON, *wire.headers_for_error(error)]
            if len(exchange.attempts) > 1 or isinstance(error, Cancelled):
                headers.append((b"x-should-retry", b"false"))
            lines = write_headers(headers) + attempt_lines(exchange)
            self.start(wire.error_status(error), lines, len(body), exchange.request.method != "HEAD")
            self.write(body)
            self.finish()
            return
        if self._is_event_stream and not self._head:
            if not isinstance(error, UpstreamError | Cancelled | Refused | PluginFailed):
                error = UpstreamError(error.message)
            self.write(wire.error_event(exchange.request.operation, error, exchange.id))
        self.close()

    def abort(self) -> None:
        """Drop the connection with what was not sent yet."""
        self._may_keep_alive = False
        self.is_cut = True
        if (transport := self._protocol.transport) is not None:
            transport.abort()

    async def drain(self) -> None:
        """Wait until the client has taken what was written."""
        await self._request.writer.drain()

    def close(self) -> None:
        """Close the connection without ending the response; what was written is still sent."""
        self._may_keep_alive = False
        self.is_cut = True
        if (transport := self._protocol.transport) is None:
            return
        if self._ends_with_close:  # HTTP/1.0 takes an orderly close for the end of the body
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            transport.abort()
            return
        transport.close()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, transport.abort)

    @property
    def written(self) -> Written:
        """What to hand to aiohttp at the end."""
        return KEEP_ALIVE if self._may_keep_alive and self.is_finished else CLOSE


def is_event_stream(headers: bytes) -> bool:
    """Tell whether a response is a stream of events that is not compressed, so that another event may follow."""
    kinds = CONTENT_TYPE.findall(headers)
    return bool(kinds) and kinds[-1].lower().startswith(EVENT_STREAMS) and ENCODED.search(headers) is None
