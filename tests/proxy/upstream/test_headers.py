"""What passes from client to provider, and that nothing breaks out of its line (FAULTS B9, B10)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import ClientError
from proxy.upstream.headers import (
    HOP_BY_HOP,
    RequestHeaders,
    begin_head,
    frame_chunk,
    frame_head,
    strip_query_key,
    write_request_headers,
)

RULES = RequestHeaders(own_names=(b"x-switchyard-key",))
OWN = ((b"Authorization", b"Bearer ours"), (b"Accept-Encoding", b"identity"))
TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABC-_0123456789!#$%&'*+.^`|~", min_size=1, max_size=20).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30).map(
    lambda text: text.encode("latin-1")
)
CONTROLS = [code for code in (*range(0x20), 0x7F) if code != 0x09]


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Host",
        "Content-Length",
        "Authorization",
        "X-API-Key",
        "x-goog-api-key",
        "api-key",
        "Cookie",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "x-forwarded-anything",
        "X-Real-IP",
        "Via",
        "Expect",
        "Accept-Encoding",
        "X-Switchyard-Key",
        "X_Api_Key",
        "X_FORWARDED_FOR",
        "x_real-ip",
        "Transfer_Encoding",
        "content_length",
    ],
)
def test_header_never_reaches_the_provider(name: str) -> None:
    for spelling in (name, name.lower(), name.upper(), name.swapcase()):
        kept = RULES.choose([(b"A", b"1"), (spelling.encode(), b"x"), (b"B", b"2")])

        assert kept == [(b"A", b"1"), (b"B", b"2")]


def test_order_case_and_repetition_are_kept() -> None:
    headers = [(b"X-b", b"1"), (b"x-A", b"2"), (b"X-B", b"3"), (b"Content-Type", b"application/json")]

    assert RULES.choose(headers) == headers


def test_connection_header_strips_what_it_lists_but_never_ours() -> None:
    kept = RULES.choose(
        [
            (b"Connection", b"close, X-Hop , authorization,x-forwarded-for"),
            (b"connection", b"accept-encoding"),
            (b"X-Hop", b"1"),
            (b"x-hop", b"2"),
            (b"X-End", b"3"),
            (b"Authorization", b"Bearer theirs"),
        ],
        OWN,
    )

    assert kept == [(b"X-End", b"3"), *OWN]


def test_our_header_replaces_the_clients_of_the_same_name() -> None:
    kept = RULES.choose([(b"OpenAI-Organization", b"theirs")], [(b"openai-organization", b"ours")])

    assert kept == [(b"openai-organization", b"ours")]


@given(
    st.lists(st.tuples(TOKENS | st.sampled_from([b"Connection", b"Authorization", b"X_Api_Key", b"TE"]), VALUES)),
    st.lists(TOKENS | st.just(b"authorization"), max_size=4),
)
def test_whatever_a_client_sends_ours_arrive_and_hop_by_hop_does_not(
    headers: list[tuple[bytes, bytes]], listed: list[bytes]
) -> None:
    kept = RULES.choose([*headers, (b"Connection", b", ".join(listed))], OWN)

    assert kept[-2:] == list(OWN)
    names = [name.lower() for name, _ in kept[:-2]]
    assert not HOP_BY_HOP.union(name.lower() for name in listed).intersection(names)
    assert b"authorization" not in names


@pytest.mark.parametrize("code", CONTROLS)
@pytest.mark.parametrize("position", [0, 2, 5])
def test_control_character_in_a_value_is_refused(code: int, position: int) -> None:
    value = b"value"[:position] + bytes([code]) + b"value"[position:]

    with pytest.raises(ClientError, match="'X-Trace-Id'"):
        RULES.choose([(b"X-Trace-Id", value)])


@pytest.mark.parametrize("name", [b"", b"A b", b"A:", b"A\r\nB", b"A\0", b"A\xe9", b"A\t"])
def test_name_that_is_no_token_is_refused(name: bytes) -> None:
    with pytest.raises(ClientError):
        RULES.choose([(name, b"x")])


def test_made_up_names_do_not_fill_memory() -> None:
    rules = RequestHeaders()
    for number in range(5000):
        rules.choose([(b"X-%d" % number, b"")])

    assert len(rules._known) <= 1024
    assert rules.choose([(b"Cookie", b"x"), (b"A", b"b")]) == [(b"A", b"b")]


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        (b"", b""),
        (b"alt=sse", b"alt=sse"),
        (b"key=secret", b""),
        (b"key", b""),
        (b"key=", b""),
        (b"alt=sse&key=secret", b"alt=sse"),
        (b"key=secret&alt=sse", b"alt=sse"),
        (b"a=1&key=x&b=%2f&key=y&&c", b"a=1&b=%2f&&c"),
        (b"%6Bey=secret&%6b%65%79=s&a=%6Bey", b"a=%6Bey"),
        (b"monkey=1&keys=2&Key=3&a=key", b"monkey=1&keys=2&Key=3&a=key"),
        (b"k%65y=a=b&x=%zz", b"x=%zz"),
    ],
)
def test_key_is_removed_from_the_query_and_the_rest_kept_verbatim(query: bytes, rest: bytes) -> None:
    assert strip_query_key(query) == rest


@given(st.lists(st.text("abkey=%&+;61", max_size=12).map(str.encode), max_size=6))
def test_no_key_survives_and_nothing_else_is_lost(parts: list[bytes]) -> None:
    parts = [part for text in parts for part in text.split(b"&")]

    rest = strip_query_key(b"&".join(parts))

    assert strip_query_key(rest) == rest
    others = [part for part in parts if b"key" not in part and b"%" not in part]
    assert [part for part in rest.split(b"&") if b"key" not in part and b"%" not in part and part] == [
        part for part in others if part
    ]


def test_head_is_written_to_the_byte() -> None:
    headers = write_request_headers([(b"A", b"b"), (b"c", b"")])
    head = frame_head(begin_head(b"POST", b"/v1/chat?x=1", b"api.example:8443", headers), 12)

    assert head == b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: api.example:8443\r\nA: b\r\nc: \r\nContent-Length: 12\r\n\r\n"
    bare = begin_head(b"GET", b"/", b"h", b"")
    assert frame_head(bare, None) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert frame_head(bare, None, is_chunked=True) == bare + b"Transfer-Encoding: chunked\r\n\r\n"


@settings(max_examples=300)
@given(
    field=st.sampled_from(["target", "name", "value"]),
    before=VALUES,
    junk=st.sampled_from([b"\r\n", b"\r", b"\n", b"\0", b"\r\n\r\nGET / HTTP/1.1\r\n"]),
    after=VALUES,
)
def test_nothing_in_a_head_can_begin_another_line(field: str, before: bytes, junk: bytes, after: bytes) -> None:
    parts = {"target": b"/x", "name": b"A", "value": b"b"}
    parts[field] = before + junk + after

    def write() -> bytes:
        return begin_head(b"POST", parts["target"], b"h", write_request_headers([(parts["name"], parts["value"])]))

    with pytest.raises(ClientError):
        write()


@pytest.mark.parametrize("code", [*range(0x21), 0x7F])
def test_space_or_control_in_the_target_is_refused(code: int) -> None:
    with pytest.raises(ClientError):
        begin_head(b"GET", b"/models/" + bytes([code]) + b"x", b"h", b"")


def test_empty_target_is_refused() -> None:
    with pytest.raises(ClientError):
        begin_head(b"GET", b"", b"h", b"")


@given(st.binary(max_size=100))
def test_chunk_carries_its_data_and_is_never_the_last(data: bytes) -> None:
    framed = frame_chunk(data)

    assert framed == (b"%x\r\n" % len(data) + data + b"\r\n" if data else b"")
