"""Responses that are not HTTP we can trust: each is refused, and its connection is closed (FAULTS A12, A13, A21)."""

import asyncio
import itertools
import random
import statistics
import time
import tracemalloc

import pytest

from proxy.config.models import TimeoutSettings
from proxy.errors import UpstreamError, UpstreamProtocol
from proxy.upstream.response import parse_head
from proxy.upstream.response_fields import ResponseFields
from tests.proxy.upstream.bad_responses import BAD, CHUNKED, LINE
from tests.proxy.upstream.scripted import OK, Peer, Recorder, Scripted, answer, ask, make_pool, serve_forever, start


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


@pytest.mark.parametrize(
    "wire",
    [
        LINE + b"A: " + b"x" * (1 << 20) + b"\r\n\r\n",
        LINE + b"A: b\r\n" * 10_000 + b"\r\n",
        LINE + b"A\0: b\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        CHUNKED + b"1\r\na\r\nzz" + b"x" * 60_000,
    ],
    ids=["large", "many", "control character", "chunk"],
)
async def test_refusal_holds_nothing_of_what_was_read(wire: bytes) -> None:
    """An error that is kept for its exchange would keep the frames it passed, and all that they had read with them."""
    async with Scripted(answer(wire)) as server:
        heard = await ask(make_pool(server.port))

        error: BaseException | None = heard.error
        assert error is not None
        linked = [one for one in (error, error.__cause__, error.__context__) if one is not None]
        assert [one.__traceback__ for one in linked] == [None] * len(linked)


def test_too_many_headers_are_refused_before_each_is_an_object_of_its_own() -> None:
    block = LINE + b"A: b\r\n" * 10_000 + b"\r\n"
    tracemalloc.start()

    with pytest.raises(UpstreamProtocol, match="more than 256 response headers"):
        parse_head(block, ResponseFields(), "test")

    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < len(block)


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
