"""What passes from a provider to the client, and that this reader takes nothing which another reads otherwise."""

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import UpstreamProtocol
from proxy.sink import ResponseHead
from proxy.upstream.response import parse_head
from proxy.upstream.response_fields import ResponseFields

FIELDS = ResponseFields()


def head_of(*lines: bytes, status_line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_head(b"\r\n".join([status_line, *lines, b"", b""]), FIELDS, "test")


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Transfer-Encoding",
        "Content-Length",
        "Alt-Svc",
        "Upgrade",
        "Strict-Transport-Security",
        "Trailer",
        "Set-Cookie",
        "X-Request-Id",
        "Request-Id",
        "X-Accel-Buffering",
        "Access-Control-Allow-Origin",
    ],
)
def test_header_never_reaches_the_client(name: str) -> None:
    value = {"Transfer-Encoding": "chunked", "Content-Length": "7"}.get(name, "x")
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        head = head_of(b"A: 1", f"{spelling}: {value}".encode(), b"content-type: text/plain")

        assert head.lines == [b"A: 1", b"content-type: text/plain"]


def test_order_case_spacing_and_repetition_are_kept() -> None:
    lines = [b"X-b: 1", b"x-A:2", b"X-B:   3", b"Content-Type: application/json", b"X-Empty:"]

    assert head_of(*lines).lines == lines


def test_what_is_read_from_a_head() -> None:
    head = head_of(
        b"CONTENT-TYPE:  text/event-stream ; x=1 ",
        b"request-id:\treq_1",
        b"Content-Encoding: gzip",
        b"Set-Cookie: a=1",
        b"transfer-encoding: Chunked",
        b"set-cookie: b=2",
        status_line=b"HTTP/1.1 503 Service Unavailable",
    )

    assert (head.status, head.content_type, head.request_id) == (503, b"text/event-stream ; x=1", b"req_1")
    assert (head.is_encoded, head.is_chunked, head.content_length, head.keeps_alive) == (True, True, None, True)
    assert head.cookie_lines == [b"Set-Cookie: a=1", b"set-cookie: b=2"]
    assert head_of().lines == []
    assert head_of(b"Content-Length: 12").content_length == 12
    assert not head_of(b"Content-Encoding: Identity").is_encoded


@pytest.mark.parametrize("value", ["close", "Close, x", "x , close", "keep-alive, close"])
def test_provider_that_closes_is_heard(value: str) -> None:
    assert not head_of(f"Connection: {value}".encode()).keeps_alive
    assert not head_of(status_line=b"HTTP/1.0 200 OK").keeps_alive
    assert head_of(b"Connection: Keep-Alive").keeps_alive


def test_connection_header_strips_what_it_lists() -> None:
    head = head_of(
        b"X-Hop: 1", b"Connection: keep-alive, X-Hop ,set-cookie", b"x-hop: 2", b"X-End: 3", b"Set-Cookie: a"
    )

    assert head.lines == [b"X-End: 3"]
    assert head.cookie_lines == []


@pytest.mark.parametrize("code", [code for code in (*range(0x20), 0x7F) if code != 0x09])
@pytest.mark.parametrize("position", [0, 2, 5])
def test_control_character_in_a_value_is_refused(code: int, position: int) -> None:
    value = b"value"[:position] + bytes([code]) + b"value"[position:]

    with pytest.raises(UpstreamProtocol, match="test: response head with"):
        head_of(b"X-Trace-Id: " + value)


def test_line_without_a_colon_is_refused_also_when_its_beginning_is_a_known_name() -> None:
    head_of(b"Server: x")

    with pytest.raises(UpstreamProtocol, match="a line without a colon"):
        head_of(b"Servers")


def test_made_up_names_do_not_fill_memory() -> None:
    fields = ResponseFields()
    for number in range(5000):
        fields.sort([b"X-%d: " % number], ResponseHead(200, []))

    assert len(fields._known) <= 1024


NAMES = st.sampled_from(
    [
        b"A",
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Connection",
        b"Set-Cookie",
        b"X y",
        b"",
        b"\xe9",
    ]
)
VALUES = st.sampled_from(
    [
        b"",
        b"5",
        b" 5",
        b"5 ",
        b"+5",
        b"5,5",
        b"05",
        b"chunked",
        b"Chunked\t",
        b"gzip, chunked",
        b"close",
        b"\xff",
        b"a:b",
    ]
) | st.binary(max_size=6)
SEPARATORS = st.sampled_from([b": ", b":", b" : ", b":\t", b"", b"\r\n:"])
LINES = st.lists(st.tuples(NAMES, SEPARATORS, VALUES).map(b"".join), max_size=4)


@given(st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK"]), LINES)
@example(b"HTTP/1.1 200 OK", [b"Content-Length: 5", b"Content-Length: 5"])
@example(b"HTTP/1.1 200 OK", [b"A: b", b" folded"])
def test_head_that_is_taken_means_the_same_to_a_second_parser(status_line: bytes, lines: list[bytes]) -> None:
    block = b"\r\n".join([status_line, *lines, b"", b""])
    block = block[: block.index(b"\r\n\r\n") + 4]
    try:
        head = parse_head(block, FIELDS, "test")
    except UpstreamProtocol:
        return

    second = SecondReading()
    parser = httptools.HttpResponseParser(second)
    parser.feed_data(block)

    assert parser.get_status_code() == head.status
    assert second.length == head.content_length
    assert second.is_chunked == head.is_chunked
    passed = [(name, value.strip(b" \t")) for name, value in second.headers if name == b"A"]
    assert passed == [(b"A", line[2:].strip(b" \t")) for line in head.lines if line.startswith(b"A:")]


@given(st.lists(LINES, max_size=5))
@example([[b"A: 1"], [b"A"]])
@example([[b"A: 1", b"Connection: close"], [b"A: 2", b"Connection: A"]])
def test_heads_that_came_before_do_not_change_how_one_is_read(heads: list[list[bytes]]) -> None:
    shared = ResponseFields()

    for lines in heads:
        assert outcome(shared, lines) == outcome(ResponseFields(), lines)


def outcome(fields: ResponseFields, lines: list[bytes]) -> dict[str, object] | str:
    head = ResponseHead(200, [])
    try:
        fields.sort(lines, head)
    except ValueError as fault:
        return str(fault)
    return vars(head)


class SecondReading:
    """What httptools makes of a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.is_chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if name.lower() == b"content-length":
            self.length = int(value)
        self.is_chunked |= name.lower() == b"transfer-encoding"
