"""How a connection through the fault proxy ends, whoever ends it."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from proxy.testing import FakeProvider, Fault, FaultProxy, Pause, RawClient
from proxy.testing.steps import CutKind
from proxy.upstream.tcpinfo import never_delivered, position
from tests.proxy.testing.rig import ANSWER, ASK, HEAD, ask_once
from tests.proxy.upstream.scripted import Peer, Scripted


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("fault", [Fault.stall(5), Fault.stall(5, direction="up"), Fault.blackhole(), None])
async def test_client_that_leaves_is_gone_upstream_too(
    upstream: FakeProvider, faulty: FaultProxy, how: str, fault: Fault | None
) -> None:
    upstream.reply_raw(HEAD, Pause(60))
    async with RawClient(faulty.url) as client:
        await faulty.wait_for_connections(1)
        if fault is not None:
            faulty.set(fault)
        await client.send(ASK)
        await client.read_ending(0.05)

        left_s = time.monotonic()
        getattr(client, how)()
        await upstream.wait_for_connections(0, timeout_s=1)

    assert time.monotonic() - left_s < 0.25
    await faulty.wait_for_connections(0, timeout_s=1)


async def test_client_that_resets_a_blocked_upload_is_gone_upstream_too(
    upstream: FakeProvider, faulty: FaultProxy
) -> None:
    async with RawClient(faulty.url, timeout_s=0.1) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        await upstream.wait_for_request(is_complete=False)
        upstream.pause_reading()
        with pytest.raises(TimeoutError):
            await client.send(bytes(50_000_000))

        client.reset()
        await faulty.wait_for_connections(0, timeout_s=1)
    upstream.resume_reading()
    await upstream.wait_for_disconnect(timeout_s=1)


async def test_end_and_reset_of_the_upstream_reach_the_client_as_such(
    upstream: FakeProvider, faulty: FaultProxy
) -> None:
    endings = []
    for kind in ("fin", "rst"):
        async with RawClient(faulty.url) as client:
            await client.request("GET", "/x")
            upstream.drop_connections(kind)
            endings.append(await client.read_ending())

    assert endings == [(b"", "fin"), (b"", "rst")]


@pytest.mark.parametrize("fault", [None, Fault.delay(0.05), Fault.drip(30, 0.01)])
async def test_half_closed_client_still_gets_its_answer(fault: Fault | None) -> None:
    async def answer_at_the_end(peer: Peer) -> None:
        await peer.wait_gone()
        await peer.send(ANSWER)

    async with Scripted(answer_at_the_end) as server, FaultProxy(f"http://127.0.0.1:{server.port}") as faulty:
        if fault is not None:
            faulty.set(fault)
        async with RawClient(faulty.url) as client:
            await client.send(ASK)
            client.half_close()
            received = await client.read_ending()
        await faulty.wait_for_connections(0)

    assert received == (ANSWER, "fin")
    assert server.peers[0].received == ASK


@pytest.mark.parametrize(("kind", "ending"), [("fin", "fin"), ("rst", "rst")])
async def test_open_connections_can_be_dropped(faulty: FaultProxy, kind: CutKind, ending: str) -> None:
    async with RawClient(faulty.url) as client:
        await client.request("GET", "/x")

        faulty.drop_connections(kind)

        assert await client.read_ending() == (b"", ending)


async def test_what_is_sent_after_a_polite_drop_is_provably_not_taken(
    upstream: FakeProvider, faulty: FaultProxy
) -> None:
    async with RawClient(faulty.url) as client:
        await client.request("GET", "/x")
        mark = position(client._socket)

        faulty.drop_connections("fin")
        await client.send(ASK)  # in the same turn of the loop: whoever reads has seen nothing yet
        data, ending = await client.read_ending()

        assert (data, ending) == (b"", "fin")
        assert never_delivered(client._socket, mark, peer_closed=True)
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("kind", ["fin", "rst"])
async def test_drop_tells_how_much_had_come_unread(upstream: FakeProvider, faulty: FaultProxy, kind: CutKind) -> None:
    async with RawClient(faulty.url) as client:
        await client.request("GET", "/x")
        client._socket.send(ASK)  # without a turn of the loop, in which it would be read

        unread = faulty.drop_connections(kind)
        await client.read_ending()

    assert (unread, upstream.requests_seen) == (len(ASK), 1)


async def test_upstream_that_is_away_resets_the_client(upstream: FakeProvider, faulty: FaultProxy) -> None:
    await upstream.close()

    assert await ask_once(faulty) == (b"", "rst")


async def test_closing_ends_whatever_is_under_way(upstream: FakeProvider) -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as clients, FaultProxy(upstream.url) as faulty:
        for fault in (Fault.stall(), Fault.delay(60), Fault.drip(1, 60), Fault.stall(direction="up")):
            struck = faulty.faults.total()
            faulty.once(fault)
            client = await clients.enter_async_context(RawClient(faulty.url))
            await client.send(ASK)
            await faulty.wait_for_faults(struck + 1)
        faulty.set(Fault.blackhole())

    assert faulty.connections_open == 0
    await upstream.wait_for_connections(0)
    assert asyncio.all_tasks() == before
