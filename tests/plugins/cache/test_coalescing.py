"""The same question asked meanwhile: one call, everybody served alike, nobody at another's mercy (C9)."""

import asyncio
import gc
import weakref
from typing import Any

import orjson
import pytest

from plugins.cache import recording as recording_module
from plugins.cache.recording import Recording
from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness
from tests.plugins.cache.rig import (
    CALLS,
    STREAMED,
    WHOLE,
    Crowd,
    ask,
    begin,
    desk_of,
    plugin_of,
    read_all,
    said,
    store_of,
    until,
    until_idle,
)

STREAM = STREAMED["openai"]
WITH_USAGE = {"stream_options": {"include_usage": True}}
KEYS = [{"Authorization": f"Bearer sk-{number}"} for number in range(4)]


def recordings(proxy: ProxyHarness) -> list[Recording]:
    return list(desk_of(proxy).flights._under_way.values())


async def until_coming(proxy: ProxyHarness, least_bytes: int = 1) -> None:
    await until(
        lambda: any(one.state == "coming" and one.size_bytes >= least_bytes for one in recordings(proxy)),
        "an answer that comes",
    )


@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
@pytest.mark.parametrize("slots", [None, 20])
async def test_thousand_that_ask_the_same_at_once_make_one_call_for_each_caller(
    proxy: ProxyHarness, upstream: FakeProvider, name: str, slots: int | None
) -> None:
    limits: dict[str, Any] = {} if slots is None else {"max_concurrency": slots, "max_queue": 2000}
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True}, **limits)
    upstream.stream(["Pa", "ris"], delay_s=0.05)

    async with Crowd(proxy) as crowd:
        for headers in KEYS:
            await crowd.ask(250, CALLS[name], headers)
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert {each.status for each in replies} == {200}
    assert len({each.body for each in replies[:250]}) == 1
    assert upstream.requests_seen == len(KEYS)
    assert sum(said(each)[1] == "miss" for each in replies) == len(KEYS)


@pytest.mark.parametrize("name", STREAMED)
async def test_late_joiner_gets_the_events_so_far_and_then_live_ones(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris", " in", " France"], gate=gate, gate_after=2)
    await begin(proxy, upstream, STREAMED[name].provider)

    async with Crowd(proxy) as crowd:
        first = (await crowd.ask(1, STREAMED[name]))[0]
        head = await first.read_head()
        while b"ris" not in head.body:
            await first.read_part(head)
        began = head.body
        late = (await crowd.ask(1, STREAMED[name]))[0]
        late_head = await late.read_head()
        so_far = await late.read_part(late_head)
        gate.set()
        while await first.read_part(head):
            pass
        while await late.read_part(late_head):
            pass

    assert so_far == began
    assert (late_head.body, said(late_head)[1]) == (head.body, "coalesced")
    assert late_head.header("content-type") == head.header("content-type")
    assert upstream.requests_seen == 1


async def test_leader_that_leaves_fails_nobody(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, STREAM))[0]
        await until_coming(proxy)
        followers = await crowd.ask(5, STREAM)
        await crowd.follow(5)
        leader.reset()
        await until(lambda: any(exchange.status == 499 for exchange in proxy.app.pipeline.running), "the leader left")
        gate.set()
        replies = await read_all(followers)
    await until_idle(proxy)

    assert all(each.body.endswith(b"[DONE]\n\n") for each in replies)
    assert (upstream.requests_seen, upstream.early_closes, len(store_of(proxy))) == (1, [], 1)


@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
async def test_provider_is_let_go_of_when_the_last_who_reads_has_left(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    upstream.reply("Paris", faults=Faults(stall_after_events=1 if "streamed" in name else 0))
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, CALLS[name]))[0]
        await upstream.wait_for_request()
        followers = await crowd.ask(3, CALLS[name])
        await crowd.follow(3)
        for client in (leader, *followers[:2]):
            client.reset()
        await until(lambda: sum(one.followers for one in recordings(proxy)) == 1, "one left who reads")
        closed_early = list(upstream.early_closes)
        followers[2].reset()
        await upstream.wait_for_disconnect()
    await until_idle(proxy)

    assert closed_early == []
    assert (upstream.requests_seen, len(store_of(proxy))) == (1, 0)


async def test_those_who_join_and_leave_while_it_comes_leave_nothing_behind(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, STREAM)
        await until_coming(proxy)
        for _ in range(10):
            for client in await crowd.ask(5, STREAM):
                client.reset()
        await crowd.follow(0)
        gate.set()
        reply = await crowd.clients[0].read_response()
    await until_idle(proxy)

    assert (said(reply)[1], upstream.requests_seen) == ("miss", 1)


# -- slow ones -------------------------------------------------------------------------------------------------------

LARGE = ["x" * 50_000] * 120
"""6 MB: more than the sockets and the 1 MB that a leader may be behind hold."""
ROOM = {"maxEntry": "32MB", "maxBytes": "64MB"}


async def test_slow_follower_holds_nobody_and_misses_nothing(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(LARGE, gate=gate)
    await begin(proxy, upstream, **ROOM)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, STREAM))[0]
        await until_coming(proxy)
        slow = (await crowd.ask(1, STREAM))[0]
        await crowd.follow(1)
        gate.set()
        whole = await leader.read_response()
        await until(lambda: len(store_of(proxy)) == 1, "the answer is kept")
        late = await slow.read_response()

    assert len(whole.body) > 6_000_000
    assert late.body == whole.body


async def test_leader_that_reads_nothing_and_leaves_fails_nobody_who_came_meanwhile(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(LARGE)
    await begin(proxy, upstream, **ROOM)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, STREAM))[0]
        await until_coming(proxy, 1_000_000)
        follower = (await crowd.ask(1, STREAM))[0]
        await crowd.follow(1)
        leader.reset()
        reply = await follower.read_response()
    await until_idle(proxy)

    assert (len(reply.body) > 6_000_000, upstream.requests_seen) == (True, 1)


async def test_leader_that_reads_nothing_is_dropped_once_it_is_too_far_behind(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.journey.shared_sink.LAG_WAIT_S", 0.1)
    upstream.stream(LARGE)
    await begin(proxy, upstream, **ROOM)

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, STREAM))[0]
        await until_coming(proxy, 1_000_000)
        follower = (await crowd.ask(1, STREAM))[0]
        reply = await follower.read_response()
        with pytest.raises(CutOff):
            await leader.read_response()
    await until_idle(proxy)

    assert (len(reply.body) > 6_000_000, upstream.requests_seen) == (True, 1)


async def test_leader_that_reads_nothing_is_dropped_before_the_write_timeout_ends_it_for_all(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(LARGE)
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True, **ROOM},
        server={"writeTimeout": "500ms"},
    )

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, STREAM)
        await until_coming(proxy, 1_000_000)
        follower = (await crowd.ask(1, STREAM))[0]
        reply = await follower.read_response()
    await until_idle(proxy)

    assert (len(reply.body) > 6_000_000, upstream.requests_seen) == (True, 1)


# -- too large to hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "openai, streamed"])
async def test_answer_too_large_to_be_held_is_shared_by_those_who_were_there(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["x" * 1000] * 40, gate=gate)
    if name == "openai":
        upstream.reply("x" * 40_000, faults=Faults(delay_s=0.2))
    await begin(proxy, upstream, maxEntry=5000)

    async with Crowd(proxy) as crowd:
        await crowd.ask(50, CALLS[name])
        await crowd.follow(49)
        gate.set()
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert {each.body.count(b"x" * 1000) for each in replies} == {40}
    assert len({each.body for each in replies}) == 1
    assert upstream.requests_seen == 1


async def test_who_wants_a_large_answer_in_the_other_manner_shares_a_call_with_the_like(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["x" * 1000] * 40, gate=gate)
    await begin(proxy, upstream, maxEntry=5000)

    async with Crowd(proxy) as crowd:
        streamed = await crowd.ask(1, STREAM)
        await until_coming(proxy)
        whole = await crowd.ask(20)
        await crowd.follow(20)
        gate.set()
        replies = await read_all(whole)
        await read_all(streamed)
    await until_idle(proxy)

    assert {orjson.loads(each.body)["choices"][0]["message"]["content"] for each in replies} == {"x" * 40_000}
    assert upstream.requests_seen == 2


async def test_follower_too_slow_for_a_large_answer_is_let_go_of_and_told(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_module, "LAG_WAIT_S", 0.1)
    gate = asyncio.Event()
    upstream.stream(LARGE, gate=gate)
    await begin(proxy, upstream, maxEntry="100KB")

    async with Crowd(proxy) as crowd:
        leader = (await crowd.ask(1, STREAM))[0]
        await until_coming(proxy)
        slow = (await crowd.ask(1, STREAM))[0]
        await crowd.follow(1)
        gate.set()
        whole = await leader.read_response()
        with pytest.raises(CutOff) as cut:
            await slow.read_response()
    await until_idle(proxy)

    assert len(whole.body) > 6_000_000
    assert b"did not keep up" in cut.value.partial


# -- whole and streamed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "ollama", "responses"])
async def test_who_wants_it_whole_shares_the_call_of_a_stream(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream, WHOLE[name].provider)

    async with Crowd(proxy) as crowd:
        await crowd.ask(2, STREAMED[name], **(WITH_USAGE if name == "openai" else {}))
        await until_coming(proxy)
        await crowd.ask(3, WHOLE[name])
        await crowd.follow(4)
        gate.set()
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert [said(each)[1] for each in replies] == ["miss", *["coalesced"] * 4]
    assert all(b"Paris" in each.body for each in replies[2:])
    assert upstream.requests_seen == 1


async def test_who_cannot_have_it_whole_from_a_stream_asks_once_for_all_the_like(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, STREAM)  # which tells no usage
        await until_coming(proxy)
        whole = await crowd.ask(5)
        await crowd.follow(5)
        gate.set()
        replies = await read_all(whole)

    assert {each.status for each in replies} == {200}
    assert upstream.requests_seen == 2


# -- nobody is forgotten ---------------------------------------------------------------------------------------------


async def test_nothing_is_shared_where_that_is_switched_off(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(delay_s=0.1))
    await begin(proxy, upstream, coalesce=False)

    async with Crowd(proxy) as crowd:
        await crowd.ask(5)
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert [said(each)[1] for each in replies] == ["miss"] * 5
    assert upstream.requests_seen == 5


async def test_recordings_are_freed_without_the_garbage_collector(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    seen: list[weakref.ref[Recording]] = []
    await begin(proxy, upstream)
    flights, begin_call = desk_of(proxy).flights, desk_of(proxy).flights.begin

    def remember(recording: Recording) -> None:
        seen.append(weakref.ref(recording))
        begin_call(recording)

    flights.begin = remember  # type: ignore[method-assign]  # so that it is known which there were
    gc.collect()
    gc.disable()
    try:
        async with Crowd(proxy) as crowd:
            await crowd.ask(5, STREAM)
            await crowd.ask(5)
            await read_all(crowd.clients)
        await until_idle(proxy)
        await ask(proxy, temperature=0.5)
        await until_idle(proxy)
        assert len(seen) >= 2
        await until(lambda: all(one() is None for one in seen), "all recordings are freed")
    finally:
        gc.enable()


async def test_no_task_is_left(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    await ask(proxy)
    before = {task.get_name() for task in asyncio.all_tasks()}

    async with Crowd(proxy) as crowd:
        await crowd.ask(20, STREAM)
        await read_all(crowd.clients[:10])
        for client in crowd.clients[10:]:
            client.reset()
    await until_idle(proxy)
    names = ("flight", "flight left alone", "refresh", "client that is behind")
    await until(lambda: not any(task.get_name() in names for task in asyncio.all_tasks()), "no task of ours")

    assert not any(name in before for name in names)


async def test_those_who_are_served_are_counted(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(delay_s=0.1))
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(10)
        await read_all(crowd.clients)
    await until_idle(proxy)
    described = plugin_of(proxy)._ledger.describe()

    assert (described["misses"], described["coalesced"], described["hits"]) == (1, 9, 0)
    assert described["saved"]["tokens"] == 9 * (9 + 1)
