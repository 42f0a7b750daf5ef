"""Circuits and what is known of providers, as clients and operators see them."""

import asyncio
import re
import time
from typing import Any

import pytest

from proxy.testing import FakeProvider, Fault, FaultProxy, Faults, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, kinds, metric, pair

BREAKER = {"failures": 2, "cooldown": "150ms", "maxCooldown": "150ms", "slowStart": "0s"}
KEYS = ["sk-canary-aaaaaaaaaa1111", "sk-canary-bbbbbbbbbb2222"]


def breaker(proxy: ProxyHarness, name: str = "first") -> Any:
    """The one circuit that requests for the fake model can open."""
    health = proxy.app.pipeline.generation.health[name]
    return health.lane("fake-model").breaker


async def fail(proxy: ProxyHarness, upstream: FakeProvider, times: int = 2) -> None:
    upstream.reply_status(503)
    for _ in range(times):
        await proxy.chat("Hello")


async def test_failures_in_a_row_open_the_circuit_and_nobody_is_sent_there(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})

    await fail(proxy, upstream)
    more = [await proxy.chat("Hello") for _ in range(5)]

    assert {(one.text, one.header("x-attempts")) for one in more} == {("from the spare", "1")}
    assert upstream.requests_seen == 2
    assert kinds(proxy).count("circuit_open") == 1
    assert await metric(proxy, 'circuit_state{name="first/fake-model"}') == 1


async def test_provider_that_cannot_be_reached_is_left_out_with_all_its_models(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    async with FaultProxy(upstream.url) as way:
        way.set(Fault.refuse())
        entries = {"first": way.provider(), "second": spare.provider(priority=1)}
        await proxy.start(providers=entries, breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})

        for _ in range(2):
            await proxy.chat("Hello")
        reply = await proxy.chat("Hello", model="another")

    assert (reply.text, reply.header("x-attempts")) == ("from the spare", "1")


async def test_one_request_probes_and_the_circuit_closes_when_it_is_answered(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker=BREAKER)
    await fail(proxy, upstream)
    gate = asyncio.Event()
    upstream.stream(["back"], gate=gate, gate_after=0)
    await until(lambda: bool(breaker(proxy).admits(proxy.app.pipeline._clock())), "the end of the cooldown")

    probing = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request(3)
    others = [await proxy.chat("Hello") for _ in range(3)]
    meanwhile = await metric(proxy, 'circuit_state{name="first/fake-model"}')
    gate.set()
    probe = await probing

    assert {one.text for one in others} == {"from the spare"}
    assert (probe.text, upstream.requests_seen) == ("back", 3)
    assert breaker(proxy).state == "closed"
    assert (meanwhile, await metric(proxy, 'circuit_state{name="first/fake-model"}')) == (0.5, 0)
    assert kinds(proxy)[-1] == "circuit_closed"
    await given_back(proxy)


@pytest.mark.parametrize(("path", "body"), [("/", {"prompt": "Hello"}), ("/v1/chat/completions", {"messages": []})])
async def test_whole_reply_is_one_probe_also_where_it_is_translated(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, path: str, body: dict[str, Any]
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "probes": 2})
    await fail(proxy, upstream)
    upstream.reply("back")
    upstream.reply("back")
    await until(lambda: bool(breaker(proxy).admits(proxy.app.pipeline._clock())), "the end of the cooldown")

    reply = await proxy.request("POST", path, {"model": "fake-model", **body})
    after_one = breaker(proxy).state
    await proxy.request("POST", path, {"model": "fake-model", **body})

    assert (reply.status, after_one, breaker(proxy).state) == (200, "half_open", "closed")


async def test_probe_that_streams_closes_the_circuit_with_its_first_output(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker=BREAKER)
    await fail(proxy, upstream)
    gate = asyncio.Event()
    upstream.stream(["one", "two"], gate=gate)
    await until(lambda: bool(breaker(proxy).admits(proxy.app.pipeline._clock())), "the end of the cooldown")

    probing = asyncio.create_task(proxy.chat("Hello", stream=True))
    await until(lambda: breaker(proxy).state == "closed", "a closed circuit")
    gate.set()
    await probing

    assert breaker(proxy).state == "closed"
    await given_back(proxy)


async def test_probe_that_fails_opens_the_circuit_anew(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker=BREAKER)
    await fail(proxy, upstream)
    await until(lambda: bool(breaker(proxy).admits(proxy.app.pipeline._clock())), "the end of the cooldown")

    reply = await proxy.chat("Hello")

    assert (reply.text, reply.header("x-attempts")) == ("from the spare", "2")
    assert breaker(proxy).state == "open"
    assert kinds(proxy).count("circuit_open") == 2
    await given_back(proxy)


async def test_provider_that_is_back_gets_few_requests_at_first(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "slowStart": "1h"})
    await fail(proxy, upstream)
    upstream.reply("back")
    await until(lambda: bool(breaker(proxy).admits(proxy.app.pipeline._clock())), "the end of the cooldown")
    await proxy.chat("Hello")
    before = upstream.requests_seen

    for _ in range(200):
        await proxy.chat("Hello")

    share = (upstream.requests_seen - before) / 200
    print(f"{share:.1%} of the requests right after the circuit closed, 10 % meant")
    assert 0.03 < share < 0.2


async def test_stream_that_breaks_off_after_its_output_counts_against_the_model(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})
    upstream.stream(["one", "two"], faults=Faults(cut_after_events=2))

    for _ in range(2):
        with pytest.raises(ConnectionError):
            await proxy.chat("Hello", stream=True)
    await given_back(proxy)

    assert breaker(proxy).state == "open"
    assert (await proxy.chat("Hello")).text == "from the spare"


async def test_clients_own_mistakes_open_nothing(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(400)
    await proxy.start(providers={"first": upstream.provider()}, breaker=BREAKER)

    for _ in range(5):
        await proxy.chat("Hello")

    assert (breaker(proxy).state, upstream.requests_seen) == ("closed", 5)


# -- panic -----------------------------------------------------------------------------------------------------------


async def test_last_one_is_asked_though_it_is_left_out_and_that_is_said_once(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(
        providers={"first": upstream.provider()},
        breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"},
        failover={"attempts": 1},
    )
    await fail(proxy, upstream)

    replies = [await proxy.chat("Hello") for _ in range(5)]

    assert [one.status for one in replies] == [503] * 5
    assert upstream.requests_seen == 7
    assert kinds(proxy).count("routing_panic") == 1
    assert await metric(proxy, 'panics_total{model="fake-model"}') == 5


async def test_answer_in_a_panic_closes_the_circuit(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(
        providers={"first": upstream.provider()},
        breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"},
        failover={"attempts": 1},
    )
    await fail(proxy, upstream)
    upstream.reply("back")

    replies = [await proxy.chat("Hello") for _ in range(3)]

    assert [one.text for one in replies] == ["back"] * 3
    assert breaker(proxy).state == "closed"


# -- changes while running -------------------------------------------------------------------------------------------


async def test_change_of_settings_keeps_what_is_known(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})
    await fail(proxy, upstream)

    for patch in ({"breaker": {"failures": 7}}, {"failover": {"attempts": 2}}, {"providers": {"first": {"weight": 3}}}):
        assert (await proxy.request("PATCH", "/config", patch)).status == 200

    assert breaker(proxy).state == "open"
    assert breaker(proxy).settings.failures == 7
    assert (await proxy.chat("Hello")).header("x-provider") == "second"
    assert upstream.requests_seen == 2


async def test_circuit_closes_when_breakers_are_switched_off(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})
    await fail(proxy, upstream)
    upstream.reply("back")

    await proxy.request("PATCH", "/config", {"breaker": {"enabled": False}})

    assert (await proxy.chat("Hello")).text == "back"
    assert await metric(proxy, 'circuit_state{name="first/fake-model"}') == 0


async def test_circuit_of_a_provider_that_is_gone_does_not_show_as_open(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s"})
    await fail(proxy, upstream)

    await proxy.request("PATCH", "/config", {"providers": {"first": {"enabled": False}}})

    assert await metric(proxy, 'circuit_state{name="first/fake-model"}') == 0


async def test_key_that_stays_keeps_its_rest_and_one_that_comes_is_used(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(429, headers={"Retry-After": "60"})
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS)})
    await proxy.chat("Hello")  # the first key rests, the second answers
    upstream.requests.clear()

    new = "sk-canary-cccccccccc3333"
    patch = {"providers": {"vendor": {"apiKeys": [KEYS[0], new]}}}
    assert (await proxy.request("PATCH", "/config", patch)).status == 200
    for _ in range(3):
        await proxy.chat("Hello")

    assert {one.header("authorization") for one in upstream.requests} == {f"Bearer {new}"}


async def test_failover_is_switched_off_for_the_next_request(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(providers=pair(upstream, spare))
    before = await proxy.chat("Hello")

    await proxy.request("PATCH", "/config", {"failover": {"on": []}})
    after = await proxy.chat("Hello")

    assert (before.status, after.status) == (200, 500)


async def test_limit_changes_while_a_request_waits_for_it(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)})
    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    waiting = asyncio.create_task(proxy.chat("Hello", stream=True))
    slots = proxy.app.pipeline.generation.endpoints["first"].slots
    await until(lambda: slots.waiting == 1, "one in line")

    await proxy.request("PATCH", "/config", {"providers": {"first": {"maxConcurrency": 2}}})
    await upstream.wait_for_request(2)
    gate.set()

    assert [(await one).status for one in (running, waiting)] == [200, 200]
    await given_back(proxy)


async def test_call_that_began_before_a_change_does_not_undo_it(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    entry = upstream.provider(adaptiveConcurrency="aimd", queueSize=0)
    await proxy.start(providers={"first": entry})
    running = [asyncio.create_task(proxy.chat("Hello", stream=True)) for _ in range(15)]
    await upstream.wait_for_request(15)
    slots = proxy.app.pipeline.generation.endpoints["first"].slots

    await proxy.request("PATCH", "/config", {"providers": {"first": {"queueSize": 5}}})
    slots.limit = 19  # so that what the calls tell changes it
    gate.set()
    await asyncio.gather(*running)

    assert (slots.limit, slots._queue_size) == (20, 5)
    await given_back(proxy)


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_no_key_is_shown_anywhere(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.once.reply_status(429)
    upstream.once.reply_status(401, {"error": {"message": f"Incorrect API key provided: {KEYS[1]}"}})
    upstream.reply_status(500, {"error": {"message": f"cannot bill {KEYS[0]}"}})
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS)}, failover={"attempts": 3})

    replies = [await proxy.chat("Hello") for _ in range(3)]
    native = await proxy.request("POST", "/", {"prompt": "x", "model": "fake-model"})
    shown = [
        repr(proxy.events.recent()),
        *[repr(reply.response.headers) for reply in replies],
        *[reply.response.text for reply in replies if reply.status != 500],  # a vendor's own reply is not touched
        native.text,
        *[(await proxy.request("GET", path)).text for path in ("/metrics", "/providers/status", "/config", "/health")],
    ]

    assert not [text for text in shown if re.search(r"canary|[ab]{6}", text)]


async def leave_after(proxy: ProxyHarness, wait_s: float) -> None:
    """Ask, wait for nothing, and leave."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(wait_s):
            await proxy.chat("Hello", stream=True)
    await given_back(proxy)


async def test_clients_who_leave_after_long_silence_open_the_circuit(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(
        providers=pair(upstream, spare),
        breaker={**BREAKER, "cooldown": "30s", "maxCooldown": "30s", "silence": "100ms"},
    )
    upstream.reply(faults=Faults(never_answer=True))

    for _ in range(2):
        await leave_after(proxy, 0.3)
    reply = await proxy.chat("Hello")

    assert (reply.text, reply.header("x-attempts")) == ("from the spare", "1")
    assert "silence" in breaker(proxy).reason


async def test_clients_who_leave_soon_say_nothing_about_a_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "silence": "5s"})
    upstream.reply(faults=Faults(never_answer=True))

    for _ in range(4):
        await leave_after(proxy, 0.05)

    assert breaker(proxy).state == "closed"


async def test_clients_who_leave_a_provider_that_always_takes_so_long_say_nothing(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "silence": "100ms"})
    upstream.reply(faults=Faults(delay_s=0.3))
    await proxy.chat("Hello", stream=True)

    for _ in range(4):
        await leave_after(proxy, 0.2)

    assert breaker(proxy).state == "closed"


async def test_clients_who_leave_amid_output_say_nothing(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "silence": "400ms"})
    upstream.stream(["begun"], faults=Faults(stall_after_events=2))

    for _ in range(4):
        await leave_after(proxy, 0.5)

    assert breaker(proxy).state == "closed"


async def test_operator_who_ends_silent_requests_says_nothing_about_the_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare), breaker={**BREAKER, "silence": "50ms"})
    upstream.reply(faults=Faults(never_answer=True))
    pipeline = proxy.app.pipeline

    for _ in range(2):
        asking = asyncio.create_task(proxy.chat("Hello"))
        await until(lambda: [time.monotonic() - one.received_s > 0.2 for one in pipeline.running] == [True], "it waits")
        assert pipeline.cancel(next(iter(pipeline.running)), "enough of it")
        await asking

    assert upstream.requests_seen == 2
    assert breaker(proxy).state == "closed"
