"""What the client's connection gets: head, framing, and the honest end of a broken response."""

import asyncio
import re
import socket
import struct
from types import SimpleNamespace
from typing import Any, cast

import httptools
import orjson
import pytest
from aiohttp import web

from proxy.errors import (
    Cancelled,
    MethodNotAllowed,
    Overloaded,
    ProxyError,
    Refused,
    Unauthorized,
    UpstreamAuth,
    UpstreamCut,
)
from proxy.exchange import Attempt, Exchange, Operation, Request
from proxy.formats.registry import FORMATS
from proxy.server.client import CLOSE, KEEP_ALIVE, ClientSink
from proxy.server.connection import ServerProtocol

JSON = b"Content-Type: application/json\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"
RAW = Operation("openai", "raw", "POST", "/v1/{rest}", reads_body=False)


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.end = ""
        self.options: dict[int, bytes] = {}

    def get_extra_info(self, name: str) -> Any:  # Any: as asyncio's
        return SimpleNamespace(setsockopt=lambda level, option, value: self.options.update({option: value}))

    def write(self, data: bytes) -> None:
        assert not self.end
        self.written += data

    def close(self) -> None:
        self.end = self.end or "close"

    def abort(self) -> None:
        self.end = self.end or "abort"


class Client:
    """A client's connection, and the sink that writes to it."""

    def __init__(
        self,
        operation: Operation | None = None,
        *,
        method: str = "POST",
        version: tuple[int, int] = (1, 1),
        keep_alive: bool = True,
        is_body_read: bool = True,
        is_streaming: bool = False,
    ) -> None:
        self.transport = FakeTransport()
        self.drained = asyncio.Event()
        self.protocol = SimpleNamespace(
            transport=self.transport, is_behind=False, ends_after_reply=False, has_begun=False
        )
        operation = operation or FORMATS["openai"].operation("chat")
        request = SimpleNamespace(
            writer=SimpleNamespace(drain=self.drained.wait),
            content=SimpleNamespace(is_eof=lambda: is_body_read),
            version=version,
            keep_alive=keep_alive,
        )
        inner = Request(operation, method=method, path=b"/x", is_streaming=is_streaming)
        self.exchange = Exchange(inner, id="req_1", received_s=10.0)
        self.sink = ClientSink(
            cast(web.BaseRequest, request),
            cast(ServerProtocol, self.protocol),
            self.exchange,
            FORMATS[operation.format],
            lambda: 12.5,
            b"X-Request-Id: req_1\r\n",
        )

    @property
    def head(self) -> bytes:
        return self.transport.written.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.transport.written.partition(b"\r\n\r\n")[2]

    def names(self) -> list[bytes]:
        return [line.partition(b":")[0].lower() for line in self.head.split(b"\r\n")[1:]]


class Parsed:
    """What a strict parser makes of the bytes."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.is_complete = False
        httptools.HttpResponseParser(self).feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


# -- framing --------------------------------------------------------------------------------------------------------


def test_head_leaves_with_the_first_bytes_in_one_write() -> None:
    client = Client()

    client.sink.start(200, JSON, 2, True)
    before = client.transport.written
    client.sink.write(b"{}")
    client.sink.finish()

    assert before == b""
    assert client.transport.written == (
        b"HTTP/1.1 200 OK\r\nX-Request-Id: req_1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert client.sink.written is KEEP_ALIVE


def test_body_of_unknown_length_goes_in_chunks() -> None:
    client = Client()

    client.sink.start(200, b"", None, True)
    for part in (b"", b"one", b"", b"x" * 300):
        client.sink.write(part)
    client.sink.finish()

    assert client.body == b"3\r\none\r\n12c\r\n" + b"x" * 300 + b"\r\n0\r\n\r\n"
    assert Parsed(client.transport.written).body == b"one" + b"x" * 300
    assert client.sink.written is KEEP_ALIVE


def test_empty_write_sends_the_head_at_once() -> None:
    client = Client()

    client.sink.start(200, b"", None, True)
    client.sink.write(b"")

    assert client.transport.written.endswith(b"Transfer-Encoding: chunked\r\n\r\n")


def test_empty_body_is_a_whole_response() -> None:
    client = Client()

    client.sink.start(200, b"", 0, True)
    client.sink.finish()

    assert Parsed(client.transport.written).is_complete


@pytest.mark.parametrize(("length", "framing"), [(None, []), (1000, [b"content-length"])])
def test_head_reply_has_no_body_and_keeps_the_connection(length: int | None, framing: list[bytes]) -> None:
    client = Client(method="HEAD")

    client.sink.start(200, b"", length, False)
    client.sink.write(b"ignored")
    client.sink.finish()

    assert (client.body, client.names()) == (b"", [b"x-request-id", *framing])
    assert client.sink.written is KEEP_ALIVE


@pytest.mark.parametrize("length", [None, 0])
def test_204_has_no_framing_at_all(length: int | None) -> None:
    client = Client()

    client.sink.start(204, b"", length, False)
    client.sink.finish()

    assert client.transport.written == b"HTTP/1.1 204 No Content\r\nX-Request-Id: req_1\r\n\r\n"


def test_304_keeps_the_length_it_speaks_of() -> None:
    client = Client()

    client.sink.start(304, b"", 7, False)
    client.sink.finish()

    assert b"Content-Length: 7" in client.head
    assert client.body == b""


def test_http_1_0_client_gets_the_length_or_the_close() -> None:
    known, unknown = Client(version=(1, 0)), Client(version=(1, 0))

    known.sink.start(200, b"", 2, True)
    unknown.sink.start(200, b"", None, True)
    for client in (known, unknown):
        client.sink.write(b"ok")
        client.sink.finish()

    assert known.names() == [b"x-request-id", b"content-length", b"connection"]
    assert unknown.names() == [b"x-request-id", b"connection"]
    assert (known.body, unknown.body) == (b"ok", b"ok")
    assert known.sink.written is unknown.sink.written is CLOSE


@pytest.mark.parametrize("more", [{"keep_alive": False}, {"is_body_read": False}])
def test_connection_that_cannot_go_on_says_so(more: dict[str, Any]) -> None:
    client = Client(**more)

    client.sink.start(200, b"", 0, True)
    client.sink.finish()

    assert b"Connection: close" in client.head
    assert client.sink.written is CLOSE


@pytest.mark.parametrize("status", [200, 203, 299, 500])
@pytest.mark.parametrize(
    "more",
    [{}, {"version": (1, 0)}, {"keep_alive": False}, {"is_body_read": False}, {"is_streaming": True}],
    ids=lambda more: ",".join(more) or "usual",
)
def test_whole_response_at_once_is_as_its_parts_make_it(status: int, more: dict[str, Any]) -> None:
    by_parts, at_once = Client(**more), Client(**more)
    for client in (by_parts, at_once):
        client.exchange.tell(b"X-Cache", b"hit")

    by_parts.sink.start(status, JSON, 2, True)
    by_parts.sink.write(b"{}")
    by_parts.sink.finish()
    is_ready = at_once.sink.whole(status, JSON, b"{}")

    assert is_ready
    assert at_once.transport.written == by_parts.transport.written
    assert b"X-Cache: hit" in at_once.transport.written
    for client in (by_parts, at_once):
        exchange = client.exchange
        assert (exchange.status, exchange.bytes_out, exchange.time_to_first_token_s) == (status, 2, 2.5)
        assert (client.sink.is_started, client.sink.is_finished, client.protocol.has_begun) == (True, True, True)
    assert at_once.sink.written is by_parts.sink.written


def test_whole_response_says_that_its_reader_is_behind_or_gone() -> None:
    behind, gone = Client(), Client()
    behind.protocol.is_behind, gone.protocol.transport = True, None

    assert not behind.sink.whole(200, JSON, b"{}")
    assert gone.sink.whole(200, JSON, b"{}")


def test_status_without_a_name_is_sent_as_it_is() -> None:
    client = Client()

    client.sink.start(599, b"", 0, True)
    client.sink.finish()

    assert client.head.startswith(b"HTTP/1.1 599 \r\n")


# -- flow -----------------------------------------------------------------------------------------------------------


async def test_client_that_is_behind_is_reported_and_can_be_waited_for() -> None:
    client = Client()
    client.sink.start(200, b"", None, True)

    keeps_up = client.sink.write(b"one")
    client.protocol.is_behind = True
    is_behind = not client.sink.write(b"two")
    client.drained.set()
    await client.sink.drain()

    assert (keeps_up, is_behind) == (True, True)


def test_client_that_left_makes_no_trouble() -> None:
    client = Client()
    client.sink.start(200, b"", None, True)
    client.protocol.transport = None

    assert client.sink.write(b"one")
    client.sink.fail(UpstreamCut("cut"))
    client.sink.finish()

    assert client.transport.written == b""


def test_first_bytes_stop_the_clock_and_all_bytes_are_counted() -> None:
    client = Client()

    client.sink.start(200, b"", None, True)
    client.sink.write(b"")
    client.sink.write(b"one")
    client.sink.write(b"four")

    assert client.exchange.time_to_first_token_s == 2.5
    assert client.exchange.bytes_out == 7
    assert client.exchange.status == 200


# -- errors before the response -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_error_before_the_response_is_a_whole_reply_in_the_clients_format(format_name: str) -> None:
    client = Client(FORMATS[format_name].operation("generate" if format_name == "gemini" else "chat"))

    client.sink.fail(UpstreamAuth("a refused the key", provider="a"))

    parsed = Parsed(client.transport.written)
    assert client.head.startswith(b"HTTP/1.1 502 ")
    assert parsed.is_complete
    assert b"upstream_auth" in parsed.body
    assert isinstance(orjson.loads(parsed.body), dict)
    assert client.sink.written is KEEP_ALIVE
    assert client.exchange.status == 502


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Overloaded("full", retry_after_s=1.2), b"Retry-After: 2"),
        (MethodNotAllowed("no", ("GET", "POST")), b"Allow: GET, POST"),
        (Unauthorized("no"), b"WWW-Authenticate: Bearer"),
        (Refused("no", code="rate_limit", status=429, retry_after_s=7), b"Retry-After: 7"),
    ],
)
def test_error_brings_the_header_that_goes_with_it(error: ProxyError, line: bytes) -> None:
    client = Client()

    client.sink.fail(error)

    assert line in client.head.split(b"\r\n")


@pytest.mark.parametrize(("attempts", "is_told"), [(0, False), (1, False), (2, True)])
def test_client_is_told_not_to_retry_once_our_retries_are_spent(attempts: int, is_told: bool) -> None:
    client = Client()
    client.exchange.attempts = [Attempt("a", "m", 0.0)] * attempts

    client.sink.fail(UpstreamCut("cut"))

    assert (b"x-should-retry: false" in client.head) is is_told


def test_client_is_told_not_to_retry_what_an_operator_ended() -> None:
    client = Client()

    client.sink.fail(Cancelled("this request was ended by an operator"))

    assert b"HTTP/1.1 503 " in client.head
    assert b"\r\nx-should-retry: false" in client.head


def test_error_to_a_head_request_has_no_body() -> None:
    client = Client(method="HEAD")

    client.sink.fail(UpstreamCut("cut"))

    assert client.body == b""
    assert b"content-length" in client.names()


def test_message_with_line_ends_stays_in_the_body() -> None:
    client = Client()

    client.sink.fail(ProxyError("a\r\nSet-Cookie: x=1\r\n\r\nHTTP/1.1 200 OK"))

    assert b"set-cookie" not in client.names()
    assert Parsed(client.transport.written).is_complete


# -- errors within the response -------------------------------------------------------------------------------------

STREAMS = [("openai", "chat"), ("openai", "responses"), ("anthropic", "chat"), ("gemini", "stream_generate")]
STREAMS += [("ollama", "chat"), ("native", "chat")]


@pytest.mark.parametrize(("format_name", "name"), STREAMS)
async def test_broken_stream_ends_with_an_error_event_and_without_a_last_chunk(format_name: str, name: str) -> None:
    wire = FORMATS[format_name]
    operation = wire.operation(name)
    client = Client(operation, is_streaming=True)
    error = UpstreamCut("a broke off", provider="a")

    client.sink.start(
        200, b"Date: now\r\nX-Content-Encoding: gzip\r\nCONTENT-TYPE: %b\r\n" % wire.stream_content_type, None, True
    )
    client.sink.write(b"data: 1\n\n")
    client.sink.fail(error)

    parsed = Parsed(client.transport.written)
    assert parsed.body == b"data: 1\n\n" + wire.error_event(operation, error, "req_1")
    assert b"[DONE]" not in parsed.body
    assert not parsed.is_complete
    assert client.transport.end == "close"
    assert client.sink.written is CLOSE


async def test_stream_that_an_operator_ended_says_so() -> None:
    client = Client(is_streaming=True)
    client.sink.start(200, EVENTS, None, True)
    client.sink.write(b"data: 1\n\n")

    client.sink.fail(Cancelled("this request was ended by an operator"))

    assert b'"code":"cancelled_by_operator"' in client.body
    assert not Parsed(client.transport.written).is_complete


async def test_error_after_the_end_changes_nothing_about_a_whole_response() -> None:
    client = Client(is_streaming=True)
    client.sink.start(200, EVENTS, None, True)
    client.sink.write(b"data: 1\n\n")
    client.sink.finish()
    written = client.transport.written

    client.sink.fail(Cancelled("this request was ended by an operator"))

    assert client.transport.written == written
    assert Parsed(written).is_complete
    assert (client.transport.end, client.sink.written) == ("", KEEP_ALIVE)


async def test_defect_within_a_stream_is_told_as_a_failure_of_the_answer() -> None:
    client = Client(is_streaming=True)

    client.sink.start(200, EVENTS, None, True)
    client.sink.write(b"data: 1\n\n")
    client.sink.fail(ProxyError("internal error"))

    assert b"internal error" in client.body


@pytest.mark.parametrize(
    ("operation", "headers", "length"),
    [
        (RAW, EVENTS, None),
        (None, b"", None),
        (None, b"", 100),
        (None, JSON, None),
        (None, EVENTS + b"Content-Encoding: gzip\r\n", None),
        (None, JSON + b"X-Content-Type: text/event-stream\r\n", None),
        (None, JSON + b"X-Kind: content-type: text/event-stream\r\n", None),
        (None, EVENTS + JSON, None),
    ],
)
async def test_nothing_is_put_into_a_response_that_is_no_stream_of_events(
    operation: Operation | None, headers: bytes, length: int | None
) -> None:
    client = Client(operation, is_streaming=True)

    client.sink.start(200, headers, length, True)
    client.sink.write(b"half")
    before = client.transport.written
    client.sink.fail(UpstreamCut("cut"))

    assert client.transport.written == before
    assert not Parsed(client.transport.written).is_complete
    assert client.transport.end == "close"
    assert client.sink.written is CLOSE


async def test_failure_between_head_and_body_sends_nothing_at_all() -> None:
    client = Client(is_streaming=True)

    client.sink.start(200, b"", None, True)
    client.sink.fail(UpstreamCut("cut"))

    assert (client.transport.written, client.transport.end) == (b"", "close")


async def test_http_1_0_client_cannot_take_a_broken_body_for_a_whole_one() -> None:
    client = Client(version=(1, 0))

    client.sink.start(200, b"", None, True)
    client.sink.write(b"half")
    client.sink.fail(UpstreamCut("cut"))

    assert client.transport.end == "abort"
    assert client.transport.options == {socket.SO_LINGER: struct.pack("ii", 1, 0)}  # a reset, not an orderly end


def test_every_head_is_lines_of_name_and_value() -> None:
    client = Client(FORMATS["anthropic"].operation("chat"))

    client.sink.fail(Overloaded("full", retry_after_s=3))

    lines = client.head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 \d{3} [ -~]*", lines[0])
    assert all(re.fullmatch(rb"[A-Za-z0-9-]+: [ -~]+", line) for line in lines[1:])
