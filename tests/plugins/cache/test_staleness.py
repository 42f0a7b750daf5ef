"""Old answers: given at once while a new one is fetched, or in place of an error, within their windows (RFC 5861)."""

import gc

import pytest

from plugins.cache.recording import Recording
from proxy.testing import FakeProvider, Faults, ProxyHarness
from tests.plugins.cache.rig import CALLS, STREAMED, Clock, Crowd, ask, plugin_of, read_all, said, store_of, until_idle

ONCE = {"failover": {"attempts": 1}, "breaker": {"enabled": False}}


async def start(proxy: ProxyHarness, upstream: FakeProvider, **cache: object) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider("openai", timeouts={"firstByte": "300ms"})},
        cache={"enabled": True, "ttl": 60, **cache},
        **ONCE,
    )


def told_stale(proxy: ProxyHarness) -> list[str]:
    return [event.message for event in proxy.events.recent() if event.kind == "cache_stale_served"]


# -- while a new one is fetched --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_coalescing", [True, False])
async def test_many_who_get_an_old_answer_have_one_new_one_fetched(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, is_coalescing: bool
) -> None:
    await start(proxy, upstream, staleWhileRevalidate=30, coalesce=is_coalescing)
    upstream.once.reply("old")
    await ask(proxy)
    upstream.reply("new", faults=Faults(delay_s=0.2))
    clock.now_s += 61

    async with Crowd(proxy) as crowd:
        await crowd.ask(50)
        replies = await read_all(crowd.clients)
    await upstream.wait_for_request(2)
    await until_idle(proxy)
    after = await ask(proxy)

    assert {said(each) for each in replies} == {(200, "stale", None)}
    assert all(b"old" in each.body and each.header("age") == "61" for each in replies)
    assert (said(after)[1], b"new" in after.body, upstream.requests_seen) == ("hit", True, 2)
    assert plugin_of(proxy)._ledger.describe()["refreshed"] == 1


@pytest.mark.parametrize(("late_s", "outcome"), [(59.9, "hit"), (60, "stale"), (89.9, "stale"), (90, "miss")])
async def test_windows_begin_and_end_to_the_second(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, late_s: float, outcome: str
) -> None:
    await start(proxy, upstream, staleWhileRevalidate=30)
    await ask(proxy)
    clock.now_s += late_s

    reply = await ask(proxy)

    assert said(reply)[1] == outcome


@pytest.mark.parametrize(("back_s", "outcome"), [(1, ("hit", "0")), (86_400, ("miss", None))])
async def test_clock_that_is_set_back_makes_no_answer_younger_than_new(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, back_s: float, outcome: tuple[str, str | None]
) -> None:
    await start(proxy, upstream)
    await ask(proxy)
    clock.now_s -= back_s

    reply = await ask(proxy)

    assert (said(reply)[1], reply.header("age")) == outcome


@pytest.mark.parametrize("name", ["openai, streamed", "openai"])
async def test_old_answers_are_refreshed_in_the_manner_in_which_they_are_asked_for(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, name: str
) -> None:
    await start(proxy, upstream, staleWhileRevalidate=30)
    await ask(proxy, CALLS[name])
    upstream.stream(["ne", "w"])
    clock.now_s += 61

    stale = await ask(proxy, CALLS[name])
    await upstream.wait_for_request(2)
    await until_idle(proxy)
    fresh = await ask(proxy, CALLS[name])

    assert (said(stale)[1], said(fresh)[1], upstream.requests_seen) == ("stale", "hit", 2)


async def test_failed_refresh_leaves_the_old_answer(proxy: ProxyHarness, upstream: FakeProvider, clock: Clock) -> None:
    await start(proxy, upstream, staleWhileRevalidate=30)
    await ask(proxy)
    upstream.reply_status(503)
    clock.now_s += 61

    for count in (2, 3):
        assert said(await ask(proxy))[1] == "stale"
        await upstream.wait_for_request(count)
        await until_idle(proxy)

    assert len(store_of(proxy)) == 1


async def test_refresh_takes_no_slot_that_a_client_would_need(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True, "ttl": 60, "staleWhileRevalidate": 30},
        max_concurrency=1,
    )
    await ask(proxy)
    clock.now_s += 61

    reply = await ask(proxy)
    await until_idle(proxy)

    assert (said(reply)[1], upstream.requests_seen) == ("stale", 1)


@pytest.mark.parametrize("wish", ["no-store", "only-if-cached"])
async def test_request_that_wants_nothing_asked_or_kept_has_nothing_fetched(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, wish: str
) -> None:
    await start(proxy, upstream, staleWhileRevalidate=30)
    await ask(proxy)
    clock.now_s += 61

    reply = await ask(proxy, headers={"Cache-Control": wish})
    await until_idle(proxy)

    assert (said(reply)[1], upstream.requests_seen) == ("stale", 1)


async def test_client_that_takes_what_is_stale_has_nothing_fetched_where_nothing_is_to_be(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleWhileRevalidate=0, staleIfError=3600)
    await ask(proxy)
    clock.now_s += 61

    reply = await ask(proxy, headers={"Cache-Control": "max-stale"})
    await until_idle(proxy)

    assert (said(reply)[1], upstream.requests_seen) == ("stale", 1)


# -- in place of an error --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
async def test_old_answer_stands_in_for_an_error_that_passes(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, status: int, name: str
) -> None:
    await start(proxy, upstream, staleIfError=30)
    before = await ask(proxy, CALLS[name])
    upstream.reply_status(status)
    clock.now_s += 61

    reply = await ask(proxy, CALLS[name])

    assert (said(reply), reply.header("age")) == ((200, "stale", "upstream_rejected"), "61")
    assert (reply.body, reply.header("content-type")) == (before.body, before.header("content-type"))
    assert sum(name.lower() == "x-cache" for name, _ in reply.headers) == 1
    assert len(told_stale(proxy)) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_error_that_is_the_requests_own_is_told(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, status: int
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply_status(status)
    clock.now_s += 61

    assert said(await ask(proxy)) == (status, "miss", "expired")


async def test_old_answer_stands_in_where_nobody_listens(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    await upstream.close()
    clock.now_s += 61

    reply = await ask(proxy)

    assert said(reply)[:2] == (200, "stale")


async def test_old_answer_stands_in_where_nothing_comes_in_time(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply("never", faults=Faults(never_answer=True))
    clock.now_s += 61

    reply = await ask(proxy)

    assert said(reply) == (200, "stale", "upstream_timeout")


async def test_old_answer_is_given_to_all_who_wait_and_told_of_once(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply_status(503, faults=Faults(delay_s=0.1))
    clock.now_s += 61

    async with Crowd(proxy) as crowd:
        await crowd.ask(30)
        await crowd.follow(29)
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert {said(each)[:2] for each in replies} == {(200, "stale")}
    assert upstream.requests_seen == 3
    assert len(told_stale(proxy)) == 1


async def test_answer_that_stands_in_is_not_kept_as_new(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply_status(503)
    clock.now_s += 61
    await ask(proxy)
    clock.now_s += 30

    late = await ask(proxy)

    assert said(late) == (503, "miss", "absent")


async def test_stream_that_breaks_off_is_not_followed_by_an_old_answer(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy, STREAMED["openai"])
    upstream.stream(["a", "b", "c"], faults=Faults(cut_after_events=3))
    clock.now_s += 61

    with pytest.raises(ConnectionError):
        await ask(proxy, STREAMED["openai"])


@pytest.mark.parametrize("control", ["no-cache", "max-age=10", "min-fresh=5"])
async def test_client_that_wants_it_fresh_is_told_of_the_error(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock, control: str
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply_status(503)
    clock.now_s += 61

    assert (await ask(proxy, headers={"Cache-Control": control})).status == 503


async def test_error_that_an_old_answer_stood_in_for_holds_nothing(
    proxy: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await start(proxy, upstream, staleIfError=30)
    await ask(proxy)
    upstream.reply_status(503)
    clock.now_s += 61
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert said(await ask(proxy))[1] == "stale"
        await until_idle(proxy)

        left = [one for one in gc.get_objects() if isinstance(one, Recording)]
    finally:
        gc.enable()

    assert left == []
