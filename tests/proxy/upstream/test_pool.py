"""Keeping connections: which is used next, how long they live, and requests over those the provider closed."""

import asyncio
import os
import socket
import ssl
from typing import cast

import pytest
import trustme

from proxy.config.models import TimeoutSettings, TlsSettings
from proxy.errors import StaleConnection, UpstreamReset
from proxy.upstream import tcpinfo
from proxy.upstream.tcpinfo import never_delivered, position, sent_and_acked
from proxy.upstream.tls import make_context
from tests.proxy.upstream.scripted import OK, Peer, Recorder, Scripted, ask, make_pool, serve_forever, start

OK_IN_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
NO_SOCKET = cast(socket.socket, None)
"""Where the counts are made up."""


class Clock:
    """Seconds that pass when told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def idle_connections(pool: object, count: int) -> list[object]:
    connections = [await pool.connect() for _ in range(count)]  # type: ignore[attr-defined] # a Pool
    for connection in connections:
        await start(connection).done()
    return connections


async def test_newest_idle_connection_is_used_first() -> None:
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        first, second = await idle_connections(pool, 2)

        assert (pool.idle, pool.busy, pool.opened) == (2, 0, 2)
        assert pool.take() is second
        assert pool.take() is first
        assert pool.take() is None
        assert (pool.idle, pool.busy, pool.reused) == (0, 2, 2)
        await pool.aclose()
        assert pool.busy == 0


async def test_fresh_connection_passes_idle_ones_by() -> None:
    async with Scripted(serve_forever) as server:
        pool = make_pool(server.port)
        (first,) = await idle_connections(pool, 1)

        assert await pool.connect() is not first
        assert pool.take() is first
        await pool.aclose()


async def test_idle_connections_expire_one_by_one_and_nothing_stays_armed() -> None:
    async with Scripted(serve_forever) as server:
        clock = Clock()
        pool = make_pool(server.port, keep_alive_s=0.05, clock=clock)
        connections = []
        for _ in range(3):
            connections += await idle_connections(pool, 1) if not connections else []
            clock.now_s += 0.01
        assert pool._timer is not None

        clock.now_s += 1
        async with asyncio.timeout(2):
            await asyncio.gather(*[_gone(server, peer) for peer in server.peers])

        assert pool.idle == 0
        assert pool._timer is None


async def _gone(server: Scripted, peer: Peer) -> None:
    while not peer.reader.at_eof():  # noqa: ASYNC110 (the stream has no event for it)
        await asyncio.sleep(0.005)


async def test_expired_connection_is_not_taken_even_before_the_timer() -> None:
    async with Scripted(serve_forever) as server:
        clock = Clock()
        pool = make_pool(server.port, keep_alive_s=30, clock=clock)
        await idle_connections(pool, 2)
        clock.now_s += 30

        assert pool.take() is None
        await asyncio.sleep(0.01)
        assert (pool.idle, pool.busy) == (0, 0)


async def test_no_more_than_max_idle_are_kept_and_none_with_zero() -> None:
    async with Scripted(serve_forever) as server:
        two, none, never = (
            make_pool(server.port, max_idle=2),
            make_pool(server.port, max_idle=0),
            make_pool(server.port, keep_alive_s=0),
        )
        for pool, kept in ((two, 2), (none, 0), (never, 0)):
            connections = [await pool.connect() for _ in range(3)]
            for connection in connections:
                await start(connection).done()
            await asyncio.sleep(0.01)

            assert (pool.idle, pool.busy) == (kept, 0)
            await pool.aclose()


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.mark.parametrize("is_same_write", [True, False], ids=["in one write", "in a write of its own"])
@pytest.mark.parametrize("good", [OK, OK_IN_CHUNKS], ids=["length", "chunks"])
async def test_provider_that_sends_more_than_a_response_gets_one_request_a_connection_for_a_minute(
    good: bytes, is_same_write: bool
) -> None:
    async def script(peer: Peer) -> None:
        while head := await peer.read_head():
            is_bad = b"bad" in head
            await peer.send(good + EVIL if is_bad and is_same_write else good)
            if is_bad and not is_same_write:
                await ended.wait()
                await peer.send(EVIL)

    ended = asyncio.Event()
    clock = Clock()
    async with Scripted(script) as server:
        pool = make_pool(server.port, clock=clock, keep_alive_s=1000)
        await idle_connections(pool, 2)
        await ask(pool, head=b"GET /bad HTTP/1.1\r\nHost: test\r\n\r\n")
        ended.set()
        async with asyncio.timeout(2):
            while pool.idle + pool.busy:  # noqa: ASYNC110 (the pool has no event for it)
                await asyncio.sleep(0.001)

        kept = []
        for clock.now_s in (100.0, 159.9, 160.0):
            heard = await ask(pool)
            kept.append(pool.idle)
            assert heard.body == b"ok"

        assert kept == [0, 0, 1]
        await pool.aclose()


async def test_provider_that_says_why_it_closes_an_idle_connection_is_trusted_on() -> None:
    async def script(peer: Peer) -> None:
        while head := await peer.read_head():
            await peer.send(OK)
            if b"bad" in head:
                await ended.wait()
                await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return

    ended = asyncio.Event()
    async with Scripted(script) as server:
        pool = make_pool(server.port)
        await idle_connections(pool, 2)
        await ask(pool, head=b"GET /bad HTTP/1.1\r\nHost: test\r\n\r\n")
        ended.set()
        async with asyncio.timeout(2):
            while pool.idle > 1:  # noqa: ASYNC110 (the pool has no event for it)
                await asyncio.sleep(0.001)

        await ask(pool)

        assert (pool.idle, pool.reused) == (1, 2)
        await pool.aclose()


async def test_closed_pool_lets_busy_connections_end() -> None:
    async def script(peer: Peer) -> None:
        while await peer.read_head():
            await may_answer.wait()
            await peer.send(OK)

    may_answer = asyncio.Event()
    async with Scripted(script) as server:
        pool = make_pool(server.port)
        heard = start(await pool.connect())
        pool.close()
        may_answer.set()
        await heard.done()
        await asyncio.sleep(0.01)

        assert heard.body == b"ok"
        assert (pool.idle, pool.busy) == (0, 0)
        assert server.peers[0].reader.at_eof()


async def test_connection_closed_by_the_provider_leaves_the_pool() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(OK)

    async with Scripted(script) as server:
        pool = make_pool(server.port)
        await ask(pool)
        async with asyncio.timeout(1):
            while pool.idle:  # noqa: ASYNC110 (nobody is told)
                await asyncio.sleep(0.001)

        assert pool.busy == 0


def test_tcp_info_counts_bytes_sent_and_acknowledged() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        before = position(ours)
        assert (before, sent_and_acked(ours)) == (1, (0, 1))
        assert never_delivered(ours, before, peer_closed=False)

        ours.sendall(b"x" * 1000)
        theirs.recv(1000, socket.MSG_WAITALL)
        theirs.sendall(b"y")
        ours.recv(1)

        assert sent_and_acked(ours) == (1000, 1001)
        assert not never_delivered(ours, before, peer_closed=True)
        assert never_delivered(ours, position(ours), peer_closed=True)
        assert never_delivered(ours, position(ours), peer_closed=False)
        theirs.close()


@pytest.mark.parametrize("peer_closed", [False, True])
def test_retransmission_does_not_make_a_request_look_undelivered(
    peer_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As seen under load: 658 bytes of stream, 61 of them sent twice, then a request of 61 that was acknowledged.
    monkeypatch.setattr(tcpinfo, "sent_and_acked", lambda _: (719, 659))
    mark = position(NO_SOCKET)
    monkeypatch.setattr(tcpinfo, "sent_and_acked", lambda _: (780, 720))

    assert not never_delivered(NO_SOCKET, mark, peer_closed=peer_closed)


def test_reset_with_the_request_unacknowledged_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcpinfo, "sent_and_acked", lambda _: (100, 51))

    assert not never_delivered(NO_SOCKET, 51, peer_closed=False)
    assert never_delivered(NO_SOCKET, 51, peer_closed=True)


@pytest.fixture(params=["tcp", "tls"])
def contexts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    if request.param == "tcp":
        return None, None
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    return server, make_context(TlsSettings.model_validate({"caFile": str(path)}))


async def test_request_on_a_socket_the_provider_has_closed_is_stale(
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None],
) -> None:
    server_tls, client_tls = contexts
    async with Scripted(serve_forever, server_tls) as server:
        pool = make_pool(server.port, tls=client_tls)
        await ask(pool)
        with socket.socket(fileno=os.dup(server.peers[0].writer.get_extra_info("socket").fileno())) as theirs:
            theirs.shutdown(socket.SHUT_RDWR)  # and the loop has not looked yet

        heard = await ask(pool)

        assert (pool.opened, pool.reused) == (1, 1)
        assert type(heard.error) is StaleConnection
        assert not heard.error.may_have_executed


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_request_that_was_read_is_never_called_stale(
    ending: str, contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(OK)
        await peer.read_head()
        if ending == "reset":
            peer.reset()

    server_tls, client_tls = contexts
    async with Scripted(script, server_tls) as server:
        for _ in range(10):
            pool = make_pool(server.port, tls=client_tls)
            await ask(pool)
            assert pool.idle == 1
            heard = await ask(pool)

            assert type(heard.error) is UpstreamReset
            assert heard.error.may_have_executed


async def test_connection_lost_between_connect_and_send_is_stale() -> None:
    async with Scripted(serve_forever) as server:
        connection = await make_pool(server.port).connect()
        connection._transport.abort()
        await asyncio.sleep(0.01)

        heard = await start(connection).done()

        assert type(heard.error) is StaleConnection


async def test_a_thousand_requests_over_flapping_sockets_never_execute_twice() -> None:
    executed: dict[bytes, int] = {}

    async def script(peer: Peer) -> None:
        for _ in range(1 + peer.number % 3):
            head = await peer.read_head()
            if not head:
                return
            executed[head.split()[1]] = executed.get(head.split()[1], 0) + 1
            await peer.send(OK)

    async def one(number: int) -> Recorder:
        heard = await ask(pool, head=b"POST /%d HTTP/1.1\r\nHost: t\r\n\r\n" % number)
        while isinstance(heard.error, StaleConnection):
            stale.append(number)
            heard = start(await pool.connect(), head=b"POST /%d HTTP/1.1\r\nHost: t\r\n\r\n" % number)
            await heard.done()
        return heard

    stale: list[int] = []
    async with Scripted(script) as server:
        pool = make_pool(server.port, timeouts=TimeoutSettings(connect=5))
        errors = []
        for batch in range(100):
            heard = await asyncio.gather(*[one(batch * 10 + number) for number in range(10)])
            errors += [each.error for each in heard if each.error is not None]

        assert errors == []
        assert len(executed) == 1000
        assert set(executed.values()) == {1}
        assert pool.reused > 0
        await pool.aclose()
