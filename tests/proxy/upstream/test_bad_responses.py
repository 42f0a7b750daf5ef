"""Responses that are not HTTP we can trust: each is refused, and its connection is closed (FAULTS A12, A13, A21)."""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Iterator

import pytest

from proxy.config.models import TimeoutSettings
from proxy.errors import UpstreamError, UpstreamProtocol
from tests.proxy.upstream.scripted import OK, Peer, Recorder, Scripted, answer, ask, make_pool, serve_forever, start

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"

STATUS_LINES = [
    b"HTTP/9.9 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/0.9 200 OK",
    b"HTTP/1.2 200 OK",
    b"HTTP/1 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 000 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 -20 OK",
    b"HTTP/1.1 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1\t200 OK",
    b"HTTP/1.1 2 0 OK",
    b"HTTP/1.1 200 O\0K",
    b"HTTP/1.1 200 O\x01K",
    b"HTTP/1.1 200 O\rK",
    b"HTTP/1.1 200OK",
    b"ICY 200 OK",
    b"RTSP/1.0 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b" HTTP/1.1 200 OK",
    b"GET / HTTP/1.1",
    b"SSH-2.0-OpenSSH_9.0",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"HTTP/1.1 \xb2\xb2\xb2 OK",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket",
    b"{}",
    b"<html>",
    b"",
]
HEADERS = [
    b"A: a\0b",
    b"A: a\x01b",
    b"A: a\x7fb",
    b"A: a\x0bb",
    b"A: a\rb",
    b"A: a\r\n b",
    b"A: a\r\n\tb",
    b"A\0: b",
    b"A b: c",
    b"A : b",
    b" A: b",
    b"A\r: b",
    b": b",
    b"A",
    b"A\xff: b",
    b"A(: b",
    b"A: b\nB: c",
    b"\nB: c",
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 1_0",
    b"Content-Length: 0x5",
    b"Content-Length: 5,5",
    b"Content-Length: 5, 6",
    b"Content-Length: ",
    b"Content-Length: 5 5",
    b"Content-Length: \xd9\xa5",
    b"Content-Length: 1.0",
    b"Content-Length: 1e3",
    b"Content-Length: 99999999999999999999999",
    b"Content-Length: five",
    b"Content-Length : 5",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0\r\ncontent-length: 0",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: ",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: gzip\r\nContent-Length: 5",
]
CHUNKS = [
    b"zz\r\n",
    b"-1\r\n",
    b"+1\r\na\r\n",
    b"0x1\r\na\r\n",
    b"1 \r\na\r\n",
    b" 1\r\na\r\n",
    b"\r\n",
    b"1\na\n0\n\n",
    b"1\r\nab\r\n",
    b"1\r\na\n",
    b"1\r\nab",
    b"fffffffffffffffff\r\na",
    b"1_0\r\n",
    b"1\r\r\na",
    b"\xb2\r\n",
    b"1\r\na\r\n0\r\nA\0: b\r\n\r\n",
    b"1\r\na\r\n0\r\nA b\r\n\r\n",
    b"1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"1;\0\r\na\r\n",
    b"1\r\na\r\n0\r\nA: b\nB: c\r\n\r\n",
]


def bad_responses() -> Iterator[bytes]:
    yield from (line + b"\r\nContent-Length: 2\r\n\r\nok" for line in STATUS_LINES)
    yield from (LINE + header + b"\r\n\r\nhello" for header in HEADERS)
    yield from (
        LINE + b"Server: x\r\n" + header + b"\r\nDate: now\r\n\r\nhello" for header in HEADERS if header != b"A"
    )
    yield from (CHUNKED + chunk for chunk in CHUNKS)
    for code, position in itertools.product((*range(9), *range(11, 32), 127), (0, 3)):
        value = bytearray(b"value")
        value.insert(position, code)
        if code not in (13, 0x20):
            yield LINE + b"X: " + value + b"\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK
    yield b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK
    yield LINE.replace(b"OK", b"x" * (1 << 20)) + b"\r\n"
    yield LINE + b"A: " + b"x" * (1 << 20) + b"\r\n\r\n"
    yield LINE + b"A: b\r\n" * 10_000 + b"\r\n"
    yield LINE + b"A: b\r\n" * 300 + b"\r\n"
    yield b"HTTP/1.1 103 Hints\r\n" + b"A: b\r\n" * 300 + b"\r\n" + OK
    yield CHUNKED + b"1;" + b"x" * (1 << 20) + b"\r\na\r\n0\r\n\r\n"
    yield CHUNKED + b"1\r\na\r\n0\r\n" + b"T: " + b"x" * (1 << 20) + b"\r\n\r\n"


BAD = list(bad_responses())


async def test_each_of_over_200_bad_responses_is_refused_at_once_and_its_socket_never_reused() -> None:
    script_of: list[bytes] = []

    async def script(peer: Peer) -> None:
        if await peer.read_head():
            peer.write(script_of[-1])  # left open: a client that trusts it would wait
            await peer.wait_gone()

    assert len(BAD) >= 200
    durations_s: list[float] = []
    async with Scripted(script) as server:
        pool = make_pool(server.port)
        for wire in BAD:
            script_of.append(wire)
            began_s = time.perf_counter()
            heard = await ask(pool)
            durations_s.append(time.perf_counter() - began_s)

            assert type(heard.error) is UpstreamProtocol, wire[:200]
            assert (heard.error.status, heard.error.code) == (502, "upstream_protocol")
            assert heard.error.may_have_executed
            assert len(heard.error.message) < 200
            assert durations_s[-1] < 5, wire[:200]
            assert pool.idle == 0
        assert len(server.peers) == len(BAD)
        assert statistics.median(durations_s) < 0.1  # of one, the machine may be to blame
        await pool.aclose()


async def test_head_limit_counts_bytes_across_reads_and_includes_the_status_line() -> None:
    head = LINE + b"A: " + b"x" * (1000 - len(LINE) - 7) + b"\r\n\r\n"
    assert len(head) == 1000
    async with Scripted(serve_forever) as server:
        for limit, step, is_good in itertools.product((999, 1000), (1, 100, 333, 2000), (True,)):
            connection = await make_pool(server.port, header_limit=limit).connect()
            heard = start(connection)
            for at in range(0, len(head), step):
                connection.data_received(head[at : at + step])
                if heard.error:
                    break

            assert (heard.error is None) is (limit == 1000 and is_good)
            connection.abort()


async def test_endless_head_is_cut_at_the_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(LINE)
        while True:
            await peer.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    async with Scripted(script) as server:
        heard = await ask(make_pool(server.port))

        assert heard.error is not None
        assert heard.error.message == "test: response head is larger than 65536 bytes"


async def test_no_mangled_response_crashes_the_reader_or_is_told_twice() -> None:
    rng = random.Random(7)
    seeds = [
        OK,
        CHUNKED + b"5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.1 103 E\r\nL: x\r\n\r\n" + OK,
        LINE + b"\r\nto the end",
    ]
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port, timeouts=TimeoutSettings(connect=5))
        connection = await pool.connect()
        for _ in range(3000):
            wire = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(wire))
                match rng.randrange(4):
                    case 0:
                        wire[at] = rng.randrange(256)
                    case 1:
                        del wire[at : at + rng.randrange(1, 9)]
                    case 2:
                        wire[at:at] = rng.choice((b"\r\n", b"\0", b"\r", b"\n", b"Content-Length: 1\r\n", b"0\r\n\r\n"))
                    case _:
                        wire[at:at] = wire[at : at + 12]
                wire = wire or bytearray(b"x")
            heard = await _feed(connection, bytes(wire), rng.randrange(len(wire) + 1))
            _check(heard)
            if pool.take() is not connection:
                connection.abort()
                connection = await pool.connect()
        await pool.aclose()


async def _feed(connection: object, wire: bytes, cut: int) -> Recorder:
    heard = start(connection)  # type: ignore[arg-type] # a Connection
    for part in (wire[:cut], wire[cut:]):
        if part and heard.calls[-1:] not in (["end"], ["failure"]):
            connection.data_received(part)  # type: ignore[attr-defined] # a Connection
    return heard


def _check(heard: Recorder) -> None:
    ends = [call for call in heard.calls if call in ("end", "failure")]
    assert len(ends) <= 1
    assert not ends or heard.calls[-1] == ends[0]
    assert heard.calls.count("head") <= 1
    assert "data" not in heard.calls or heard.calls[0] == "head"
    assert heard.error is None or isinstance(heard.error, UpstreamError)


async def test_dribbled_head_of_64_kib_is_not_quadratic() -> None:
    head = LINE + b"".join(b"H%d: %s\r\n" % (n, b"x" * 300) for n in range(200)) + b"\r\n"
    async with Scripted(serve_forever) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection)
        began_s = time.process_time()
        for at in range(len(head)):
            connection.data_received(head[at : at + 1])

        assert heard.calls == ["head", "read"]
        assert time.process_time() - began_s < 4
        connection.abort()


@pytest.mark.parametrize("count", [1, 10])
async def test_interim_responses_are_skipped(count: int) -> None:
    async with Scripted(answer(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * count, OK)) as server:
        pool = make_pool(server.port)

        heard = await ask(pool)

        assert (heard.head.status, heard.body, heard.idle_at_end) == (200, b"ok", 1)
        await pool.aclose()
        await asyncio.sleep(0)
