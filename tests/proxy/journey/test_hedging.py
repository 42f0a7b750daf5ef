"""A late answer is asked for a second time elsewhere: who gets the client, what it costs, what is left behind."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from proxy.journey.call import Call
from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, held, kinds, metric, pair
from tests.proxy.journey.hedged import HEDGING, ask, outcome, start

LATE = Faults(delay_s=0.6)
NEVER = Faults(never_answer=True)
BODY = b'{"model":"fake-model","stream":%b,"messages":[{"role":"user","content":"Hi"}]}'


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def is_streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# -- when ------------------------------------------------------------------------------------------------------------


async def test_quick_answer_is_asked_for_once(proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider) -> None:
    await start(proxy, upstream, spare)

    replies = [await proxy.chat("Hello") for _ in range(5)]

    assert {reply.header("x-attempts") for reply in replies} == {"1"}
    assert spare.requests_seen == 0


async def test_late_answer_is_asked_for_elsewhere_after_the_usual_time(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    seen = await start(proxy, upstream, spare)
    upstream.reply("late", faults=LATE)

    reply = await ask(proxy, is_streaming=is_streaming)

    waited_s = spare.last_request.at_s - upstream.last_request.at_s
    assert (reply.status, reply.text) == (200, "from the spare")
    assert (reply.header("x-provider"), reply.header("x-attempts")) == ("b", "2")
    assert reply.header("x-failed-attempts") is None
    assert 0.03 < waited_s < 0.4
    assert await metric(proxy, outcome("b", "won")) == 1
    await given_back(proxy)
    assert seen.exchanges[0].provider == "b"


async def test_nothing_is_asked_twice_before_enough_calls_were_seen(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare, seen=2, hedging={**HEDGING, "minRequests": 3})
    upstream.reply("late", faults=Faults(delay_s=0.15))

    reply = await proxy.chat("Hello")

    assert (reply.text, spare.requests_seen) == ("late", 0)


async def test_streams_are_late_by_the_times_of_streams_and_whole_replies_by_theirs(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare, seen=0)
    for _ in range(20):
        await proxy.chat("quick", stream=True)
    upstream.reply("whole", faults=Faults(delay_s=0.2))

    replies = [await proxy.chat("Hello") for _ in range(2)]

    assert [reply.header("x-attempts") for reply in replies] == ["1", "1"]
    assert spare.requests_seen == 0


async def test_who_loses_by_being_late_is_known_to_be_so(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=NEVER)
    spare.reply("soon", faults=Faults(delay_s=0.1))
    lane = proxy.app.pipeline.generation.health["a"].lane("fake-model")

    for _ in range(3):
        await ask(proxy, is_streaming=is_streaming)

    await given_back(proxy)
    usual_s = lane.first_bytes.quantile(0.5, time.monotonic(), is_streaming=is_streaming)
    average_s = (lane.streams if is_streaming else lane.wholes).value_s(time.monotonic())
    assert (usual_s or 0.0) > 0.1
    assert (average_s or 0.0) > 0.1


async def test_stream_whose_head_has_come_without_output_is_late(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.stream(["", "late"], delay_s=0.4)

    reply = await proxy.chat("Hello", stream=True)

    assert (reply.text, reply.header("x-provider")) == ("from the spare", "b")


async def test_stream_with_output_is_not_late(proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider) -> None:
    await start(proxy, upstream, spare)
    upstream.stream(["soon", ", late"], delay_s=0.2)

    reply = await proxy.chat("Hello", stream=True)

    assert (reply.text, spare.requests_seen) == ("soon, late", 0)


async def test_time_to_first_byte_of_a_stream_is_that_of_its_first_output(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"one": upstream.provider()})
    upstream.stream(["", "late"], delay_s=0.2)

    await proxy.chat("Hello", stream=True)

    lane = proxy.app.pipeline.generation.health["one"].lane("fake-model")
    assert (lane.streams.value_s(time.monotonic()) or 0.0) > 0.15


async def test_nobody_is_asked_twice_for_a_client_that_does_not_wait_so_long(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.2))

    reply = await proxy.chat("Hello", headers={"x-stainless-read-timeout": "0.02"})

    assert (reply.text, spare.requests_seen) == ("late", 0)


async def test_second_attempt_never_goes_to_the_same_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare, models={"m": ["a/one", "a/two", "b/one"]}, seen=0)
    await proxy.chat("quick", model="m")
    upstream.reply("late", faults=LATE)

    reply = await proxy.chat("Hello", model="m")

    assert reply.header("x-provider") == "b"
    assert [one.document["model"] for one in upstream.requests] == ["one", "one"]


async def test_share_of_second_attempts_stays_within_its_budget(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare, hedging={**HEDGING, "budgetPercent": 10, "minDelay": "5ms"})
    upstream.reply("late", faults=Faults(delay_s=0.03))
    asked = 200

    for _ in range(asked // 20):
        await asyncio.gather(*[proxy.chat("Hello") for _ in range(20)])

    twice = spare.requests_seen
    print(f"{twice} second attempts of {asked} requests, 10 % and 5 saved up allowed")
    assert 5 <= twice <= 5 + asked * 0.1
    await given_back(proxy)


async def test_second_attempt_that_finds_no_room_costs_no_budget(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    entries = {"a": upstream.provider(), "b": spare.provider(priority=1, maxConcurrency=1)}
    await start(proxy, upstream, spare, providers=entries)
    spare.stream(["slow"], gate=gate, gate_after=0)
    blocking = asyncio.create_task(proxy.chat("Hello", model="b/any", stream=True))
    await spare.wait_for_request()
    upstream.reply("late", faults=Faults(delay_s=0.1))
    hedges = proxy.app.pipeline._kit.hedges

    reply = await proxy.chat("Hello")
    gate.set()
    await blocking

    assert (reply.text, hedges.level) == ("late", hedges.capacity)
    await given_back(proxy)


# -- who wins --------------------------------------------------------------------------------------------------------


async def test_first_may_still_win_and_is_the_one_who_is_noted(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    seen = await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.15))
    spare.reply("later", faults=LATE)

    reply = await ask(proxy, is_streaming=is_streaming)

    await given_back(proxy)
    exchange = seen.exchanges[0]
    assert (reply.text, reply.header("x-provider"), reply.header("x-attempts")) == ("late", "a", "2")
    assert exchange.attempt is exchange.attempts[0]
    await spare.wait_for_disconnect()
    assert await metric(proxy, outcome("b", "lost")) == 1
    await given_back(proxy)


async def test_loser_is_dropped_at_once_and_stands_for_nothing(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    seen = await start(proxy, upstream, spare)
    upstream.reply("late", faults=NEVER)

    before_s = time.monotonic()
    await ask(proxy, is_streaming=is_streaming)
    left_s = await upstream.wait_for_disconnect()

    await given_back(proxy)
    exchange = seen.exchanges[0]
    answered_s = spare.last_request.at_s
    print(f"the loser's connection closed {(left_s - answered_s) * 1000:.1f} ms after the winner was asked")
    assert left_s - answered_s < 0.25
    assert left_s - before_s < 1
    assert exchange.attempt is exchange.attempts[1]
    assert [one.error for one in exchange.attempts] == [None, None]
    assert exchange.usage is not None
    for name, tokens in (("a", 9.0), ("b", 9.0)):  # the quick one before was of a
        assert await metric(proxy, f'tokens_total{{model="fake-model",provider="{name}",type="input"}}') == tokens
    await given_back(proxy)


async def test_winner_of_a_translated_whole_reply_is_who_ends_first(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    seen = await start(proxy, upstream, spare, seen=0)
    body = {"prompt": "Hello", "model": "fake-model"}
    await proxy.request("POST", "/", body)
    upstream.reply("late", faults=Faults(delay_s=0.12))
    spare.reply("never whole", faults=Faults(split_every=40, drip_s=0.2))

    reply = await proxy.request("POST", "/", body)

    await given_back(proxy)
    exchange = seen.exchanges[1]
    assert (reply.json()["response"], reply.header("x-provider")) == ("late", "a")  # type: ignore[index]
    assert (exchange.provider, exchange.attempt) == ("a", exchange.attempts[0])
    await given_back(proxy)


# -- failures --------------------------------------------------------------------------------------------------------


async def test_first_fails_while_the_second_runs(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply_status(500, faults=Faults(delay_s=0.1))
    spare.reply("from the spare", faults=Faults(delay_s=0.3))

    reply = await ask(proxy, is_streaming=is_streaming)

    assert (reply.status, reply.text, reply.header("x-provider")) == (200, "from the spare", "b")
    assert reply.header("x-failed-attempts") == "a;kind=server-error;status=500"
    await given_back(proxy)


async def test_second_fails_while_the_first_runs(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.3))
    spare.reply_status(500)

    reply = await ask(proxy, is_streaming=is_streaming)

    assert (reply.status, reply.text, reply.header("x-provider")) == (200, "late", "a")
    assert reply.header("x-failed-attempts") == "b;kind=server-error;status=500"
    assert await metric(proxy, outcome("b", "failed")) == 1
    await given_back(proxy)


async def test_both_fail_and_the_third_answers(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    async with FakeProvider() as third:
        third.reply("from the third")
        await start(proxy, upstream, spare, third)
        upstream.reply_status(500, faults=Faults(delay_s=0.2))
        spare.reply_status(503)

        reply = await ask(proxy, is_streaming=is_streaming)

    assert (reply.status, reply.text, reply.header("x-attempts")) == (200, "from the third", "3")
    assert reply.header("x-failed-attempts") == "b;kind=overloaded;status=503, a;kind=server-error;status=500" or (
        reply.header("x-failed-attempts") == "a;kind=server-error;status=500, b;kind=overloaded;status=503"
    )


async def test_both_fail_and_the_last_word_lists_both(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare, failover={"attempts": 2})
    upstream.reply_status(500, faults=Faults(delay_s=0.2))
    spare.reply_status(503)

    reply = await proxy.chat("Hello")

    assert reply.status == 500
    assert "a/fake-model: answered with status 500" in reply.response.text
    assert "b/fake-model: answered with status 503" in reply.response.text
    await given_back(proxy)


async def test_clients_own_mistake_ends_the_race(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply_status(422, {"error": {"message": "too odd"}}, faults=Faults(delay_s=0.1))
    spare.reply("never", faults=NEVER)

    reply = await asyncio.wait_for(proxy.chat("Hello"), 2)

    assert (reply.status, reply.response.json()) == (422, {"error": {"message": "too odd"}})
    assert reply.header("x-provider") == "a"
    await given_back(proxy)


async def test_large_error_does_not_win(proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.2))
    spare.reply_status(500, b"x" * 100_000)

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.text) == (200, "late")
    assert kinds(proxy) == []
    await given_back(proxy)


@pytest.mark.parametrize(("broken", "status", "events"), [("b", 200, 1), ("a", 500, 2)])
async def test_defect_of_ours_in_the_second_attempt_harms_nobody_and_one_in_the_first_is_told(
    proxy: ProxyHarness,
    upstream: FakeProvider,
    spare: FakeProvider,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    status: int,
    events: int,
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.2))
    spare.reply("never", faults=NEVER)
    run = Call.run

    async def run_or_break(call: Call, *args: Any) -> None:
        if call._outgoing.provider.name == broken:
            await asyncio.sleep(0.1)
            raise RuntimeError("a defect")
        await run(call, *args)

    monkeypatch.setattr(Call, "run", run_or_break)

    reply = await asyncio.wait_for(proxy.chat("Hello"), 2)

    assert reply.status == status
    assert "a defect" not in reply.response.text
    assert len([kind for kind in kinds(proxy) if kind in ("task_failed", "internal_error")]) == events
    await given_back(proxy)


async def test_stream_of_the_winner_that_breaks_off_ends_honestly(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=NEVER)
    spare.stream(["one", "two"], faults=Faults(cut_after_events=2))

    with pytest.raises(CutOff) as caught:
        await proxy.chat("Hello", stream=True)

    assert b'"code":"upstream_cut"' in caught.value.partial
    await given_back(proxy)


# -- leaving ---------------------------------------------------------------------------------------------------------


async def test_client_that_leaves_while_two_run_ends_both(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_streaming: bool
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=NEVER)
    spare.reply("late", faults=NEVER)
    body = BODY % (b"true" if is_streaming else b"false")

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", "/v1/chat/completions", body, host="localhost"))
        await spare.wait_for_request()
        client.reset()
        left_s = time.monotonic()
        gone: Sequence[float] = [await one.wait_for_disconnect() - left_s for one in (upstream, spare)]

    print("closed after", ", ".join(f"{one * 1000:.1f} ms" for one in gone))
    assert max(gone) < 0.25
    await given_back(proxy)


async def test_request_that_is_ended_from_outside_while_two_run_ends_both(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=NEVER)
    spare.reply("late", faults=NEVER)

    asking = asyncio.create_task(proxy.chat("Hello"))
    await spare.wait_for_request()
    pipeline = proxy.app.pipeline
    (exchange,) = pipeline.running
    assert pipeline.cancel(exchange, "enough")
    reply = await asking

    assert "enough" in reply.response.text
    await given_back(proxy)


async def test_nothing_runs_beside_a_request_while_hedging_is_off(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare))
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    before = len(proxy.app.tasks)

    asking = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    await until(lambda: proxy.app.pipeline.in_flight == 1, "a request in work")
    during = len(proxy.app.tasks)
    gate.set()
    await asking

    assert during == before


async def test_loser_is_dropped_while_the_winner_still_streams(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    gate = asyncio.Event()
    upstream.reply("late", faults=NEVER)
    spare.stream(["one", "two"], gate=gate)

    asking = asyncio.create_task(proxy.chat("Hello", stream=True))
    await spare.wait_for_request()
    await upstream.wait_for_disconnect(0.25)
    assert set(held(proxy)) == {"process slots", "requests", "b slots", "b in flight", "b busy connections", "hedges"}
    gate.set()

    assert (await asking).text == "onetwo"
    await given_back(proxy)


async def test_attempt_that_is_dropped_before_its_first_step_gives_its_slot_back(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply("late", faults=Faults(delay_s=0.15))
    tasks = proxy.app.tasks
    spawn, spawned = tasks.spawn, 0

    def spawn_and_drop_the_second(coro: Any, *, name: str) -> asyncio.Task[Any]:
        nonlocal spawned
        task = spawn(coro, name=name)
        spawned += name == "hedged attempt"
        if spawned == 2:  # as the first does that begins to answer at this instant: uvloop reads before it runs tasks
            task.cancel()
        return task

    tasks.spawn = spawn_and_drop_the_second  # type: ignore[method-assign]  # nothing else hits that instant

    reply = await proxy.chat("Hello")

    assert (reply.text, spawned, spare.requests_seen) == ("late", 2, 0)
    await given_back(proxy)
