"""Each fault, as the client and the server at the two ends of the fault proxy see it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from proxy.testing import Cut, CutOff, FakeProvider, Fault, FaultProxy, Pause, ProxyHarness, RawClient, encode_request
from proxy.testing.steps import CutKind

ASK = encode_request("GET", "/x", host="fake")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"
ANSWER = HEAD + BODY


@pytest.fixture
async def upstream() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply_raw(ANSWER)
        yield provider


@pytest.fixture
async def faulty(upstream: FakeProvider) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(upstream.url) as proxy:
        yield proxy


async def ask_once(faulty: FaultProxy) -> tuple[bytes, str]:
    """Ask on a connection of its own; what came and how it ended."""
    async with RawClient(faulty.url) as client:
        await client.send(ASK)
        return await client.read_ending()


async def test_bytes_pass_both_ways_and_are_counted(upstream: FakeProvider, faulty: FaultProxy) -> None:
    async with RawClient(faulty.url) as client:
        answers = [(await client.request("GET", "/x")).body for _ in range(3)]
        open_now = faulty.connections_open

    assert answers == [BODY] * 3
    assert (open_now, faulty.connections_made, upstream.connections_made, faulty.turns) == (1, 1, 1, 3)
    assert faulty.bytes_passed["down"] == 3 * len(ANSWER)
    assert faulty.bytes_passed["up"] > 3 * len(b"GET /x")
    assert not faulty.faults
    await faulty.wait_for_connections(0)
    await upstream.wait_for_connections(0)


async def test_megabytes_pass_unchanged_both_ways(upstream: FakeProvider, faulty: FaultProxy) -> None:
    body = bytes(range(256)) * 12_000
    upstream.reply_status(200, body)

    async with RawClient(faulty.url) as client:
        response = await client.request("POST", "/x", body)

    assert response.body == body
    assert upstream.last_request.body == body


@pytest.mark.parametrize(("fault", "ending"), [(Fault.stall, "silence"), (Fault.truncate, "fin"), (Fault.reset, "rst")])
@pytest.mark.parametrize("after", [0, 1, 17, len(HEAD), len(ANSWER) - 1, len(ANSWER)])
async def test_answer_passes_up_to_the_byte_then_the_fault(
    upstream: FakeProvider, faulty: FaultProxy, fault: type[Fault], ending: str, after: int
) -> None:
    faulty.set(fault(after))

    assert await ask_once(faulty) == (ANSWER[:after], ending)

    assert upstream.requests_seen == 1
    assert (faulty.faults.total(), faulty.bytes_passed["down"]) == (1, after)
    await faulty.wait_for_connections(0)
    await upstream.wait_for_connections(0)


@pytest.mark.parametrize("fault", [Fault.stall, Fault.truncate, Fault.reset])
async def test_fault_beyond_the_answer_does_nothing(faulty: FaultProxy, fault: type[Fault]) -> None:
    faulty.set(fault(len(ANSWER) + 1))

    async with RawClient(faulty.url) as client:
        bodies = [(await client.request("GET", "/x")).body for _ in range(3)]

    assert bodies == [BODY] * 3
    assert not faulty.faults


async def test_reset_loses_nothing_that_was_sent_before_it(upstream: FakeProvider, faulty: FaultProxy) -> None:
    body = bytes(300_000)
    upstream.reply_status(200, body)
    faulty.set(Fault.reset(len(body)))

    async with RawClient(faulty.url) as client:
        await client.send(ASK)
        await faulty.wait_for_faults()  # before anything is read
        received, ending = await client.read_ending()

    assert (len(received), ending) == (len(body), "rst")


@pytest.mark.parametrize("kind", ["fin", "rst"])
async def test_stall_holds_back_the_end_too(upstream: FakeProvider, faulty: FaultProxy, kind: CutKind) -> None:
    upstream.reply_raw(Cut(kind))
    faulty.set(Fault.stall())

    assert await ask_once(faulty) == (b"", "silence")
    await faulty.wait_for_connections(0)


@pytest.mark.parametrize(("fault", "ending"), [(Fault.stall, "silence"), (Fault.truncate, "fin"), (Fault.reset, "rst")])
async def test_request_that_a_fault_meets_on_its_way_up_is_never_seen(
    upstream: FakeProvider, faulty: FaultProxy, fault: type[Fault], ending: str
) -> None:
    faulty.set(fault(direction="up"))

    assert await ask_once(faulty) == (b"", ending)

    assert (upstream.requests_seen, faulty.bytes_passed["up"]) == (0, 0)
    await upstream.wait_for_connections(0)


async def test_upload_is_cut_after_so_many_bytes(upstream: FakeProvider, faulty: FaultProxy) -> None:
    request = encode_request("POST", "/x", b"x" * 1000, host="fake")
    faulty.set(Fault.reset(len(request) - 400, direction="up"))

    async with RawClient(faulty.url) as client:
        await client.send(request)
        received, ending = await client.read_ending()
    await upstream.wait_for_disconnect()

    assert (received, ending) == (b"", "rst")
    assert (len(upstream.last_request.body), upstream.last_request.is_complete) == (600, False)


async def test_truncated_upload_ends_with_fin_though_bytes_are_unread(faulty: FaultProxy) -> None:
    faulty.set(Fault.truncate(50, direction="up"))

    async with RawClient(faulty.url) as client:
        await client.send(encode_request("POST", "/x", bytes(200_000), host="fake"))
        received, ending = await client.read_ending()

    assert (received, ending) == (b"", "fin")


async def test_only_a_reused_connection_is_found_closed(upstream: FakeProvider, faulty: FaultProxy) -> None:
    faulty.set(Fault.truncate(direction="up", only_reused=True))

    async with RawClient(faulty.url) as client:
        first = await client.request("GET", "/x")
        with pytest.raises(CutOff, match="was closed"):
            await client.request("GET", "/x")
    async with RawClient(faulty.url) as client:
        again = await client.request("GET", "/x")

    assert (first.body, again.body, upstream.requests_seen) == (BODY, BODY, 2)


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_delay_is_silence_before_the_first_byte(faulty: FaultProxy, direction: str) -> None:
    faulty.set(Fault.delay(0.1, direction=direction))

    async with RawClient(faulty.url) as client:
        for _ in range(2):
            began_s = time.monotonic()
            response = await client.request("GET", "/x")

            assert response.body == BODY
            assert 0.09 <= time.monotonic() - began_s < 1


async def test_every_read_can_be_delayed(upstream: FakeProvider, faulty: FaultProxy) -> None:
    upstream.reply_raw(HEAD + BODY[:5], Pause(0.05), BODY[5:])
    faulty.set(Fault.delay(0.1, each_read=True))

    async with RawClient(faulty.url) as client:
        began_s = time.monotonic()
        response = await client.request("GET", "/x")

    assert response.body == BODY
    assert 0.19 <= time.monotonic() - began_s < 1


async def test_drip_passes_pieces_with_pauses(faulty: FaultProxy) -> None:
    faulty.set(Fault.drip(3, 0.03, after_bytes=len(HEAD)))

    async with RawClient(faulty.url) as client:
        response = await client.request("GET", "/x")

    assert [part for _, part in response.parts] == [b"012", b"345", b"678", b"9"]
    assert response.parts[-1][0] - response.parts[0][0] >= 0.08


async def test_stalled_bytes_pass_when_all_goes_well_again(faulty: FaultProxy) -> None:
    faulty.set(Fault.stall(20))

    async with RawClient(faulty.url) as client:
        await client.send(ASK)
        stalled = await client.read_ending(0.05)
        faulty.clear()
        rest = await client.read_ending(0.05)

    assert (stalled, rest) == ((ANSWER[:20], "silence"), (ANSWER[20:], "silence"))


async def test_fault_set_meanwhile_meets_the_next_bytes(upstream: FakeProvider, faulty: FaultProxy) -> None:
    gate = asyncio.Event()
    upstream.reply_raw(HEAD, gate, BODY)

    async with RawClient(faulty.url) as client:
        await client.send(ASK)
        await client.read_head()
        faulty.set(Fault.reset(len(HEAD) + 3))
        gate.set()
        ending = await client.read_ending()

    assert ending == (b"012", "rst")


async def test_once_comes_before_what_stands_and_then_is_over(faulty: FaultProxy) -> None:
    faulty.once(Fault.reset(), Fault.truncate(5))

    endings = [await ask_once(faulty) for _ in range(3)]

    assert endings == [(b"", "rst"), (ANSWER[:5], "fin"), (ANSWER, "silence")]
    assert faulty.faults == {"reset": 1, "truncate": 1}


async def test_what_was_to_come_once_is_forgotten_when_all_is_to_go_well(faulty: FaultProxy) -> None:
    faulty.once(Fault.reset())

    faulty.clear()

    assert (await ask_once(faulty))[0] == ANSWER


@pytest.mark.parametrize("fault", [Fault.refuse(), Fault.blackhole()])
def test_what_is_about_connecting_cannot_befall_one_turn(fault: Fault) -> None:
    with pytest.raises(ValueError, match="set them"):
        FaultProxy("http://127.0.0.1:1").once(fault)


async def test_mix_draws_for_each_turn_of_a_connection_and_the_seed_repeats_it(upstream: FakeProvider) -> None:
    runs = []
    for _ in range(2):
        async with FaultProxy(upstream.url, seed=3) as faulty:
            faulty.mix({Fault.reset(range(30)): 0.3, Fault.truncate(direction="up"): 0.2})
            seen: list[object] = []
            while len(seen) < 60:
                async with RawClient(faulty.url) as client:
                    try:
                        while len(seen) < 60:
                            seen.append((await client.request("GET", "/x")).body)
                    except (CutOff, ConnectionError) as error:
                        seen.append(getattr(error, "partial", b""))
            runs.append(seen)
            struck = dict(faulty.faults)

    assert runs[0] == runs[1]
    assert runs[0].count(BODY) + sum(struck.values()) == 60
    assert 8 <= struck["reset"] <= 28
    assert 3 <= struck["truncate"] <= 22


async def test_refused_port_is_kept_and_comes_back(upstream: FakeProvider, faulty: FaultProxy) -> None:
    port = faulty.port
    async with RawClient(faulty.url) as idle:
        await idle.request("GET", "/x")

        faulty.set(Fault.refuse())
        open_one = await idle.read_ending()
    with pytest.raises(ConnectionRefusedError):
        await ask_once(faulty)
    faulty.clear()

    assert open_one == (b"", "rst")
    assert (await ask_once(faulty))[0] == ANSWER
    assert faulty.port == port
    assert faulty.faults == {"refuse": 1}
    await faulty.wait_for_connections(0)


async def test_connect_hangs_in_a_black_hole_and_gets_through_afterwards(faulty: FaultProxy) -> None:
    faulty.set(Fault.blackhole())

    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with RawClient(faulty.url, timeout_s=0.1):
                pass
    waiting = asyncio.ensure_future(ask_once(faulty))
    await asyncio.sleep(0.05)
    made_before = faulty.connections_made
    faulty.clear()

    assert made_before == 0
    assert (await ask_once(faulty))[0] == ANSWER
    assert (await asyncio.wait_for(waiting, 5))[0] == ANSWER
    assert faulty.connections_made == 2


async def test_open_connections_are_silent_in_a_black_hole_until_it_ends(
    upstream: FakeProvider, faulty: FaultProxy
) -> None:
    async with RawClient(faulty.url) as client:
        await client.request("GET", "/x")
        faulty.set(Fault.blackhole())
        faulty.once(Fault.reset())
        await client.send(ASK)
        hidden = await client.read_ending(0.1)
        seen_before = upstream.requests_seen
        faulty.clear()
        shown = await client.read_ending(0.1)

    assert (hidden, seen_before) == ((b"", "silence"), 1)
    assert (shown, upstream.requests_seen) == ((ANSWER, "silence"), 2)


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


async def test_half_closed_client_still_gets_its_answer(faulty: FaultProxy, upstream: FakeProvider) -> None:
    faulty.set(Fault.delay(0.05))

    async with asyncio.timeout(5), RawClient(faulty.url) as client:
        await client.send(ASK)
        client.half_close()
        received, ending = await client.read_ending()

    assert ending in ("fin", "rst")  # the fake provider leaves when it hears the end
    assert received in (b"", ANSWER)
    await upstream.wait_for_connections(0)


@pytest.mark.parametrize(("kind", "ending"), [("fin", "fin"), ("rst", "rst")])
async def test_open_connections_can_be_dropped(faulty: FaultProxy, kind: CutKind, ending: str) -> None:
    async with RawClient(faulty.url) as client:
        await client.request("GET", "/x")

        faulty.drop_connections(kind)

        assert await client.read_ending() == (b"", ending)


async def test_upstream_that_is_away_resets_the_client(upstream: FakeProvider, faulty: FaultProxy) -> None:
    await upstream.close()

    assert await ask_once(faulty) == (b"", "rst")


async def test_waits_end_and_say_what_was_there(faulty: FaultProxy) -> None:
    faulty.set(Fault.reset())
    await ask_once(faulty)
    await faulty.wait_for_faults(1, "reset")

    with pytest.raises(TimeoutError, match="no 2 faults, 1 there within"):
        await faulty.wait_for_faults(2, timeout_s=0.05)
    with pytest.raises(TimeoutError, match="no 3 connections, 0 open"):
        await faulty.wait_for_connections(3, timeout_s=0.05)


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


async def test_proxy_asks_a_provider_through_it(upstream: FakeProvider, faulty: FaultProxy) -> None:
    upstream.reply("Paris")

    async with ProxyHarness() as proxy:
        await proxy.start(providers={"fake": faulty.provider("openai", models=["m"])})
        reply = await proxy.chat("Capital of France?", model="m")
        faulty.set(Fault.truncate())
        failed = await proxy.chat("Capital of France?", model="m")

    assert (reply.text, failed.status) == ("Paris", 502)
    assert upstream.last_request.header("authorization") == "Bearer sk-fake"
