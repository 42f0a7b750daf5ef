"""A failure of one provider is made good by a key, a provider or a model that can answer."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, Fault, FaultProxy, Faults, ProxyHarness, RawClient
from proxy.upstream.connection import Connection
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, kinds, metric, pair

KEYS = ["sk-one-aaaaaaaaaa1111", "sk-two-bbbbbbbbbb2222", "sk-three-cccccccc3333"]
TOO_LONG = {"error": {"code": "context_length_exceeded", "message": "too long", "type": "invalid_request_error"}}
REFUSED = {"error": {"code": "content_filter", "message": "flagged", "type": "invalid_request_error"}}


def keys_used(provider: FakeProvider) -> list[str]:
    return [(request.header("authorization") or "").removeprefix("Bearer ") for request in provider.requests]


def models_asked(provider: FakeProvider) -> list[str]:
    return [request.document["model"] for request in provider.requests]


# -- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault.refuse(), "connect"), (Fault.reset(), "reset"), (Fault.truncate(30), "reset"), (Fault.stall(), "timeout")],
)
async def test_fault_of_the_network_is_made_good_and_named(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, fault: Fault, kind: str
) -> None:
    async with FaultProxy(upstream.url) as way:
        way.set(fault)
        bad = way.provider(timeouts={"firstByte": "150ms"})
        await proxy.start(providers={"first": bad, "second": spare.provider(priority=1)})

        reply = await proxy.chat("Hello")

    assert (reply.status, reply.text) == (200, "from the spare")
    assert reply.header("x-failed-attempts") == f"first;kind={kind}"
    assert (reply.header("x-provider"), reply.header("x-attempts")) == ("second", "2")
    await given_back(proxy)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, None, "rate-limit"),
        (401, None, "auth"),
        (403, None, "auth"),
        (500, None, "server-error"),
        (503, None, "overloaded"),
        (529, None, "overloaded"),
    ],
)
async def test_providers_refusal_is_made_good_and_named(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int, body: Any, kind: str
) -> None:
    upstream.reply_status(status, body)
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.text, reply.header("x-provider")) == ("from the spare", "second")
    assert reply.header("x-failed-attempts") == f"first;kind={kind};status={status}"


async def test_busy_provider_is_passed_by_where_another_has_room(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers=pair(upstream, spare, maxConcurrency=1))

    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    reply = await proxy.chat("Hello")
    gate.set()
    await running

    assert (reply.text, reply.header("x-attempts")) == ("from the spare", "1")
    await given_back(proxy)


async def test_refusal_by_a_providers_own_limit_costs_no_retry_and_no_flood_of_events(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1, queueSize=0)})

    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    reply = await proxy.chat("Hello")
    budget = await metric(proxy, "retry_budget")
    gate.set()
    await running

    assert reply.status == 503
    assert budget == 200
    assert kinds(proxy) == ["overloaded"]  # once in ten seconds, however many there are
    await given_back(proxy)


async def test_connections_that_are_lost_as_soon_as_they_are_made_are_not_made_for_ever(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers=pair(upstream, spare))
    pool = proxy.app.pipeline.generation.endpoints["first"].pool
    assert pool is not None
    connect = pool.connect

    async def connect_and_lose() -> Connection:
        connection = await connect()
        connection.abort()
        await asyncio.sleep(0.01)  # the loop tells of the end
        return connection

    pool.connect = connect_and_lose  # type: ignore[method-assign]  # a matter of an instant with real sockets

    reply = await asyncio.wait_for(proxy.chat("Hello"), 2)

    assert (reply.text, reply.header("x-failed-attempts")) == ("from the spare", "first;kind=reset")
    assert upstream.connections_made == 1


# -- keys ------------------------------------------------------------------------------------------------------------


async def test_third_key_answers_after_a_limited_and_a_refused_one_and_both_rest(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(429)
    upstream.once.reply_status(401)
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS)})

    reply = await proxy.chat("Hello")
    more = [await proxy.chat("Hello") for _ in range(3)]

    assert (reply.status, reply.text, reply.header("x-attempts")) == (200, "Paris", "3")
    assert reply.header("x-failed-attempts") == "vendor;kind=rate-limit;status=429, vendor;kind=auth;status=401"
    assert keys_used(upstream) == [*KEYS, *[KEYS[2]] * 3]
    assert {one.header("x-attempts") for one in more} == {"1"}
    assert kinds(proxy) == ["retry", "retry"]


async def test_keys_are_used_in_turn(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS)})

    for _ in range(6):
        await proxy.chat("Hello")

    assert keys_used(upstream) == KEYS * 2


async def test_key_whose_quota_is_used_up_rests_before_the_provider_refuses(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply("last", headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"})
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS[:2])})

    for _ in range(4):
        await proxy.chat("Hello")

    assert keys_used(upstream) == [KEYS[0], *[KEYS[1]] * 3]


async def test_quota_that_a_refusal_tells_is_read_too(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    upstream.once.reply_status(429, headers=used_up)
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=KEYS[:2])})

    await proxy.chat("Hello")

    lane = next(iter(proxy.app.pipeline.generation.health["vendor"].lanes()))
    assert lane.keys is not None
    assert lane.keys.describe(0.0)[0]["remainingRequests"] == 0


# -- models ----------------------------------------------------------------------------------------------------------


async def test_fallback_model_is_asked_by_its_own_name_after_all_who_have_the_model(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(
        providers={"a": upstream.provider(models=["big"]), "b": spare.provider(models=["small"])},
        failover={"models": {"big": {"fallbacks": ["nobody-has-it", "b/small"]}}},
    )

    reply = await proxy.chat("Hello", model="big")

    assert (reply.text, reply.header("x-provider")) == ("from the spare", "b")
    assert (models_asked(upstream), models_asked(spare)) == (["big"], ["small"])


@pytest.mark.parametrize(
    ("own", "status", "attempts"),
    [
        ({"enabled": False}, 500, "1"),
        ({"on": ["rate-limit"]}, 500, "1"),
        ({"attempts": 1}, 500, "1"),
        ({"on": ["server-error"]}, 200, "2"),
        ({}, 200, "2"),
    ],
)
async def test_alias_has_a_policy_of_its_own(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, own: Any, status: int, attempts: str
) -> None:
    upstream.reply_status(500)
    await proxy.start(
        providers={"a": upstream.provider(), "b": spare.provider()},
        models={"strict": ["a/m", "b/m"]},
        balancer={"strategy": "priority"},
        failover={"models": {"strict": own}},
    )

    reply = await proxy.chat("Hello", model="strict")

    assert (reply.status, reply.header("x-attempts")) == (status, attempts)


async def test_model_is_asked_elsewhere_though_failover_is_off_for_others(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(
        providers=pair(upstream, spare),
        enable_fallback_providers=False,
        failover={"models": {"lucky": {"enabled": True}}},
    )

    replies = [await proxy.chat("Hello", model=name) for name in ("lucky", "other")]

    assert [reply.status for reply in replies] == [200, 500]


async def test_prompt_too_long_for_a_model_is_sent_to_models_of_other_names_only(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.once.reply_status(400, TOO_LONG)
    upstream.reply("from the long one")
    await proxy.start(
        providers={"a": upstream.provider(), "b": spare.provider()}, models={"m": ["a/short", "b/short", "a/long"]}
    )

    reply = await proxy.chat("Hello", model="m")

    assert (reply.text, reply.header("x-attempts")) == ("from the long one", "2")
    assert reply.header("x-failed-attempts") == "a;kind=context-length;status=400"
    assert spare.requests_seen == 0


@pytest.mark.parametrize(("on", "status"), [(["content-refused"], 200), (["server-error"], 400)])
async def test_refused_content_is_taken_elsewhere_only_if_the_settings_name_it(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, on: list[str], status: int
) -> None:
    upstream.reply_status(400, REFUSED)
    await proxy.start(providers=pair(upstream, spare), failover={"on": on})

    reply = await proxy.chat("Hello")

    assert (reply.status, spare.requests_seen) == (status, int(status == 200))


# -- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [Faults(cut_after_events=1), Faults(stall_after_events=1), Faults(without_end=True)])
async def test_stream_that_fails_before_its_first_output_is_made_good_unseen(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, faults: Faults
) -> None:
    upstream.stream([], faults=faults)
    spare.stream(["from", " the spare"])
    await proxy.start(providers=pair(upstream, spare, timeouts={"idle": "150ms"}))

    reply = await proxy.chat("Hello", stream=True)

    assert (reply.status, reply.text, reply.header("x-provider")) == (200, "from the spare", "second")
    assert b"error" not in reply.response.body
    await given_back(proxy)


async def test_stream_that_fails_after_its_first_output_ends_with_an_error_and_is_asked_nowhere_else(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.stream(["one", "two"], faults=Faults(cut_after_events=2))
    await proxy.start(providers=pair(upstream, spare))

    with pytest.raises(CutOff) as caught:
        await proxy.chat("Hello", stream=True)

    assert caught.value.partial.count(b"data: ") == 3  # the role, one text, the error
    assert b'"code":"upstream_cut"' in caught.value.partial
    assert spare.requests_seen == 0
    attempts = 'upstream_requests_total{model="fake-model",outcome="upstream_cut",provider="first"}'
    assert await metric(proxy, attempts) == 1
    await given_back(proxy)


async def test_tokens_of_an_attempt_that_failed_are_not_counted_as_the_next_ones(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.stream([], faults=Faults(cut_after_events=1))  # message_start counts the input already
    spare.reply_status(400)
    await proxy.start(
        providers={"first": upstream.provider("anthropic"), "second": spare.provider("anthropic", priority=1)}
    )
    body = {"model": "m", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}

    reply = await proxy.request("POST", "/v1/messages", body)

    assert (reply.status, reply.header("x-provider")) == (400, "second")
    assert await metric(proxy, 'tokens_total{model="m",provider="second",type="input"}') == 0


# -- twice -----------------------------------------------------------------------------------------------------------

DOUBLES = 'possible_double_executions_total{provider="first"}'


async def test_request_that_may_run_twice_is_counted(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(providers=pair(upstream, spare))

    await proxy.chat("Hello")

    assert await metric(proxy, DOUBLES) == 1
    assert "both may bill it" in proxy.events.recent()[0].message


async def test_request_that_cannot_have_run_is_not_counted(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers=pair(upstream, spare))

    await proxy.chat("Hello")

    assert await metric(proxy, DOUBLES) == 0


@pytest.mark.parametrize(("failing", "status"), [(500, 500), (503, 200), (429, 200)])
async def test_nobody_is_asked_after_an_execution_where_that_is_forbidden(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, failing: int, status: int
) -> None:
    upstream.reply_status(failing)
    await proxy.start(providers=pair(upstream, spare), failover={"afterExecution": False})

    reply = await proxy.chat("Hello")

    assert (reply.status, spare.requests_seen) == (status, int(status == 200))
    assert await metric(proxy, DOUBLES) == 0


@pytest.mark.parametrize(("headers", "attempts"), [({}, "1"), ({"Idempotency-Key": "k1"}, "2")])
async def test_same_provider_is_asked_again_after_an_execution_only_with_an_idempotency_key(
    proxy: ProxyHarness, upstream: FakeProvider, headers: dict[str, str], attempts: str
) -> None:
    upstream.once.reply_status(500)
    await proxy.start(providers={"first": upstream.provider()}, failover={"backoff": "10ms"})

    reply = await proxy.chat("Hello", headers=headers)

    assert (reply.status, reply.header("x-attempts")) == (200 if headers else 500, attempts)


# -- the provider's word -----------------------------------------------------------------------------------------------


async def test_provider_is_asked_again_no_earlier_than_it_said(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.once.reply_status(503, headers={"retry-after-ms": "200"})
    await proxy.start(providers={"first": upstream.provider()}, failover={"backoff": "1ms"})

    reply = await proxy.chat("Hello")

    first, second = upstream.requests
    assert reply.status == 200
    assert second.at_s - first.at_s >= 0.2


async def test_longer_wait_than_allowed_is_not_begun(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(503, headers={"Retry-After": "3"})
    await proxy.start(providers={"first": upstream.provider()}, failover={"maxWait": "1s"})

    reply = await asyncio.wait_for(proxy.chat("Hello"), 1)

    assert (reply.status, reply.header("retry-after"), upstream.requests_seen) == (503, "3", 1)


async def test_one_key_s_wait_is_not_held_against_another(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.once.reply_status(429, headers={"Retry-After": "60"})
    await proxy.start(providers={"first": upstream.provider(apiKey=None, apiKeys=KEYS[:2])})

    reply = await asyncio.wait_for(proxy.chat("Hello"), 1)

    assert (reply.status, keys_used(upstream)) == (200, KEYS[:2])


@pytest.mark.parametrize(
    ("failing", "word", "attempts"), [(503, "false", 1), (500, "true", 2), (409, "true", 2), (500, "no idea", 1)]
)
async def test_providers_word_on_retries_goes_before_its_status(
    proxy: ProxyHarness, upstream: FakeProvider, failing: int, word: str, attempts: int
) -> None:
    upstream.once.reply_status(failing, headers={"x-should-retry": word})
    await proxy.start(providers={"first": upstream.provider()}, failover={"backoff": "1ms"})

    reply = await proxy.chat("Hello")

    assert (reply.status, upstream.requests_seen) == (200 if attempts == 2 else failing, attempts)


async def test_wait_before_a_provider_is_asked_again_holds_no_place_of_the_process(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503, headers={"retry-after-ms": "600"})
    spare.reply("quick")
    entries = {"first": upstream.provider(models=["bad"]), "second": spare.provider(models=["good"])}
    await proxy.start(providers=entries, max_concurrency=1)

    waiting = asyncio.create_task(proxy.chat("Hello", model="bad"))
    await until(lambda: "retry" in kinds(proxy), "a retry that was announced")
    reply = await asyncio.wait_for(proxy.chat("Hello", model="good"), 0.4)
    upstream.reply("back")

    assert (reply.text, (await waiting).text) == ("quick", "back")
    await given_back(proxy)


# -- the request itself ------------------------------------------------------------------------------------------------


async def test_body_that_goes_elsewhere_differs_in_the_model_only(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(providers={"a": upstream.provider(), "b": spare.provider()}, models={"x": ["a/one", "b/two"]})
    body = b'{ "messages":[{"role":"user","content":"x"}], "seed": 1.50, "model" : "x" }'

    async with RawClient(proxy.url) as client:
        await client.request("POST", "/v1/chat/completions", body)

    assert bytes(upstream.last_request.body) == body.replace(b'"x" }', b'"one" }')
    assert bytes(spare.last_request.body) == body.replace(b'"x" }', b'"two" }')
    assert orjson.loads(spare.last_request.body)["model"] == "two"
