"""Faults come and go while connections are open, by order and by chance, and so does the port."""

import asyncio

import pytest

from proxy.testing import CutOff, FakeProvider, Fault, FaultProxy, RawClient
from tests.proxy.testing.rig import ANSWER, ASK, BODY, HEAD, ask_once


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


def test_what_a_turn_draws_hangs_on_its_number_alone() -> None:
    drawn = []
    for spared in ((), (1, 4, 5)):
        faulty = FaultProxy("http://127.0.0.1:1", seed=5)
        faulty.mix({Fault.reset(range(10_000), only_reused=True): 0.5, Fault.stall(range(10_000)): 0.5})
        turns = [faulty.draw(is_reused=number not in spared) for number in range(50)]
        drawn.append(turns[6:])

    assert drawn[0] == drawn[1]
    assert len({fault.after_bytes for fault in drawn[0] if fault}) > 40


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
