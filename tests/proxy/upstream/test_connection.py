"""What a connection makes of what providers do."""

import asyncio

import pytest

from proxy.errors import UpstreamCut, UpstreamProtocol, UpstreamReset
from tests.proxy.upstream.scripted import OK, Peer, Scripted, answer, ask, make_pool, serve_forever, start

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_END = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (OK, b"ok"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"ok"),
        (CHUNKED + b"1;ext=1\r\no\r\n1\r\nk\r\n0\r\nX-Trailer: 1\r\nConnection: close\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_clean_response_gives_the_connection_back_before_the_end_is_told(wire: bytes, body: bytes) -> None:
    async with Scripted(answer(wire)) as server:
        pool = make_pool(server.port)

        heard = await ask(pool)

        assert heard.error is None
        assert heard.body == body
        assert heard.idle_at_end == 1
        assert not any(b"railer" in name or b"Link" in name for name in heard.head.lines)
        await pool.aclose()


async def test_head_reply_has_a_length_but_no_body() -> None:
    async with Scripted(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")) as server:
        pool = make_pool(server.port)

        heard = await ask(pool, is_head_request=True)

        assert (heard.head.content_length, heard.head.has_body, heard.calls) == (1000, False, ["head", "end"])
        assert heard.idle_at_end == 1
        await pool.aclose()


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        TO_END + b"ok",
    ],
)
async def test_connection_that_the_provider_closes_is_not_kept(wire: bytes) -> None:
    async with Scripted(answer(wire, then="close")) as server:
        pool = make_pool(server.port)

        heard = await ask(pool)

        assert (heard.body, heard.idle_at_end) == (b"ok", 0)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        CHUNKED,
        CHUNKED + b"4\r\nha",
        CHUNKED + b"4\r\nhalf\r\n",
        CHUNKED + b"4\r\nhalf\r\n0\r\n",
    ],
)
async def test_truncated_body_is_a_cut(wire: bytes, then: str) -> None:
    async with Scripted(answer(wire, then=then)) as server:
        heard = await ask(make_pool(server.port))

        assert type(heard.error) is UpstreamCut
        assert heard.error.may_have_executed
        assert b"half".startswith(heard.body)


async def test_body_until_close_is_cut_by_a_reset() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(TO_END + b"part")
        await started.wait()
        peer.reset()

    started = asyncio.Event()
    async with Scripted(script) as server:
        heard = start(await make_pool(server.port).connect())
        await heard.read()
        started.set()
        await heard.done()

        assert type(heard.error) is UpstreamCut
        assert heard.body == b"part"


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_break_before_the_head_is_a_reset_that_may_have_executed(wire: bytes, then: str) -> None:
    async with Scripted(answer(wire, then=then)) as server:
        heard = await ask(make_pool(server.port))

        assert type(heard.error) is UpstreamReset
        assert heard.error.may_have_executed
        assert heard.error.provider == "test"


@pytest.mark.parametrize(
    "extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"x", b"HT", b"\r\n", b"\n", b"\r"]
)
@pytest.mark.parametrize(
    "wire",
    [
        OK,
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_extra_bytes_in_the_same_read_refuse_the_response(wire: bytes, extra: bytes) -> None:
    async with Scripted(answer(wire + extra)) as server:
        pool = make_pool(server.port)

        heard = await ask(pool)
        await asyncio.wait_for(server.peers[0].gone.wait(), 1)

        assert type(heard.error) is UpstreamProtocol
        assert pool.idle == 0


@pytest.mark.parametrize(
    ("wire", "is_head_request"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (CHUNKED, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", False),
    ],
)
@pytest.mark.parametrize("extra", [b"body", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n"])
async def test_body_where_none_can_be_is_dropped_with_its_connection(
    wire: bytes, is_head_request: bool, extra: bytes
) -> None:
    async with Scripted(answer(wire + extra)) as server:
        pool = make_pool(server.port)

        heard = await ask(pool, is_head_request=is_head_request)
        await asyncio.wait_for(server.peers[0].gone.wait(), 1)

        assert (heard.calls, heard.body, heard.error) == (["head", "end"], b"", None)
        assert heard.idle_at_end == 0


async def test_extra_bytes_while_idle_drop_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(OK)
        await ended.wait()
        await peer.send(OK)
        await peer.wait_gone()

    ended = asyncio.Event()
    async with Scripted(script) as server:
        pool = make_pool(server.port)
        await ask(pool)
        assert pool.idle == 1

        ended.set()
        await asyncio.wait_for(server.peers[0].gone.wait(), 1)

        assert (pool.idle, pool.busy, pool.take()) == (0, 0, None)


async def test_extra_bytes_never_reach_the_next_request() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_head():
            await peer.send(OK)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        for _ in range(300):
            heard = await ask(pool)
            assert heard.error is not None or heard.body == b"ok"
        await pool.aclose()


async def test_response_split_at_every_byte_reads_the_same() -> None:
    wire = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
        b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n"
    )

    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        for wire_now in (wire, wire.replace(b"Transfer-Encoding: chunked", b"Content-Length: 11")[: 89 - 3] + b"\r\n"):
            if b"Content-Length" in wire_now:
                wire_now = b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world"
            for cut in range(1, len(wire_now)):
                heard = start(connection, pool=pool)
                connection.data_received(wire_now[:cut])
                connection.data_received(wire_now[cut:])
                assert (heard.calls[-1], heard.body, heard.idle_at_end) == ("end", b"hello world", 1)
                assert heard.head.header(b"x") == b"y"
                assert pool.take() is connection
            heard = start(connection, pool=pool)
            for at in range(len(wire_now)):
                connection.data_received(wire_now[at : at + 1])
            assert (heard.calls[-1], heard.body) == ("end", b"hello world")
            assert pool.take() is connection
        connection.abort()


async def test_what_one_read_brings_is_told_at_once_and_its_end_only_with_the_head() -> None:
    async with Scripted(serve_forever) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection)
        for part in (CHUNKED, b"1\r\na\r\n1\r\nb\r\n", b"5\r", b"\nhel", b"lo\r\n", b"0\r\n\r\n"):
            connection.data_received(part)

        assert heard.calls == ["head", "read", "data", "data", "data", "end"]
        assert heard.body == b"abhello"
        connection.abort()


async def test_aborted_receiver_hears_nothing_more() -> None:
    async with Scripted(answer(CHUNKED + b"1\r\na\r\n" * 10 + b"0\r\n\r\n")) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        heard = start(connection)
        heard.on_data = lambda data: (heard.calls.append("data"), connection.abort())  # type: ignore[assignment, func-returns-value] # test double
        async with asyncio.timeout(2):
            await server.accepted.wait()
            await server.peers[0].gone.wait()

        assert heard.calls == ["head", "data"]
        assert (pool.idle, pool.busy) == (0, 0)


async def test_abort_closes_the_socket_at_once() -> None:
    async with Scripted(answer(TO_END + b"x")) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection)
        await heard.read()

        connection.abort()
        await asyncio.wait_for(server.peers[0].gone.wait(), 0.1)

        assert heard.calls == ["head", "data", "read"]


async def test_paused_connection_reads_nothing() -> None:
    async with Scripted(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n", b"x" * 8_000_000)) as server:
        connection = await make_pool(server.port).connect()
        heard = start(connection)
        await heard.read()
        connection.pause_reading()
        await asyncio.sleep(0.05)
        before = len(heard.body)
        await asyncio.sleep(0.05)
        assert len(heard.body) == before < 8_000_000

        connection.resume_reading()
        await heard.done()

        assert len(heard.body) == 8_000_000
        connection.abort()


async def test_connection_paused_by_its_last_bytes_is_read_again_when_reused() -> None:
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        connection = await pool.connect()
        heard = start(connection, pool=pool)
        heard.on_data = lambda data: connection.pause_reading()  # type: ignore[method-assign] # test double
        await heard.done()

        again = await ask(pool)

        assert (again.body, pool.opened, pool.reused) == (b"ok", 1, 1)
        await pool.aclose()


async def test_receiver_that_raises_fails_its_own_response_only() -> None:
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))
    async with Scripted(answer(CHUNKED + b"1\r\na\r\n")) as server:
        heard = start(await make_pool(server.port).connect())

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        heard.on_data = fail  # type: ignore[method-assign] # test double
        await heard.done()

        assert heard.error is not None
        await asyncio.sleep(0)
        assert [type(report) for report in reports] == [ZeroDivisionError]
