"""Each fault, as the client and the server at the two ends of the fault proxy see it."""

import time

import pytest

from proxy.testing import Cut, CutOff, FakeProvider, Fault, FaultProxy, Pause, ProxyHarness, RawClient, encode_request
from proxy.testing.steps import CutKind
from tests.proxy.testing.rig import ANSWER, ASK, BODY, HEAD, ask_once


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


async def test_what_passed_is_kept_up_to_a_bound(upstream: FakeProvider) -> None:
    async with FaultProxy(upstream.url, record_bytes=60) as faulty:
        for _ in range(3):
            await ask_once(faulty)

    assert faulty.recorded == {"up": (ASK * 3)[:60], "down": (ANSWER * 3)[:60]}


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


async def test_waits_end_and_say_what_was_there(faulty: FaultProxy) -> None:
    faulty.set(Fault.reset())
    await ask_once(faulty)
    await faulty.wait_for_faults(1, "reset")

    with pytest.raises(TimeoutError, match="no 2 faults, 1 there within"):
        await faulty.wait_for_faults(2, timeout_s=0.05)
    with pytest.raises(TimeoutError, match="no 3 connections, 0 open"):
        await faulty.wait_for_connections(3, timeout_s=0.05)


async def test_proxy_asks_a_provider_through_it(upstream: FakeProvider, faulty: FaultProxy) -> None:
    upstream.reply("Paris")

    async with ProxyHarness() as proxy:
        await proxy.start(providers={"fake": faulty.provider("openai", models=["m"])})
        reply = await proxy.chat("Capital of France?", model="m")
        faulty.set(Fault.truncate())
        failed = await proxy.chat("Capital of France?", model="m")

    assert (reply.text, failed.status) == ("Paris", 502)
    assert upstream.last_request.header("authorization") == "Bearer sk-fake"
