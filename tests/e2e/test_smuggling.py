"""Bytes that two servers could read differently are refused, or are one request to one provider.

FAULTS rows B5, B6, B9, B10, B11 and B12.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxy.testing import CutOff, FakeProvider, ProxyProcess, RawClient, RawResponse
from tests.e2e.rig import CALLS, ask, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = CALLS["openai"]
HEAD = b"POST /proxy/rerank/first HTTP/1.1\r\nHost: 127.0.0.1\r\n"
SECOND = b"GET /proxy/rerank/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@dataclass(frozen=True)
class Sample:
    """Bytes that two servers could read differently; `is_refused` where the one right answer is an error."""

    name: str
    data: bytes
    is_refused: bool = True


def lengths() -> Iterator[Sample]:
    for value in (
        b"-1",
        b"+5",
        b"1_0",
        b"5,5",
        b"5, 6",
        b"0x5",
        b"\xd9\xa5",
        b"5 5",
        b"",
        b"1e1",
        b"99999999999999999999",
    ):
        yield Sample(f"length {value!r}", HEAD + b"Content-Length: %b\r\n\r\nhello" % value)
    yield Sample("two lengths", HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    yield Sample("same length twice", HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello")


def encodings() -> Iterator[Sample]:
    length = b"Content-Length: %d\r\n" % (5 + len(SECOND))
    yield Sample("CL.TE", HEAD + length + CHUNKED + b"\r\n0\r\n\r\n" + SECOND)
    yield Sample("TE.CL", HEAD + CHUNKED + b"Content-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n")
    for value in (
        b"xchunked",
        b"chunked, chunked",
        b"chunked, identity",
        b"identity, chunked",
        b"gzip, chunked",
        b"chunked\x0b",
        b"\x0bchunked",
        b"chunked;q=1",
        b'"chunked"',
        b"cow",
        b"identity",
    ):
        yield Sample(f"TE {value!r}", HEAD + b"Transfer-Encoding: %b\r\n" % value + length + b"\r\n0\r\n\r\n" + SECOND)
    # An empty Transfer-Encoding is passed over by the parser; what is sent on has the length alone.
    yield Sample(
        "TE of nothing", HEAD + b"Transfer-Encoding:\r\n" + length + b"\r\n0\r\n\r\n" + SECOND, is_refused=False
    )
    yield Sample("TE.TE", HEAD + CHUNKED + b"Transfer-Encoding: cow\r\n\r\n0\r\n\r\n" + SECOND)
    yield Sample("TE with space", HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND)
    yield Sample("TE folded", HEAD + b"Transfer-Encoding:\r\n chunked\r\n" + length + b"\r\n0\r\n\r\n" + SECOND)
    yield Sample("HTTP/1.0 with TE", HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + SECOND)


def lines() -> Iterator[Sample]:
    yield Sample("obs-fold", HEAD + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n")
    yield Sample("leading fold", HEAD.replace(b"\r\n", b"\r\n X: y\r\n", 1) + b"\r\n")
    yield Sample("bare LF", HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n")
    yield Sample("bare CR", HEAD + b"X-A: b\rContent-Length: 5\r\nContent-Length: 0\r\n\r\n")
    yield Sample("no colon", HEAD + b"Transfer-Encoding chunked\r\nContent-Length: 0\r\n\r\n")


def chunks() -> Iterator[Sample]:
    for size in (b"-1", b"+5", b"0x5", b"5_0", b"5 ", b"", b"g", b"ffffffffffffffffff", b"\xd9\xa5"):
        yield Sample(f"chunk size {size!r}", HEAD + CHUNKED + b"\r\n%b\r\nhello\r\n0\r\n\r\n" % size)
    yield Sample("chunk without CRLF", HEAD + CHUNKED + b"\r\n5\r\nhelloXX0\r\n\r\n")
    yield Sample("chunk with bare LF", HEAD + CHUNKED + b"\r\n5\nhello\n0\n\n")
    yield Sample("LF in extension", HEAD + CHUNKED + b"\r\n5;a\nb\r\nhello\r\n0\r\n\r\n")
    yield Sample("extension", HEAD + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\n\r\n", is_refused=False)
    trailers = b"\r\n5\r\nhello\r\n0\r\n%bX: y\r\n\r\n"
    yield Sample("trailers", HEAD + CHUNKED + trailers % b"", is_refused=False)
    yield Sample("evil trailers", HEAD + CHUNKED + trailers % b"Content-Length: 9\r\nHost: evil.test\r\n")


def hosts_targets_and_versions() -> Iterator[Sample]:
    yield Sample("two hosts", HEAD + b"Host: evil.test\r\n\r\n")
    yield Sample("same host twice", HEAD + b"Host: 127.0.0.1\r\n\r\n")
    yield Sample("no host", HEAD.replace(b"Host: 127.0.0.1\r\n", b"") + b"\r\n")
    yield Sample("host list", HEAD.replace(b"Host: 127.0.0.1", b"Host: 127.0.0.1, evil.test") + b"\r\n")
    for target in (
        b"http://evil.test/proxy/rerank/x",
        b"http:///proxy/rerank/x",
        b"ftp://127.0.0.1/x",
        b"*",
        b"evil:80",
    ):
        yield Sample(f"target {target!r}", HEAD.replace(b"/proxy/rerank/first", target) + b"\r\n")
    own = HEAD.replace(b"/proxy/rerank/first", b"http://127.0.0.1/proxy/rerank/first")
    yield Sample("own absolute target", own + b"\r\n", is_refused=False)
    for version in (b"HTTP/1.2", b"HTTP/9", b"http/1.1", b"HTTP/1.1 x", b""):
        yield Sample(f"version {version!r}", HEAD.replace(b"HTTP/1.1", version) + b"\r\n")


def control_characters() -> Iterator[Sample]:
    for octet in (*range(0x09), 0x0B, 0x0C, 0x0E, 0x1F, 0x7F):
        yield Sample(f"{octet:#04x} in a value", HEAD + b"X-A: a%cb\r\nContent-Length: 0\r\n\r\n" % octet)
        yield Sample(f"{octet:#04x} in a name", HEAD + b"X%cA: b\r\nContent-Length: 0\r\n\r\n" % octet)
        yield Sample(f"{octet:#04x} in the path", HEAD.replace(b"first", b"fi%crst" % octet) + b"\r\n")
        yield Sample(f"{octet:#04x} in the query", HEAD.replace(b"first", b"first?a=%cb" % octet) + b"\r\n")
        yield Sample(f"%{octet:02x} in the path", HEAD.replace(b"first", b"fi%%%02xrst" % octet) + b"\r\n")


def paths() -> Iterator[Sample]:
    for path in (
        b"/proxy/rerank/../x",
        b"/proxy/rerank/..",
        b"/proxy/rerank/%2e%2e/x",
        b"/proxy/rerank/.%2E/x",
        b"/proxy/rerank/%2e%2e%2fx",
        b"/proxy/rerank/..%5cx",
        b"/proxy/rerank/..\\x",
        b"/proxy/rerank/a/../../../x",
        b"/proxy/rerank/..;/x",
        b"/proxy/rerank/%2e%2e;a=b/x",
        b"/proxy/rerank/./x",
        b"/proxy/../config",
        b"/proxy/rerank/%00",
        b"/proxy/rerank/x%0d%0aX-A:%20b",
        b"/proxy/rer%61nk%2f..%2f..%2fx",
        b"/proxy//x",
        b"/proxy/nobody/x",
    ):
        yield Sample(f"path {path!r}", HEAD.replace(b"/proxy/rerank/first", path) + b"\r\n")
    yield Sample("query of CRLF", HEAD.replace(b"first", b"first?a=%0d%0aX-A:%20b") + b"\r\n", is_refused=False)


SAMPLES = [
    *lengths(),
    *encodings(),
    *lines(),
    *chunks(),
    *hosts_targets_and_versions(),
    *control_characters(),
    *paths(),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_ambiguous_bytes_are_refused_or_one_request(
    relay: ProxyProcess, upstream: FakeProvider, sample: Sample
) -> None:
    upstream.reply_status(200, {"fine": True})

    async with RawClient(relay.url, timeout_s=5.0) as client:
        await client.send(sample.data)
        response = await _first_response(client)
        client.half_close()
        rest = await client.read_until_closed()

    asked = [seen.path for seen in upstream.requests]
    assert "/rerank/smuggled" not in asked
    assert upstream.problems == []
    if sample.is_refused:
        assert response is None or 400 <= response.status < 600, response
        assert not any(seen.is_complete for seen in upstream.requests), asked
        assert b"HTTP/1.1 200" not in rest
    else:
        assert response is not None
        assert (response.status, len(asked)) == (200, 1)
        assert not {"x", "x-a"} & upstream.last_request.header_names
    assert upstream.last_request.path.startswith("/rerank/") if asked else True


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0"])
async def test_versions_that_are_not_ours_are_refused(relay: ProxyProcess, version: bytes) -> None:
    async with RawClient(relay.url) as client:
        await client.send(b"GET /livez %b\r\nHost: 127.0.0.1\r\n\r\n" % version)
        response = await client.read_response()

    assert response.status in (400, 505)


async def _first_response(client: RawClient) -> RawResponse | None:
    try:
        return await client.read_response()
    except CutOff:
        return None


async def test_short_body_is_never_forwarded_as_whole(relay: ProxyProcess, upstream: FakeProvider) -> None:
    async with RawClient(relay.url) as client:
        await client.send(HEAD + b"Content-Length: 10\r\n\r\nhello")
        await upstream.wait_for_request(is_complete=False)
        client.half_close()
        answer = await client.read_until_closed()
    await upstream.wait_for_disconnect()

    assert not upstream.last_request.is_complete
    assert b" 200 " not in answer
    await until_idle(relay)


async def test_pipelined_requests_are_answered_in_order(relay: ProxyProcess, upstream: FakeProvider) -> None:
    upstream.once.reply_status(200, b"first")
    upstream.once.reply_status(200, b"second")

    async with RawClient(relay.url) as client:
        await client.send(HEAD + b"Content-Length: 5\r\n\r\nhello" + SECOND)
        first, second = await client.read_response(), await client.read_response()

    assert (first.body, second.body) == (b"first", b"second")
    assert [bytes(seen.body) for seen in upstream.requests] == [b"hello", b""]


async def test_body_of_a_refused_request_is_never_read_as_the_next_one(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    async with RawClient(relay.url) as client:
        await client.send(
            b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND
        )
        first = await client.read_response()
        client.half_close()
        rest = await client.read_until_closed()

    assert (first.status, rest, upstream.requests_seen) == (404, b"", 0)


async def test_hop_by_hop_and_forwarding_headers_end_here(relay: ProxyProcess, upstream: FakeProvider) -> None:
    dropped = {
        "Keep-Alive": "x",
        "TE": "trailers",
        "Trailer": "X",
        "Upgrade": "websocket",
        "Proxy-Authorization": "Basic x",
        "Proxy-Connection": "keep-alive",
        "X-Forwarded-For": "1.2.3.4",
        "X_Forwarded_For": "1.2.3.4",
        "Forwarded": "for=1.2.3.4",
        "Via": "1.0 x",
        "Cookie": "session=x",
        "X-Listed": "x",
        "Proxy_Authorization": "x",
    }
    headers = {**dropped, "Connection": "close, X-Listed, authorization, host, content-length", "X-Kept": "y"}

    response = await ask(relay, "POST", CHAT.path, CHAT.body(), headers)

    seen = upstream.last_request
    assert response.status == 200
    assert not {name.lower() for name in dropped} & seen.header_names
    assert (seen.header("x-kept"), bytes(seen.body)) == ("y", CHAT.body())
    assert seen.header("authorization")
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize("value", ["a\tb", "x" * 200, "a b", "a;b", "%0d%0aX: y", "tëst", "<b>"])
async def test_odd_ids_of_a_client_are_replaced_not_repeated(relay: ProxyProcess, value: str) -> None:
    headers = {"X-Request-Id": value, "X-Trace-Id": value}

    response = await ask(relay, "POST", "/", b'{"prompt": "x", "model": "gpt-4o"}', headers)

    assert response.status == 200
    assert response.header("x-request-id") not in (None, value)
    assert value not in response.text


@pytest.mark.parametrize("model", ["gpt-\r\nX: y", "gpt-\x00", "gpt-" + "x" * 5000, "gpt-\u2028\x1b[31m"])
async def test_odd_model_names_inject_nothing(relay: ProxyProcess, upstream: FakeProvider, model: str) -> None:
    response = await ask(relay, "POST", CHAT.path, CHAT.body(model=model))

    assert response.status < 500
    assert response.header("x") is None
    assert all(seen.header("x") is None for seen in upstream.requests)
    assert "\x1b" not in relay.output
