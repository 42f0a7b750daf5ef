"""Time limits on a call, requests whose body is streamed, and replies that come before the request is out."""

import asyncio
import time

import pytest

from proxy.config.models import TimeoutSettings
from proxy.errors import UpstreamTimeout
from proxy.upstream.connection import Connection
from proxy.upstream.headers import LAST_CHUNK, frame_chunk
from tests.proxy.upstream.scripted import OK, Peer, Scripted, answer, ask, make_pool, serve_forever, start

POST = b"POST /v1/files HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig"
TO_END = b"HTTP/1.1 200 OK\r\n\r\n"


def timeouts(
    *, first_byte: float | None = 60.0, idle: float | None = 60.0, total: float | None = None
) -> TimeoutSettings:
    return TimeoutSettings.model_validate({"firstByte": first_byte, "idle": idle, "total": total})


@pytest.mark.parametrize(
    ("wire", "limits", "message"),
    [
        (b"", timeouts(first_byte=0.2), "test: no response headers within 0.2 s"),
        (b"HTTP/1.1 102 Processing\r\n\r\n", timeouts(first_byte=0.2), "test: no response headers within 0.2 s"),
        (b"HTTP/1.1 200", timeouts(idle=0.2), "test: no response headers within 0.2 s"),
        (TO_END, timeouts(idle=0.2), "test: no data for 0.2 s within the response"),
        (TO_END + b"x", timeouts(idle=0.2), "test: no data for 0.2 s within the response"),
        (TO_END + b"x", timeouts(first_byte=None, idle=0.2), "test: no data for 0.2 s within the response"),
        (TO_END + b"x", timeouts(total=0.2), "test: response not complete within 0.2 s"),
        (b"", timeouts(first_byte=None, total=0.2), "test: response not complete within 0.2 s"),
    ],
)
async def test_silent_provider_is_cut_at_the_limit(wire: bytes, limits: TimeoutSettings, message: str) -> None:
    async with Scripted(answer(wire)) as server:
        connection = await make_pool(server.port).connect()
        began_s = time.monotonic()

        heard = await start(connection, timeouts=limits).done()
        await asyncio.wait_for(server.peers[0].gone.wait(), 0.1)

        assert type(heard.error) is UpstreamTimeout
        assert (heard.error.message, heard.error.status) == (message, 504)
        assert 0.195 <= time.monotonic() - began_s <= 0.25


async def test_slow_stream_outlives_idle_and_first_byte_limits() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.06)
            await peer.send(b"x")
        await peer.wait_gone()

    async with Scripted(script) as server:
        pool = make_pool(server.port)

        heard = await ask(pool, timeouts=timeouts(first_byte=0.1, idle=0.15))

        assert (heard.error, heard.body, pool.idle) == (None, b"xxxxxx", 1)
        await pool.aclose()


async def test_paused_time_does_not_count_as_idle() -> None:
    async with Scripted(answer(TO_END + b"x")) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection, timeouts=timeouts(idle=0.1))
        await heard.read()
        connection.pause_reading()
        await asyncio.sleep(0.25)
        assert heard.error is None

        connection.resume_reading()
        began_s = time.monotonic()
        await heard.done()

        assert type(heard.error) is UpstreamTimeout
        assert 0.09 <= time.monotonic() - began_s <= 0.15


async def test_busy_connection_arms_one_timer_for_many_requests() -> None:
    armed = []
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()

        class Spy(Connection):
            __slots__ = ()

            def _wake_by(self, at_s: float) -> None:
                before = self._timer
                super()._wake_by(at_s)
                armed.append(self._timer) if self._timer is not before else None

        connection.__class__ = Spy
        for _ in range(20):
            await start(connection, pool=pool).done()
            assert pool.take() is connection

        assert len(armed) == 1
        await pool.aclose()


async def test_upload_is_sent_as_it_comes_and_the_connection_reused() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_head():
            peer.received += await peer.reader.readuntil(b"0\r\n\r\n")
            await peer.send(OK)

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        heard = start(connection, head=POST, is_upload=True, pool=pool)
        for part in (b"one", b"two"):
            assert connection.wants_body
            assert connection.write_body(frame_chunk(part))
        connection.end_body(LAST_CHUNK)
        assert not connection.wants_body
        await heard.done()

        assert (heard.body, heard.idle_at_end) == (b"ok", 1)
        assert server.peers[0].received == POST + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        await pool.aclose()


async def test_upload_waits_for_a_provider_that_is_behind() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await may_read.wait()
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(OK)
        await peer.wait_gone()

    may_read = asyncio.Event()
    async with Scripted(script) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection, head=POST, is_upload=True, timeouts=timeouts(first_byte=5))
        sent = 0
        while connection.write_body(frame_chunk(b"x" * 65536)):
            sent += 65536
            await asyncio.sleep(0)
            assert sent < 64 << 20
        drained = asyncio.ensure_future(connection.drain())
        await asyncio.sleep(0.01)
        assert not drained.done()

        may_read.set()
        server.peers[0].reader._limit = 1 << 26  # type: ignore[attr-defined] # to read it all as one line
        await asyncio.wait_for(drained, 2)
        connection.end_body(LAST_CHUNK)
        await heard.done()

        assert heard.body == b"ok"
        connection.abort()


async def test_slow_client_does_not_count_against_the_first_byte_limit_but_the_last_write_does() -> None:
    async with Scripted(answer()) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection, head=POST, is_upload=True, timeouts=timeouts(first_byte=0.1))
        await asyncio.sleep(0.25)
        assert heard.error is None

        connection.end_body(LAST_CHUNK)
        began_s = time.monotonic()
        await heard.done()

        assert type(heard.error) is UpstreamTimeout
        assert 0.09 <= time.monotonic() - began_s <= 0.15


async def test_provider_that_never_reads_the_upload_is_cut() -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a read transport
        await over.wait()

    over = asyncio.Event()
    async with Scripted(script) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection, body=b"x" * (32 << 20), timeouts=timeouts(first_byte=0.1))
        await heard.done()
        over.set()

        assert type(heard.error) is UpstreamTimeout


@pytest.mark.parametrize("size", [0, 8 << 20])
async def test_early_reply_stops_the_upload_and_is_delivered(size: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(TOO_LARGE)  # then closes, with the body unread: RST

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        heard = start(connection, head=POST, is_upload=True, pool=pool)
        written = 0
        while connection.wants_body and written < size:
            connection.write_body(frame_chunk(b"x" * 65536))
            written += 65536
            await connection.drain()
            await asyncio.sleep(0)
        await heard.done()

        assert heard.error is None
        assert (heard.head.status, heard.body, heard.idle_at_end) == (413, b"big", 0)
        assert not connection.wants_body
        assert connection.write_body(b"more")
        connection.end_body(LAST_CHUNK)


async def test_early_reply_is_read_even_if_writing_fails_first() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        peer.write(TOO_LARGE)
        peer.reset()
        over.set()

    over = asyncio.Event()
    async with Scripted(script) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection, head=POST, is_upload=True)
        connection.pause_reading()
        await over.wait()
        for _ in range(3):
            connection.write_body(frame_chunk(b"x" * 65536))
            await asyncio.sleep(0)
        await heard.done()

        assert heard.error is None
        assert (heard.head.status, heard.body) == (413, b"big")


async def test_accepted_upload_goes_on_after_an_early_2xx() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(b"ok")
        await peer.wait_gone()

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        heard = start(connection, head=POST, is_upload=True, pool=pool)
        await heard.read()
        assert connection.wants_body
        connection.end_body(frame_chunk(b"x") + LAST_CHUNK)
        await heard.done()

        assert (heard.body, heard.idle_at_end) == (b"ok", 1)
        await pool.aclose()


async def test_large_body_arrives_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.read(3 << 20)
        await peer.send(OK)
        await peer.wait_gone()

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        body = bytes(range(256)) * (3 << 12)

        heard = await ask(pool, body=body)

        assert heard.body == b"ok"
        assert server.peers[0].received.endswith(body)
        await pool.aclose()
