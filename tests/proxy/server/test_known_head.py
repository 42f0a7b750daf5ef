"""A request whose head its connection has sent before: recognised, and read exactly as if it had been parsed."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from proxy.server.connection import ServerProtocol
from proxy.server.known_head import learn
from proxy.server.serving import KEEP_ALIVE, MOST_UNLIKE
from proxy.testing import RawClient
from tests.proxy.server.served import OK, server_of, serving, writing

HEAD = b"POST /v1/a?b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\nX-B: c\r\n\r\n"

HEADS = (
    HEAD,
    HEAD.replace(b"/a?b", b"/b"),
    HEAD.replace(b"Bearer k", b"Bearer l"),
    HEAD.replace(b"Bearer k", b"\xc3\xbc\xff"),
    HEAD.replace(b"POST", b"PUT"),
    HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    HEAD.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"X-B: c", b"Connection: keep-alive"),
    HEAD.replace(b"X-B: c", b"Connection: close"),
    HEAD.replace(b"X-B: c", b"Expect: 100-continue"),
    HEAD.replace(b"X-B: c", b"Content-Encoding: gzip"),
    HEAD.replace(b"X-B: c", b"Content-Length: 7"),
    HEAD.replace(b"X-B: c", b"Transfer-Encoding: chunked"),
    HEAD.replace(b"X-B: c", b"Upgrade: websocket\r\nConnection: upgrade"),
    HEAD.replace(b"Content-Length: %d", b"cONTENT-length:\t %d  "),
    HEAD.replace(b"Content-Length: %d", b"Content-Length: 00%d"),
    HEAD.replace(b"Content-Length: %d", b"Content-Length: +%d"),
    HEAD.replace(b"Content-Length: %d", b"Content-Length: %d 1"),
    HEAD.replace(b"X-B: c\r\n", b""),
    HEAD.replace(b"\r\n", b"\n"),
    HEAD.replace(b"\r\nX-B", b"\nX-B"),
    b"\r\n" + HEAD,
    b"\r\n\r\n" + HEAD,
)
WITHOUT_LENGTH = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\r\n",
    b"nonsense",
)
NO_NUMBERS = (b"+9", b"-9", b"0x9", b"1_0", b"9 9", b"9,9", b"\xb9", b"")
BODIES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from((b"", b"x", b"\r\n\r\n", HEAD % 1 + b"y", b"\r\nContent-Length: 3\r\n\r\nabc")),
)


class Wire(asyncio.Transport):
    """A connection without a network: what is written is kept."""

    def __init__(self, protocol: ServerProtocol) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = self.is_lost = False
        self.pauses = 0
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self.is_lost = True
        self._protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None: ...


@dataclass
class Heard:
    """What came of some data: requests as the handler saw them, and what the client got."""

    requests: list[tuple[object, ...]] = field(default_factory=list)
    written: bytes = b""
    is_closed: bool = False
    pauses: int = 0
    parsed: int = 0


async def hear(pieces: Sequence[bytes], turns: Sequence[int], *, may_recognise: bool) -> Heard:
    """Give pieces to a connection, with some turns of the loop between them."""
    heard = Heard()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        is_quick = request.content.is_eof() and len(heard.requests) % 4 == 0
        body = request.content.read_nowait() if is_quick else await request.content.read()
        heard.requests.append((request.method, request.raw_path, request.version, request.raw_headers, body))
        heard.requests.append(
            (request.headers, request.url, request.keep_alive, request.body_exists, request._message.raw_headers)
        )
        if request.transport is not None:
            request.transport.write(OK)
        return KEEP_ALIVE

    manager = server_of(handle)
    protocol = manager()
    wire = Wire(protocol)
    protocol.connection_made(wire)
    for piece, count in zip(pieces, turns, strict=True):
        if not wire.is_lost:
            if may_recognise:
                protocol.data_received(piece)
            else:
                web.RequestHandler.data_received(protocol, piece)
        for _ in range(count):
            await asyncio.sleep(0)
    for _ in range(20 + 2 * len(pieces)):
        await asyncio.sleep(0)
    heard.written = re.sub(rb"Date: [^\r]*", b"Date", wire.written)
    heard.is_closed, heard.pauses, heard.parsed = wire.is_closed, wire.pauses, protocol._request_count
    wire.close()
    await asyncio.sleep(0)
    await manager.shutdown(1)
    manager.close()
    return heard


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Draw requests, mostly alike, in whatever pieces they come."""
    usual = draw(st.sampled_from(HEADS))
    requests = []
    for _ in range(draw(st.integers(2, 8))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            requests.append(draw(st.sampled_from(WITHOUT_LENGTH)))
            continue
        head, body = usual if kind > 2 else draw(st.sampled_from(HEADS)), draw(BODIES)
        requests.append(head % max(len(body) + draw(st.sampled_from((0,) * 8 + (-1, 1))), 0) + body)
    pieces = []
    for request in requests:
        end = request.find(b"\r\n\r\n") + 4
        cuts = draw(st.sampled_from(((), (), (), (end,), (end, end + 3), (end - 9,), (7, end + 1))))
        pieces += [request[begin:end] for begin, end in pairwise((0, *cuts, len(request)))]
    for _ in range(draw(st.sampled_from((0, 0, 1, 3)))):
        at = draw(st.integers(0, len(pieces) - 1))
        pieces[at : at + 2] = [b"".join(pieces[at : at + 2])]
    return pieces, draw(st.lists(st.sampled_from((0, 1, 8)), min_size=len(pieces), max_size=len(pieces)))


@given(conversations())
@settings(max_examples=400)
def test_whatever_comes_is_understood_as_if_all_of_it_were_parsed(conversation: tuple[list[bytes], list[int]]) -> None:
    pieces, turns = conversation

    async def go() -> tuple[Heard, Heard]:
        return await hear(pieces, turns, may_recognise=True), await hear(pieces, turns, may_recognise=False)

    quick, slow = asyncio.run(go())

    quick.parsed = slow.parsed = 0
    assert quick == slow


@pytest.mark.parametrize("between", [
    HEAD % 70 + b"x" * 70,
    *(HEAD.replace(b"%d", no_number) + b"x" * 9 for no_number in NO_NUMBERS),
    HEAD.replace(b"%d", b" 9") + b"x" * 9,
    HEAD.replace(b"%d", b"9 ") + b"x" * 9,
    HEAD % 9 + b"x" * 9 + b"POST /v1/a",
    HEAD % 9 + b"x" * 8,
    HEAD % len(HEAD % 1 + b"y"),
    HEAD % (len(HEAD % 1 + b"y") + 1),
    HEAD % 9 + b"x" * 9 + HEAD % len(HEAD % 1 + b"y"),
    b"POST /v1/c HTTP/1.1\r\nHost: a\r\nX-D: ",
    b"POST /v1/c HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
    b"POST /v1/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /v1/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(HEAD % 1 + b"y"),
    b"GET /v1/c HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    (HEAD % 9 + b"x" * 9) * 40,
    b"\r\n",
    b"no request\r\n\r\n",
    HEAD.replace(b"X-B: c", b"Connection: close") % 1 + b"x",
])  # fmt: skip
@pytest.mark.parametrize("turns", [0, 1, 8])
async def test_request_like_the_first_means_what_it_means_to_the_parser(between: bytes, turns: int) -> None:
    usual = HEAD % 1 + b"y"
    pieces = [usual, usual, between, usual, usual]

    quick, slow = [await hear(pieces, [8, 8, *[turns] * 3], may_recognise=may) for may in (True, False)]

    assert len(quick.requests) >= 2 * 2  # each is noted in two parts
    quick.parsed = slow.parsed = 0
    assert quick == slow


@pytest.mark.parametrize("between", [
    (HEAD % 9 + b"x" * 9 + b"POST / HTTP", b"/1.1\r\nA: bc"),
    (HEAD % 9 + b"x" * 5, b"x" * 4 + b"POST / HTTP/1.1\r\nA: bc"),
    (HEAD % 9 + b"x" * 5, b"x" * 4, HEAD % 9, b"x" * 8),
])  # fmt: skip
async def test_what_is_left_over_of_a_piece_is_not_forgotten(between: tuple[bytes, ...]) -> None:
    usual = HEAD % 1 + b"y"
    pieces = [usual, *between, usual, usual]

    quick, slow = [await hear(pieces, [8] * len(pieces), may_recognise=may) for may in (True, False)]

    assert len(quick.requests) >= 2 * 2  # each is noted in two parts
    quick.parsed = slow.parsed = 0
    assert quick == slow


@pytest.mark.parametrize(("head", "said"), [
    (b"POST / HTTP/1.1\r\nHost: a\n\n\r\nContent-Length: 4\r\n\r\n", b"4"),
    (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\nHost: a\r\n\r\n", b"4"),
    (b"POST / HTTP/1.1\r\nX-Content-Length: 4\r\nHost: a\r\n\r\n", b"4"),
    (b"POST / HTTP/1.1\r\nContent-Length: 0000000004\r\nHost: a\r\n\r\n", b"0000000004"),
])  # fmt: skip
def test_head_that_another_parser_could_read_otherwise_is_not_learnt(head: bytes, said: bytes) -> None:
    def message(value: bytes) -> RawRequestMessage:
        headers = ((b"Host", b"a"), (b"Content-Length", value))
        return RawRequestMessage(
            "POST", "/", HttpVersion11, CIMultiDictProxy(CIMultiDict()), headers, False, None, False, False, URL("/")
        )

    known, size = learn(HEAD % 4 + b"1234", message(b"4"))

    assert learn(head + b"1234", message(said)) == (None, 0)
    assert (known is None, size) == (False, len(HEAD % 4) + 4)


async def test_length_with_ever_so_many_zeros_is_left_to_the_parser() -> None:
    request = HEAD.replace(b"%d", b"0" * 4400 + b"9") + b"123456789"

    quick, slow = [await hear([request] * 3, [8] * 3, may_recognise=may) for may in (True, False)]

    assert (len(quick.requests), quick) == (6, slow)


@pytest.mark.parametrize("request_between", [
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    HEAD.replace(b"X-B: c", b"Expect: 100-continue") % 1 + b"x",
])  # fmt: skip
async def test_requests_of_another_kind_between_do_no_harm(request_between: bytes) -> None:
    usual = HEAD % 1 + b"x"

    heard = await hear([usual, request_between, usual, request_between, usual], [8] * 5, may_recognise=True)

    assert (heard.parsed, len(heard.requests)) == (3, 10)


async def test_request_that_is_read_late_lets_go_of_nothing_that_the_next_one_holds() -> None:
    small, large = HEAD % 9 + b"123456789", HEAD % 200_000 + b"x" * 200_000
    bodies: list[bytes] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await go_on.wait()
        bodies.append(await request.content.read())
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    go_on = asyncio.Event()
    async with serving(handle) as (manager, url), RawClient(url) as client:
        go_on.set()
        await client.send(small)
        await client.read_response()
        go_on.clear()
        await client.send(small)
        while not any(each._current_request for each in manager.connections):  # noqa: ASYNC110 (nothing tells it)
            await asyncio.sleep(0.01)
        await client.send(large)
        await asyncio.sleep(0.1)
        go_on.set()
        async with asyncio.timeout(5):
            for _ in range(2):
                await client.read_response()

    assert [len(body) for body in bodies] == [9, 9, 200_000]


async def test_data_that_comes_while_a_connection_is_closed_is_not_answered() -> None:
    manager = server_of(writing(lambda request: seen.append(request.path)))
    seen: list[str] = []
    protocol = manager()
    wire = Wire(protocol)
    protocol.connection_made(wire)
    for _ in range(2):
        protocol.data_received(HEAD % 1 + b"x")
        await asyncio.sleep(0.01)
    protocol.force_close()
    protocol.data_received(HEAD % 1 + b"x")
    await asyncio.sleep(0.01)
    manager.close()

    assert (seen, wire.is_lost) == (["/v1/a"] * 2, True)


async def test_no_more_requests_are_read_ahead_than_when_they_are_parsed() -> None:
    requests = [HEAD % 1 + b"x"] * 100

    quick, slow = [await hear(requests, [8, *[0] * 99], may_recognise=may) for may in (True, False)]

    assert (quick.pauses > 0, quick.pauses, quick.requests) == (True, slow.pauses, slow.requests)


async def test_requests_like_the_first_are_not_parsed() -> None:
    bodies = [b"x" * number for number in (5, 5, 1, 300, 0, 99_999)]

    heard = await hear([HEAD % len(body) + body for body in bodies], [8] * len(bodies), may_recognise=True)

    assert heard.parsed == 1
    assert [each[4] for each in heard.requests[::2]] == bodies


@pytest.mark.parametrize("head", [
    HEAD.replace(b"X-B: c", b"Expect: 100-continue"),
    HEAD.replace(b"X-B: c", b"Content-Encoding: gzip"),
    b"\r\n\r\n" + HEAD,
    HEAD.replace(b"X-B: c", b"X-B: " + b"c" * (8 << 10)),
    HEAD.replace(b"Content-Length: %d", b"Content-Length: 00000000%d"),
])  # fmt: skip
async def test_head_that_asks_for_more_or_is_unusual_is_parsed_each_time(head: bytes) -> None:
    heard = await hear([head % 10 + b"0123456789"] * 3, [8] * 3, may_recognise=True)

    assert (heard.parsed, len(heard.requests)) == (3, 6)


async def test_connection_whose_requests_are_never_alike_is_no_longer_looked_at() -> None:
    unlike = [HEAD.replace(b"X-B: c", b"X-B: %d" % number) % 1 + b"x" for number in range(MOST_UNLIKE)]
    alike = [HEAD % 1 + b"x"] * 4

    async def parsed_of(*requests: bytes) -> int:
        heard = await hear(requests, [8] * len(requests), may_recognise=True)
        assert len(heard.requests) == 2 * len(requests)
        return heard.parsed

    assert await parsed_of(*unlike, *alike) == MOST_UNLIKE + 4
    assert await parsed_of(*unlike[1:], *alike) == MOST_UNLIKE
    assert await parsed_of(*unlike[2:], *alike, *unlike[2:], *alike) == 2 * MOST_UNLIKE - 2


async def test_body_that_comes_after_its_head_leaves_the_next_request_to_be_recognised() -> None:
    request = HEAD % 9 + b"123456789"

    heard = await hear([request[:-9], request[-9:-4], request[-4:], request, request], [8] * 5, may_recognise=True)

    assert (heard.parsed, len(heard.requests)) == (1, 6)


async def test_requests_that_come_in_two_pieces_are_alike_all_the_same() -> None:
    head, whole = HEAD % 9, HEAD % 9 + b"123456789"

    heard = await hear(
        [head, whole[-9:]] * (MOST_UNLIKE + 1) + [whole] * 2, [8] * 2 * (MOST_UNLIKE + 2), may_recognise=True
    )

    assert (heard.parsed, len(heard.requests)) == (MOST_UNLIKE + 1, 2 * (MOST_UNLIKE + 3))


async def test_body_is_read_in_any_way_that_a_reader_knows() -> None:
    got: list[object] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        content = request.content
        first = content.read_nowait(3) if got else await content.read(3)
        got.append((first, content.is_eof(), content.at_eof(), await content.read(2)))
        got.append((await content.readany(), content.at_eof(), await content.read()))
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    async with serving(handle) as (_, url), RawClient(url) as client:
        for _ in range(3):
            await client.send(HEAD % 9 + b"123456789")
            await client.read_response()

    assert got == [(b"123", True, False, b"45"), (b"6789", True, b"")] * 3


async def test_large_body_leaves_the_next_request_to_be_recognised() -> None:
    large, small = HEAD % 300_000 + b"x" * 300_000, HEAD % 1 + b"x"

    heard = await hear([large, small, large[:200_000], large[200_000:], large, small], [20] * 6, may_recognise=True)

    assert (heard.parsed, [len(each[4]) for each in heard.requests[::2]]) == (2, [300_000, 1, 300_000, 300_000, 1])  # type: ignore[arg-type]  # bytes, as `hear` notes them


async def test_who_reads_after_the_client_has_left_hears_of_it() -> None:
    reading: asyncio.Future[web.BaseRequest] = asyncio.get_running_loop().create_future()
    has_left = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if seen:
            reading.set_result(request)
            try:
                await asyncio.Event().wait()
            finally:
                has_left.set()
        seen.append(request)
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    seen: list[web.BaseRequest] = []
    async with serving(handle) as (_, url):
        async with RawClient(url) as client:
            await client.send(HEAD % 1 + b"x")
            await client.read_response()
            await client.send(HEAD % 1 + b"x")
            request = await reading
        async with asyncio.timeout(5):
            await has_left.wait()

    with pytest.raises(ConnectionResetError):
        request.content.read_nowait()
