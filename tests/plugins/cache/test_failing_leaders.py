"""A call that others wait for fails: one of them makes it again, and then all are told; nobody waits in vain (C9)."""

import asyncio
from collections import Counter

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness
from tests.plugins.cache.rig import (
    STREAMED,
    WHOLE,
    Call,
    Crowd,
    ask,
    desk_of,
    plugin_of,
    read_all,
    said,
    store_of,
    until,
    until_idle,
)

STREAM = STREAMED["openai"]
ONCE = {"failover": {"attempts": 1}}
"""So that one call is one request at the provider."""


async def start(proxy: ProxyHarness, upstream: FakeProvider, **cache: object) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True, **cache},
        breaker={"enabled": False},
        **ONCE,
    )


LATE = Faults(delay_s=0.15)

TOKENS = 10
"""What an answer of the provider takes, in and out."""


async def test_failed_call_is_made_again_by_one_who_waits_and_not_by_all(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(503, faults=LATE)
    upstream.reply("Paris", faults=LATE)
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(50)
        await crowd.follow(49)
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert [each.status for each in replies] == [503, *[200] * 49]
    assert sorted(said(each)[1] or "" for each in replies[1:]) == [*["coalesced"] * 48, "miss"]
    assert upstream.requests_seen == 2
    assert plugin_of(proxy)._ledger.describe()["saved"]["tokens"] == 48 * TOKENS


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_second_failure_is_told_to_all_who_wait_as_it_was(
    proxy: ProxyHarness, upstream: FakeProvider, status: int
) -> None:
    upstream.reply_status(status, faults=LATE)
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(30)
        await crowd.follow(29)
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert [each.status for each in replies] == [status] * 30
    assert upstream.requests_seen == 2
    assert sum(b"just now" in each.body for each in replies) == 28
    assert Counter(said(each)[2] for each in replies) == {"absent": 2, "the call that it waited for failed": 28}
    assert plugin_of(proxy)._ledger.describe()["misses"] == 30


async def test_all_who_wait_are_told_when_to_come_back(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(429, headers={"Retry-After": "7"}, faults=LATE)
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(4)
        await crowd.follow(3)
        replies = await read_all(crowd.clients)

    assert [each.header("retry-after") for each in replies] == ["7"] * 4


async def test_failure_without_an_answer_is_told_with_its_own_code(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(delay_s=0.1, cut_after_bytes=0))
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(10)
        await crowd.follow(9)
        replies = await read_all(crowd.clients)
    codes = {orjson.loads(each.body)["error"]["code"] for each in replies}

    assert {each.status for each in replies} == {502}
    assert (len(codes), upstream.requests_seen) == (1, 2)


async def test_those_who_were_told_may_ask_again_at_once(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.once.reply_status(503, faults=LATE)
    upstream.once.reply_status(503, faults=LATE)
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(3)
        await read_all(crowd.clients)
    again = await ask(proxy)

    assert (said(again), upstream.requests_seen) == ((200, "miss", "absent"), 3)


async def test_stream_that_is_cut_is_cut_for_all_who_read_it(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris", " in"], gate=gate, faults=Faults(cut_after_events=3))
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(4, STREAM)
        await until(lambda: all(one.state == "coming" for one in desk_of(proxy).flights._under_way.values()), "begun")
        gate.set()
        results = await asyncio.gather(*(one.read_response() for one in crowd.clients), return_exceptions=True)
    await until_idle(proxy)

    assert all(isinstance(each, CutOff) for each in results)
    partials = [each.partial for each in results if isinstance(each, CutOff)]
    assert all(b"upstream_cut" in each and b"[DONE]" not in each for each in partials)
    assert (upstream.requests_seen, len(store_of(proxy))) == (1, 0)


async def test_one_who_wants_a_cut_stream_whole_asks_once_more(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.once.stream(["Pa", "ris", " in"], gate=gate, faults=Faults(cut_after_events=3))
    upstream.reply("Paris")
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, STREAM)
        await until(lambda: all(one.state == "coming" for one in desk_of(proxy).flights._under_way.values()), "begun")
        whole = await crowd.ask(5)
        await crowd.follow(5)
        gate.set()
        replies = await read_all(whole)

    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == 2


async def test_stuck_leader_is_waited_for_only_so_long_and_then_one_call_is_made(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply("never", faults=Faults(never_answer=True))
    upstream.reply("Paris", faults=Faults(delay_s=0.05))
    await start(proxy, upstream, coalesceWait="200ms")

    async with Crowd(proxy) as crowd:
        stuck = (await crowd.ask(1))[0]
        await upstream.wait_for_request()
        waiting = await crowd.ask(30)
        await crowd.follow(30)
        replies = await read_all(waiting)
        stuck.reset()
        await upstream.wait_for_disconnect()
    await until_idle(proxy)

    assert {each.status for each in replies} == {200}
    assert sorted(said(each)[1] or "" for each in replies) == [*["coalesced"] * 29, "miss"]
    assert upstream.requests_seen == 2


async def test_who_waited_for_a_stuck_leader_takes_what_one_who_waited_longer_has_got_since(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply("never", faults=Faults(never_answer=True))
    await start(proxy, upstream, coalesceWait="200ms")

    async with Crowd(proxy) as crowd:
        stuck = (await crowd.ask(1))[0]
        await upstream.wait_for_request()
        earlier = await crowd.ask(1)
        await asyncio.sleep(0.1)
        later = await crowd.ask(3)
        replies = await read_all([*earlier, *later])
        stuck.reset()
        await upstream.wait_for_disconnect()
    await until_idle(proxy)

    assert [said(each)[1] for each in replies] == ["miss", *["coalesced"] * 3]
    assert upstream.requests_seen == 2


@pytest.mark.parametrize("call", [WHOLE["openai"], STREAM], ids=["whole", "streamed"])
@pytest.mark.parametrize(("pause_s", "drip_s"), [(0.1, 0.0), (0.15, 0.02)], ids=["is over", "comes"])
async def test_nobody_gets_part_of_an_answer_whose_beginning_is_gone(
    proxy: ProxyHarness, upstream: FakeProvider, call: Call, pause_s: float, drip_s: float
) -> None:
    upstream.once.reply("never", faults=Faults(never_answer=True))
    upstream.stream([f"word{number} " * 40 for number in range(30)], faults=Faults(drip_s=drip_s))
    await start(proxy, upstream, coalesceWait="200ms", maxEntry="2KB")

    async with Crowd(proxy) as crowd:
        stuck = (await crowd.ask(1, call))[0]
        await upstream.wait_for_request()
        earlier = await crowd.ask(1, call)
        await asyncio.sleep(pause_s)
        later = await crowd.ask(2, call)
        replies = await read_all([*earlier, *later])
        stuck.reset()
        await upstream.wait_for_disconnect()
    await until_idle(proxy)

    assert {each.status for each in replies} == {200}
    assert len({each.body for each in replies}) == 1
    assert b"word29" in replies[0].body


async def test_answer_that_has_begun_in_time_is_waited_for_however_long_its_pauses_are(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await start(proxy, upstream, coalesceWait="300ms")

    async with Crowd(proxy) as crowd:
        await crowd.ask(3, STREAM)
        await crowd.follow(2)
        await asyncio.sleep(0.5)
        gate.set()
        replies = await read_all(crowd.clients)

    assert sorted(said(each)[1] or "" for each in replies) == ["coalesced", "coalesced", "miss"]
    assert upstream.requests_seen == 1


async def test_operator_who_ends_the_leader_fails_nobody_else(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.once.reply("never", faults=Faults(never_answer=True))
    upstream.reply("Paris")
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1))[0]
        await upstream.wait_for_request()
        leading = next(iter(proxy.app.pipeline.running))
        followers = await crowd.ask(5)
        await crowd.follow(5)
        ended = await proxy.request("DELETE", f"/inflight/{leading.id}")
        ended_reply = await leader.read_response()
        replies = await read_all(followers)
    await until_idle(proxy)

    assert (ended.status < 300, ended_reply.status >= 400) == (True, True)
    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == 2


async def test_leaders_that_leave_one_after_the_other_leave_the_last_with_an_answer(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("Paris", faults=Faults(delay_s=0.3))
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1)
        await upstream.wait_for_request()
        await crowd.ask(9)
        await crowd.follow(9)
        for client in crowd.clients[:9]:
            client.reset()
        last = await crowd.clients[9].read_response()
    await until_idle(proxy)

    assert (said(last)[:2], upstream.requests_seen) == ((200, "coalesced"), 1)


async def test_request_that_wants_no_kept_answer_waits_for_nobody(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(delay_s=0.1))
    await start(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1)
        await upstream.wait_for_request()
        await crowd.ask(2, headers={"Cache-Control": "no-cache"})
        replies = await read_all(crowd.clients)

    assert [said(each)[1] for each in replies] == ["miss"] * 3
    assert upstream.requests_seen == 3


async def test_call_that_is_tried_again_needs_no_slot_that_those_who_wait_for_it_hold(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(503, faults=LATE)
    upstream.reply("Paris")
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True, "coalesceWait": "20s"},
        failover={"backoff": "50ms"},
        max_concurrency=2,
        max_queue=20,
    )

    async with Crowd(proxy) as crowd:
        await crowd.ask(5)
        async with asyncio.timeout(5):
            replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == 2
