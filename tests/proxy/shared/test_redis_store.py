"""A store that is there, and one that comes and goes: what calls get, what is told and counted."""

import asyncio
import random
from typing import Any

import psutil
import pytest

from proxy.store import StoreRefused, StoreUnavailable
from proxy.testing.fault import Fault
from proxy.testing.fault_proxy import FaultProxy
from tests.proxy.shared.rig import SLACK_S, TIMEOUT_S, StoreRig
from tests.redis_server import RedisServer

MOST_S = TIMEOUT_S + SLACK_S


def sockets_to(port: int) -> int:
    return sum(bool(each.raddr) and each.raddr.port == port for each in psutil.Process().net_connections("tcp"))


@pytest.mark.parametrize("way", ["url", "unix_url"])
async def test_call_gives_what_the_server_answers_in_bytes(rig: StoreRig, redis_server: RedisServer, way: str) -> None:
    store = await rig.use(getattr(redis_server, way))

    await store.call(lambda redis: redis.set("a", b"\x00\xff"))

    assert await store.call(lambda redis: redis.get("a")) == b"\x00\xff"
    assert rig.calls("ok") == 2
    assert rig.told == []


async def test_database_of_the_url_is_the_one_that_is_asked(rig: StoreRig, redis_server: RedisServer) -> None:
    store = await rig.use(f"{redis_server.url}/3")

    await store.call(lambda redis: redis.set("a", b"1"))

    assert redis_server.ask("DBSIZE") == ":0"


async def test_error_for_an_answer_is_told_once_and_opens_nothing(rig: StoreRig, redis_server: RedisServer) -> None:
    store = await rig.use(redis_server.url)
    redis_server.ask("RPUSH", "a", "1")

    for _ in range(10):
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await store.call(lambda redis: redis.get("a"))

    assert not store.is_open
    assert rig.told == ["store_refused"]
    assert rig.calls("refused") == 10
    assert await store.call(lambda redis: redis.type("a")) == b"list"


async def test_error_that_repeats_the_command_is_told_without_it(rig: StoreRig, redis_server: RedisServer) -> None:
    store = await rig.use(redis_server.url)

    with pytest.raises(StoreRefused) as caught:
        await store.call(lambda redis: redis.execute_command("NOSUCH", "canary"))

    assert "canary" not in caught.value.message
    assert "canary" not in rig.events.recent()[0].message


async def test_error_of_the_caller_passes_through_and_counts_for_nothing(
    rig: StoreRig, redis_server: RedisServer
) -> None:
    store = await rig.use(redis_server.url)

    async def wrong(redis: Any) -> None:
        raise KeyError("mine")

    for _ in range(10):
        with pytest.raises(KeyError, match="mine"):
            await store.call(wrong)

    assert not store.is_open


async def test_flushed_server_is_empty_and_not_down(rig: StoreRig, redis_server: RedisServer) -> None:
    store = await rig.use(redis_server.url)
    await store.call(lambda redis: redis.set("a", b"1"))

    redis_server.ask("FLUSHALL")

    assert await store.call(lambda redis: redis.get("a")) is None
    assert rig.told == []


async def test_script_that_the_server_has_forgotten_is_sent_again(rig: StoreRig, redis_server: RedisServer) -> None:
    store = await rig.use(redis_server.url)

    async def count(redis: Any) -> Any:
        return await redis.register_script("return redis.call('INCR', KEYS[1])")(keys=["n"])

    await store.call(count)
    redis_server.ask("SCRIPT", "FLUSH")

    assert await store.call(count) == 2


async def test_server_that_is_not_there_at_first_is_found_out_before_a_request_comes(
    rig: StoreRig, own_redis: RedisServer
) -> None:
    own_redis.stop()

    store = await rig.use_now(own_redis.url)
    await rig.until("store_down")
    own_redis.start()
    await rig.until("store_up")

    assert await store.call(lambda redis: redis.get("a")) is None
    assert rig.told == ["store_down", "store_up"]


async def test_single_late_answer_at_first_is_no_reason_to_leave_it_alone(
    rig: StoreRig, redis_server: RedisServer
) -> None:
    async with FaultProxy(redis_server.url) as line:
        line.once(Fault.delay(TIMEOUT_S * 2))

        store = await rig.use(line.url)

        assert line.faults.total() == 1
        assert not store.is_open
        assert rig.told == []


async def test_killed_server_opens_the_circuit_once_and_is_found_again(rig: StoreRig, own_redis: RedisServer) -> None:
    store = await rig.use(own_redis.url)
    await store.call(lambda redis: redis.set("a", b"1"))

    own_redis.stop()
    took_s = [await rig.fails() for _ in range(20)]

    assert max(took_s) < MOST_S
    assert store.is_open
    own_redis.start()
    await rig.until("store_up")
    assert await store.call(lambda redis: redis.get("a")) is None
    assert rig.told == ["store_down", "store_up"]


async def test_frozen_server_costs_a_few_calls_their_timeout_and_then_nobody_anything(
    rig: StoreRig, own_redis: RedisServer
) -> None:
    store = await rig.use(own_redis.url, breaker={"cooldown": 60, "maxCooldown": 60})
    own_redis.freeze()

    at_first_s = [await rig.fails() for _ in range(3)]
    then_s = [await rig.fails() for _ in range(200)]

    assert min(at_first_s) > TIMEOUT_S * 0.9
    assert max(at_first_s) < MOST_S
    assert sorted(then_s)[197] < 0.005
    assert (rig.calls("late"), rig.calls("skipped")) == (3, 200)
    assert store.is_open
    assert rig.told == ["store_down"]


async def test_frozen_server_is_tried_by_nobody_but_the_probe_and_found_again(
    rig: StoreRig, own_redis: RedisServer
) -> None:
    store = await rig.use(own_redis.url)
    own_redis.freeze()
    for _ in range(3):
        await rig.fails()

    await asyncio.sleep(0.5)  # a few probes in vain
    assert store.is_open
    own_redis.thaw()
    await rig.until("store_up")

    assert await store.call(lambda redis: redis.get("a")) is None
    assert rig.told == ["store_down", "store_up"]
    assert rig.calls("late") == 3


@pytest.mark.parametrize("at_once", [50, 400])
async def test_crowd_at_a_frozen_server_leaves_within_the_timeout(
    rig: StoreRig, own_redis: RedisServer, at_once: int
) -> None:
    await rig.use(own_redis.url, breaker={"cooldown": 60})
    own_redis.freeze()

    took_s = await asyncio.gather(*(rig.fails() for _ in range(at_once)))

    assert max(took_s) < TIMEOUT_S + 2 * SLACK_S
    assert rig.told == ["store_down"]


async def test_slow_server_is_left_alone(rig: StoreRig, redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url)
        line.set(Fault.delay(5.0))

        took_s = [await rig.fails() for _ in range(10)]

        assert max(took_s) < MOST_S
        assert store.is_open
        line.clear()
        await rig.until("store_up")
        assert rig.told == ["store_down", "store_up"]


async def test_late_answer_is_never_taken_for_that_of_another_call(rig: StoreRig, redis_server: RedisServer) -> None:
    redis_server.ask("SET", "one", "1")
    redis_server.ask("SET", "two", "2")
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url, breaker={"failures": 1000}, maxConnections=1)

        for _ in range(3):
            line.once(Fault.delay(TIMEOUT_S * 1.5))
            with pytest.raises(StoreUnavailable):
                await store.call(lambda redis: redis.get("one"))
            assert await store.call(lambda redis: redis.get("two")) == b"2"

        await line.wait_for_connections(1)
        assert line.connections_made == 4


@pytest.mark.parametrize("fault", [Fault.reset(3), Fault.truncate(3), Fault.stall(3)], ids=lambda fault: fault.kind)
async def test_connection_cut_in_the_middle_of_an_answer_fails_that_call_only(
    rig: StoreRig, redis_server: RedisServer, fault: Fault
) -> None:
    redis_server.ask("SET", "a", "x" * 1000)
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url)
        line.once(fault)

        took_s = await rig.fails()

        assert took_s < MOST_S
        assert await store.call(lambda redis: redis.get("a")) == b"x" * 1000
        assert rig.told == []


async def test_connection_that_has_ended_while_nobody_used_it_costs_no_call(
    rig: StoreRig, redis_server: RedisServer
) -> None:
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url)
        line.drop_connections("fin")
        await line.wait_for_connections(0)

        assert await store.call(lambda redis: redis.get("a")) is None


async def test_call_of_a_client_that_leaves_is_cut_and_its_connection_dropped(
    rig: StoreRig, redis_server: RedisServer
) -> None:
    redis_server.ask("SET", "one", "1")
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url, timeout=30, maxConnections=1)
        line.once(Fault.stall())
        call = asyncio.get_running_loop().create_task(store.call(lambda redis: redis.get("one")))  # type: ignore[arg-type, var-annotated]  # a coroutine
        await line.wait_for_faults()

        call.cancel()
        await asyncio.wait([call])

        assert call.cancelled()
        assert await store.call(lambda redis: redis.get("two")) is None
        assert rig.calls("late") == rig.calls("failed") == 0


async def test_what_was_to_be_stored_is_let_go_with_the_call(rig: StoreRig, own_redis: RedisServer) -> None:
    async with FaultProxy(own_redis.url) as line:
        store = await rig.use(line.url, breaker={"failures": 1000})
        line.set(Fault.stall(direction="up"))

        with pytest.raises(StoreUnavailable):
            await store.call(lambda redis: redis.set("a", bytes(64 << 20)))

        await asyncio.sleep(0)  # the loop closes what was aborted
        assert sockets_to(line.port) == 0


async def test_calls_beyond_the_connections_wait_for_their_turn(rig: StoreRig, redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.url) as line:
        store = await rig.use(line.url, timeout=10, maxConnections=2)

        answers = await asyncio.gather(*(store.call(lambda redis: redis.incr("n")) for _ in range(100)))

        assert sorted(answers) == list(range(1, 101))
        assert line.connections_made <= 3


async def test_call_that_waited_for_others_in_vain_says_nothing_about_the_server(
    rig: StoreRig, redis_server: RedisServer
) -> None:
    store = await rig.use(redis_server.url, maxConnections=1, breaker={"failures": 1})

    async def slow(redis: Any) -> None:
        await asyncio.sleep(TIMEOUT_S * 0.8)

    calls = [store.call(slow) for _ in range(4)]
    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(end) for end in ends] == [type(None), *[StoreUnavailable] * 3]
    assert rig.calls("busy") == 3
    assert not store.is_open


async def test_refused_password_is_told_without_it(rig: StoreRig, redis_server: RedisServer) -> None:
    url = redis_server.url.replace("//", "//user:canary@")

    await rig.use_now(url)
    await rig.until("store_down")

    (event,) = rig.events.recent()
    assert "canary" not in str(event)
    assert f"redis://127.0.0.1:{redis_server.port}/0" in event.message
    assert "canary" not in (rig.stores.problem() or "")


async def test_problem_names_what_is_wrong_while_it_is(rig: StoreRig, own_redis: RedisServer) -> None:
    await rig.use(own_redis.url)
    assert rig.stores.problem() is None

    own_redis.stop()
    for _ in range(3):
        await rig.fails()

    assert "3 calls in a row failed" in (rig.stores.problem() or "")
    assert "store.url" in (rig.stores.problem() or "")


@pytest.mark.parametrize("seed", range(5))
async def test_nobody_gets_the_answer_to_another_question_whatever_happens(
    rig: StoreRig, redis_server: RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    async with FaultProxy(redis_server.url, seed=seed) as line:
        await rig.use(line.url, timeout=0.03, breaker={"failures": 10_000}, maxConnections=4)
        line.mix({Fault.delay(0.04): 0.1, Fault.reset(range(8)): 0.05, Fault.delay(0.02): 0.2, Fault.stall(3): 0.02})

        ends = await asyncio.gather(*(ask(rig, number, chance) for number in range(300)))

        assert set(ends) == {"right", "left", "no answer"}
        line.clear()
        assert await asyncio.gather(*(ask(rig, number, None) for number in range(20))) == ["right"] * 20


async def ask(rig: StoreRig, number: int, chance: random.Random | None) -> str:
    """Ask for a number of one's own, alone or in a pipeline; perhaps leave before the answer is there."""

    async def echo(redis: Any) -> list[bytes]:
        if number % 3:
            return [await redis.echo(str(number))]
        async with redis.pipeline(transaction=number % 2 == 0) as pipeline:
            return list(await pipeline.echo(str(number)).echo(str(number)).execute())

    try:
        if chance is not None:
            await asyncio.sleep(chance.random() / 2)
        async with asyncio.timeout(chance.random() / 20 if chance and chance.random() < 0.2 else None):
            answers = await rig.store.call(echo)
    except TimeoutError:
        return "left"
    except StoreUnavailable:
        return "no answer"
    return "right" if set(answers) == {str(number).encode()} else f"{answers} for {number}"
