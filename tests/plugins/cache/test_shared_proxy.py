"""The cache on a shared store, and where that fails: answers as from memory, misses in place of errors (D3, D4)."""

import asyncio
import time
from collections.abc import AsyncIterator
from statistics import median
from typing import Any

import pytest

from plugins.cache.codec import decode, encode
from proxy.testing import FakeProvider, ProxyHarness
from tests.plugins.cache.entries import make_entry
from tests.plugins.cache.rig import (
    CALLS,
    STREAMED,
    Crowd,
    ask,
    change,
    desk_of,
    not_kept,
    plugin_of,
    read_all,
    said,
    until,
    until_idle,
)
from tests.redis_server import RedisServer

STORE_TIMEOUT_S = 0.1
KEYS = [{"Authorization": f"Bearer sk-{number}"} for number in range(4)]


async def start(
    proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None, format: Any = "openai", **cache: Any
) -> None:
    """Start a proxy whose cache is in a Redis, or else in memory."""
    store = {} if redis is None else {"store": {"url": redis.url, "timeout": STORE_TIMEOUT_S}}
    kind = "memory" if redis is None else "shared"
    await proxy.start(
        providers={"vendor": upstream.provider(format)}, cache={"enabled": True, "store": kind, **cache}, **store
    )


async def settle(proxy: ProxyHarness) -> None:
    """Wait until all that is to be kept is kept."""
    await until_idle(proxy)
    slot = proxy.app.host._slots["cache"].instance
    await until(lambda: len(slot.tasks) == 0, "entries are written")


@pytest.fixture(params=["memory", "shared"])
def redis(request: pytest.FixtureRequest) -> RedisServer | None:
    if request.param == "memory":
        return None
    server: RedisServer = request.getfixturevalue("redis_server")
    return server


@pytest.fixture
async def other() -> AsyncIterator[ProxyHarness]:
    async with ProxyHarness() as harness:
        yield harness


# -- the same on both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
async def test_answer_is_given_again(
    proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None, name: str
) -> None:
    await start(proxy, upstream, redis, CALLS[name].provider)
    first = await ask(proxy, CALLS[name])
    await settle(proxy)

    second = await ask(proxy, CALLS[name])

    assert (said(second), upstream.requests_seen) == ((200, "hit", None), 1)
    assert second.body == first.body or name == "native"
    assert second.header("content-type") == first.header("content-type")


async def test_callers_share_nothing(proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None) -> None:
    await start(proxy, upstream, redis)

    for outcome in ("miss", "hit"):
        replies = [await ask(proxy, headers=headers) for headers in KEYS]
        await settle(proxy)
        assert [said(each)[1] for each in replies] == [outcome] * len(KEYS)


@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
async def test_many_that_ask_the_same_at_once_make_one_call_for_each_caller(
    proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None, name: str
) -> None:
    await start(proxy, upstream, redis)

    async with Crowd(proxy) as crowd:
        for headers in KEYS:
            await crowd.ask(250, CALLS[name], headers)
        replies = await read_all(crowd.clients)
    await settle(proxy)

    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == len(KEYS)


async def test_what_is_not_to_be_kept_is_not(
    proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None
) -> None:
    await start(proxy, upstream, redis)
    upstream.once.reply_status(500)
    upstream.once.reply_tool_call("weather", {})

    replies = [await ask(proxy) for _ in range(2)]
    replies += [await ask(proxy, headers={"Cache-Control": "no-store"})]
    await settle(proxy)
    replies += [await ask(proxy)]

    assert {said(each)[1] for each in replies} == {"miss"}


async def test_old_answers_are_given_within_their_windows(
    proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None
) -> None:
    await start(proxy, upstream, redis, ttl=0, staleWhileRevalidate=60)
    await ask(proxy)
    await settle(proxy)

    stale = await ask(proxy)
    await upstream.wait_for_request(2)
    await settle(proxy)

    assert said(stale)[1] == "stale"


async def test_reset_forgets_all(proxy: ProxyHarness, upstream: FakeProvider, redis: RedisServer | None) -> None:
    await start(proxy, upstream, redis)
    for number in range(3):
        await ask(proxy, seed=number)
    await settle(proxy)

    answer = await proxy.request("POST", "/reset")

    assert b'"entries":3' in answer.body.replace(b" ", b"")
    assert said(await ask(proxy, seed=1))[1] == "miss"


# -- two proxies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "openai, streamed", "gemini array, streamed", "ollama, streamed"])
async def test_two_proxies_share_answers(
    proxy: ProxyHarness, other: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer, name: str
) -> None:
    await start(proxy, upstream, redis_server, CALLS[name].provider)
    await start(other, upstream, redis_server, CALLS[name].provider)
    first = await ask(proxy, CALLS[name])
    await settle(proxy)

    second = await ask(other, CALLS[name])

    assert (said(second), second.body, upstream.requests_seen) == ((200, "hit", None), first.body, 1)


async def test_proxies_share_no_answers_of_different_callers(
    proxy: ProxyHarness, other: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer
) -> None:
    await start(proxy, upstream, redis_server)
    await start(other, upstream, redis_server)
    await ask(proxy, headers=KEYS[0])
    await settle(proxy)

    assert said(await ask(other, headers=KEYS[1]))[1] == "miss"
    assert said(await ask(other, headers=KEYS[0]))[1] == "hit"


# -- damaged entries -------------------------------------------------------------------------------------------------


def damaged(value: bytes) -> dict[str, bytes]:
    """Ways in which a value may be wrong."""
    middle = len(value) // 2
    stranger = encode(make_entry("of another key"))
    assert stranger is not None
    return {
        "empty": b"",
        "cut": value[:-9],
        "flipped in the line": value[:5] + bytes([value[5] ^ 1]) + value[6:],
        "flipped in the body": value[:middle] + bytes([value[middle] ^ 0x20]) + value[middle + 1 :],
        "of another version": value.replace(b'"v":1', b'"v":9', 1),
        "of another key": stranger,
        "a pickle": b"cos\nsystem\n(S'true'\ntR.",
        "twice": value + value,
    }


@pytest.mark.parametrize("kind", damaged(encode(make_entry()) or b""))
async def test_damaged_entry_is_a_miss_and_is_written_anew(
    proxy: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer, kind: str
) -> None:
    await start(proxy, upstream, redis_server)
    await ask(proxy)
    await settle(proxy)
    shared, key = plugin_of(proxy)._shared, desk_of(proxy).last_asked._asked[-1].key
    value = await shared.get(key)
    assert value is not None
    await shared.set(key, damaged(value)[kind], 60)

    missed = await ask(proxy)
    await settle(proxy)
    found = await ask(proxy)

    assert (said(missed), said(found)) == ((200, "miss", "absent"), (200, "hit", None))
    assert decode(await shared.get(key) or b"", key) is not None


async def test_name_that_holds_something_else_is_a_miss(
    proxy: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer
) -> None:
    await start(proxy, upstream, redis_server)
    await ask(proxy)
    await settle(proxy)
    name = f"switchyard:cache:{desk_of(proxy).last_asked._asked[-1].key.hex()}"
    redis_server.ask("DEL", name)
    redis_server.ask("RPUSH", name, "1")

    reply = await ask(proxy)

    assert said(reply) == (200, "miss", "store unavailable")


# -- a store that fails ----------------------------------------------------------------------------------------------


async def test_flushed_store_is_a_miss(proxy: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer) -> None:
    await start(proxy, upstream, redis_server)
    await ask(proxy)
    await settle(proxy)
    redis_server.ask("FLUSHALL")

    assert said(await ask(proxy)) == (200, "miss", "absent")


async def took_s(proxy: ProxyHarness, count: int, **fields: Any) -> list[float]:
    times_s = []
    for number in range(count):
        began_s = time.monotonic()
        reply = await ask(proxy, seed=number, **fields)
        times_s.append(time.monotonic() - began_s)
        assert said(reply)[:2] == (200, "miss")
    return times_s


def told_of_store(proxy: ProxyHarness) -> list[str]:
    return [event.kind for event in proxy.events.recent() if event.kind.startswith("store_")]


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_store_that_fails_holds_nobody_up_and_is_told_of_once(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer, how: str
) -> None:
    await start(proxy, upstream, own_redis)
    await ask(proxy)
    await settle(proxy)
    usual_s = median(await took_s(proxy, 5, n=2))
    await settle(proxy)
    own_redis.stop() if how == "killed" else own_redis.freeze()

    failing_s = await took_s(proxy, 6, n=3)
    await settle(proxy)
    open_s = await took_s(proxy, 20, n=4)
    await settle(proxy)

    assert max(failing_s) < STORE_TIMEOUT_S + usual_s + 0.1
    assert median(open_s) < usual_s + 0.05
    assert sum(time_s > STORE_TIMEOUT_S for time_s in open_s) <= 2  # one call now and then finds out whether it is back
    assert len(told_of_store(proxy)) == 1
    assert not_kept(proxy)["store unavailable"] > 0


async def test_many_at_once_wait_for_a_frozen_store_no_longer_than_one(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer
) -> None:
    await start(proxy, upstream, own_redis)
    await ask(proxy)
    await settle(proxy)
    own_redis.freeze()

    began_s = time.monotonic()
    async with Crowd(proxy) as crowd:
        for number in range(100):
            await crowd.ask(1, seed=number)
        replies = await read_all(crowd.clients)
    took = time.monotonic() - began_s
    await settle(proxy)

    assert {said(each) for each in replies} == {(200, "miss", "store unavailable")}
    assert took < STORE_TIMEOUT_S + 1.0


async def test_store_that_comes_back_is_used_again(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer
) -> None:
    await start(proxy, upstream, own_redis)
    await ask(proxy)
    await settle(proxy)
    own_redis.freeze()
    await took_s(proxy, 5, n=2)
    own_redis.thaw()
    stores = proxy.app.stores

    await until(lambda: (now := stores.current()) is not None and not now.is_open, "the store is back")
    reply = await ask(proxy)

    assert said(reply) == (200, "hit", None)
    assert len(told_of_store(proxy)) == 2


async def test_plugin_is_not_switched_off_by_a_store_that_fails(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer
) -> None:
    await start(proxy, upstream, own_redis)
    own_redis.freeze()

    await took_s(proxy, 30)

    assert proxy.app.host.switched_off == []
    assert [event.kind for event in proxy.events.recent() if event.kind.startswith("plugin_")] == []


@pytest.mark.parametrize("limit", ["400ms", "2s"])
async def test_store_may_take_longer_than_a_hook_and_fails_no_plugin(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer, limit: str
) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True, "store": "shared"},
        store={"url": own_redis.url, "timeout": limit},
    )
    await ask(proxy)
    await settle(proxy)
    own_redis.freeze()

    replies = [await ask(proxy, seed=number) for number in range(4)]

    assert {each.status for each in replies} == {200}
    assert proxy.app.host.switched_off == []
    assert [event.kind for event in proxy.events.recent() if event.kind.startswith("plugin_")] == []


async def test_without_a_store_it_serves_as_if_nothing_were_kept(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True, "store": "shared"})

    replies = [await ask(proxy) for _ in range(2)]

    assert {said(each) for each in replies} == {(200, "miss", "store unavailable")}


async def test_client_that_wants_only_what_is_kept_is_told_where_the_store_is_gone(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer
) -> None:
    await start(proxy, upstream, own_redis)
    own_redis.stop()

    reply = await ask(proxy, headers={"Cache-Control": "only-if-cached"})

    assert (reply.status, upstream.requests_seen) == (504, 0)


async def test_many_coalesce_though_the_store_is_gone(
    proxy: ProxyHarness, upstream: FakeProvider, own_redis: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await start(proxy, upstream, own_redis)
    own_redis.stop()

    async with Crowd(proxy) as crowd:
        await crowd.ask(50, STREAMED["openai"])
        await crowd.follow(49)
        gate.set()
        replies = await read_all(crowd.clients)

    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == 1


async def test_answer_that_comes_after_the_cache_was_switched_off_is_kept_nowhere(
    proxy: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await start(proxy, upstream, redis_server)

    async with Crowd(proxy) as crowd:
        await crowd.ask(2, STREAMED["openai"])
        await crowd.follow(1)
        await change(proxy, {"cache": {"enabled": False}})
        gate.set()
        replies = await read_all(crowd.clients)
    await until(lambda: not proxy.app.pipeline.running, "no request in work")

    assert {each.status for each in replies} == {200}
    assert redis_server.ask("DBSIZE") == ":0"
    assert [event.kind for event in proxy.events.recent() if event.kind == "plugin_failed"] == []


async def test_nothing_is_held_once_it_is_written(
    proxy: ProxyHarness, upstream: FakeProvider, redis_server: RedisServer
) -> None:
    await start(proxy, upstream, redis_server)
    landing = desk_of(proxy).landing

    async with Crowd(proxy) as crowd:
        for number in range(10):
            await crowd.ask(20, seed=number)
        await read_all(crowd.clients)
    await settle(proxy)

    assert (len(landing), len(landing._written), len(landing._reads)) == (0, 0, 0)
    assert upstream.requests_seen == 10
