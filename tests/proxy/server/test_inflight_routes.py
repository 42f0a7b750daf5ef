"""Requests in work are listed, and ended by an operator in every phase: the client is told, nothing is left behind."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness, RawClient, RawResponse, encode_request
from tests.e2e.rig import until
from tests.proxy.server.witness import outcomes

CALLER = "sk-canary-of-the-client-9f31"
WITNESS = ["tests.proxy.server.witness"]
CHAT: dict[str, Any] = {"model": "fake-model", "messages": [{"role": "user", "content": "Hi"}]}


async def inflight(proxy: ProxyHarness) -> Any:
    return (await proxy.request("GET", "/inflight")).json()


async def wait_for(proxy: ProxyHarness, *phases: str) -> list[Any]:
    """Wait until the requests in work, oldest first, are in these phases."""
    found: list[Any] = []

    async def is_so() -> bool:
        nonlocal found
        found = (await inflight(proxy))["requests"]
        return [one["phase"] for one in found] == list(phases)

    await until(is_so, f"requests in {phases}")
    return found


async def end(proxy: ProxyHarness, request_id: str) -> Any:
    response = await proxy.request("DELETE", f"/inflight/{request_id}", headers={"X-Author": "ann"})
    assert response.status == 200, response.text
    return response.json()


def ask(proxy: ProxyHarness, request_id: str, **fields: Any) -> "asyncio.Task[RawResponse]":
    headers = {"X-Request-Id": request_id, "Authorization": f"Bearer {CALLER}"}
    return asyncio.create_task(proxy.request("POST", "/v1/chat/completions", CHAT | fields, headers))


def assert_ended_by_operator(response: RawResponse) -> None:
    assert response.status == 503
    error = orjson.loads(response.body)["error"]
    assert (error["code"], error["message"]) == ("cancelled_by_operator", "this request was ended by an operator")


async def assert_nothing_is_left(proxy: ProxyHarness) -> None:
    pipeline = proxy.app.pipeline
    await until(lambda: pipeline.in_flight == 0, "no request in work")
    for slots in (pipeline.slots, *(one.slots for one in pipeline.generation.endpoints.values())):
        assert (slots.in_use, slots.waiting) == (0, 0)
    assert all(health.in_flight == 0 for health in pipeline.generation.health.values())


# -- listing ---------------------------------------------------------------------------------------------------------


async def test_request_in_work_is_shown_without_its_callers_key(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["first", "second"], gate=gate)
    await proxy.start(providers={"vendor": upstream.provider()})
    running = ask(proxy, "mine", stream=True)

    (shown,) = await wait_for(proxy, "streaming")
    gate.set()
    await running

    assert (shown["id"], shown["model"], shown["provider"], shown["operation"]) == (
        *("mine", "fake-model", "vendor", "openai.chat"),
    )
    assert (shown["streaming"], shown["attempts"], shown["lastFailure"]) == (True, 1, None)
    assert (shown["peer"], shown["caller"], shown["traceId"]) == ("127.0.0.1", "…9f31", "mine")
    assert shown["bytesOut"] > 0
    assert 0 < shown["ageMs"] < 10_000
    assert CALLER not in str(shown)


async def test_requests_are_listed_oldest_first_up_to_a_bound_with_their_number(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider()}, max_concurrency=3)
    running = [ask(proxy, f"r{number}") for number in range(205)]

    await until(lambda: proxy.app.pipeline.in_flight == 205, "all in work")
    shown = await inflight(proxy)
    ids = [one.id for one in proxy.app.pipeline.running]
    for one in ids:
        await end(proxy, one)
    await asyncio.gather(*running)

    assert (shown["total"], len(shown["requests"])) == (205, 200)
    assert [one["id"] for one in shown["requests"]] == ids[:200]
    ages = [one["ageMs"] for one in shown["requests"]]
    assert ages == sorted(ages, reverse=True)
    assert [one["phase"] for one in shown["requests"][:4]] == ["first_byte"] * 3 + ["queued"]
    await assert_nothing_is_left(proxy)


async def test_request_that_has_got_its_turn_is_shown_as_waiting_no_longer(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.once.stream(["slow"], gate=gate, gate_after=0)
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider(maxConcurrency=1)})
    first = ask(proxy, "first", stream=True)
    await upstream.wait_for_request()
    second = ask(proxy, "second")
    await wait_for(proxy, "first_byte", "waiting_for_provider")

    gate.set()
    await first
    await wait_for(proxy, "first_byte")

    await end(proxy, "second")
    assert_ended_by_operator(await second)


# -- ending ----------------------------------------------------------------------------------------------------------


async def test_request_that_waits_for_the_first_byte_is_ended_with_its_call(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=WITNESS)
    running = ask(proxy, "mine")
    await wait_for(proxy, "first_byte")

    answer = await end(proxy, "mine")
    await upstream.wait_for_disconnect()

    assert answer == {"id": "mine", "ended": 1, "endingAlready": 0}
    assert_ended_by_operator(await running)
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["mine 503 cancelled_by_operator"]
    (event,) = [event for event in proxy.events.recent() if event.kind == "exchange_cancelled"]
    assert (event.fields["request_id"], event.fields["author"]) == ("mine", "ann")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat", "/"])
async def test_stream_that_has_begun_ends_with_an_error_event_and_a_cut(
    proxy: ProxyHarness, upstream: FakeProvider, path: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["first", "second"], gate=gate)
    format_name: Any = {"/v1/messages": "anthropic", "/api/chat": "ollama"}.get(path, "openai")
    await proxy.start(providers={"vendor": upstream.provider(format_name)}, plugins=WITNESS)
    body = {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    if path == "/":
        del body["max_tokens"]
    running = asyncio.create_task(proxy.request("POST", path, body, {"X-Request-Id": "mine"}))
    await wait_for(proxy, "streaming")

    await end(proxy, "mine")
    await upstream.wait_for_disconnect()
    with pytest.raises(CutOff) as caught:
        await running

    assert b"first" in caught.value.partial
    assert b"cancelled_by_operator" in caught.value.partial
    assert b"this request was ended by an operator" in caught.value.partial
    assert b"[DONE]" not in caught.value.partial
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["mine 200 cancelled_by_operator"]


async def test_request_in_the_queue_of_the_process_is_ended_in_its_place(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"vendor": upstream.provider()}, max_concurrency=1, plugins=WITNESS)
    first = ask(proxy, "first", stream=True)
    await wait_for(proxy, "first_byte")
    second = ask(proxy, "second")
    await wait_for(proxy, "first_byte", "queued")

    await end(proxy, "second")
    assert_ended_by_operator(await second)
    gate.set()

    assert (await first).status == 200
    assert upstream.requests_seen == 1
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["second 503 cancelled_by_operator", "first 200 None"]


async def test_request_in_the_line_of_a_provider_is_ended_in_its_place(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"vendor": upstream.provider(maxConcurrency=1)}, plugins=WITNESS)
    first = ask(proxy, "first", stream=True)
    await wait_for(proxy, "first_byte")
    second = ask(proxy, "second")
    shown = await wait_for(proxy, "first_byte", "waiting_for_provider")

    await end(proxy, "second")
    assert_ended_by_operator(await second)
    gate.set()

    assert shown[1]["provider"] == "vendor"
    assert (await first).status == 200
    assert upstream.requests_seen == 1
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["second 503 cancelled_by_operator", "first 200 None"]


async def test_request_that_waits_to_ask_again_is_ended(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(503, headers={"Retry-After": "4"})
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=WITNESS)
    running = ask(proxy, "mine")
    (shown,) = await wait_for(proxy, "backoff")

    await end(proxy, "mine")

    assert shown["lastFailure"] == "vendor/fake-model: overloaded, status 503"
    assert_ended_by_operator(await running)
    assert upstream.requests_seen == 1
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["mine 503 cancelled_by_operator"]


async def test_upload_is_ended_on_both_sides(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider("http", apiKey=None, models=[])}, plugins=WITNESS)
    head = {"Content-Length": "1000000", "X-Request-Id": "mine"}

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", "/proxy/vendor/upload", None, head, host="localhost") + b"x" * 10)
        await upstream.wait_for_request(is_complete=False)
        await wait_for(proxy, "first_byte")
        await end(proxy, "mine")
        await upstream.wait_for_disconnect()
        response = await client.read_response()

    document: Any = response.json()
    assert (response.status, response.header("connection")) == (503, "close")
    assert document["error"]["code"] == "cancelled_by_operator"
    assert not upstream.last_request.is_complete
    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["mine 503 cancelled_by_operator"]


async def test_hedged_request_is_ended_with_both_its_calls(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    async with FakeProvider() as other:
        hedging = {"enabled": True, "minDelay": "10ms", "minRequests": 1, "budgetPercent": 100}
        await proxy.start(
            providers={"one": upstream.provider(), "two": other.provider(priority=1)},
            hedging=hedging,
            plugins=WITNESS,
        )
        await proxy.chat("warm up")
        for provider in (upstream, other):
            provider.reply("never", faults=Faults(never_answer=True))
        running = ask(proxy, "mine")
        await other.wait_for_request()

        await end(proxy, "mine")
        await upstream.wait_for_disconnect()
        await other.wait_for_disconnect()

        assert_ended_by_operator(await running)
        await assert_nothing_is_left(proxy)
        assert outcomes(proxy)[1:] == ["mine 503 cancelled_by_operator"]


async def test_all_requests_under_one_id_are_ended(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider()})
    running = [ask(proxy, "same"), ask(proxy, "same"), ask(proxy, "other")]
    await wait_for(proxy, *["first_byte"] * 3)

    answer = await end(proxy, "same")

    assert answer["ended"] == 2
    for one in running[:2]:
        assert_ended_by_operator(await one)
    assert [one["id"] for one in (await inflight(proxy))["requests"]] == ["other"]
    await end(proxy, "other")
    await running[2]
    await assert_nothing_is_left(proxy)


async def test_request_that_is_not_in_work_is_not_found(proxy: ProxyHarness) -> None:
    await proxy.start()
    await proxy.request("POST", "/v1/chat/completions", CHAT, {"X-Request-Id": "done"})

    response = await proxy.request("DELETE", "/inflight/done")

    document: Any = response.json()
    assert response.status == 404
    assert document["detail"] == "no request done is in work; GET /inflight lists those that are"


async def test_connection_serves_the_next_request_after_one_was_ended(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply("never", faults=Faults(never_answer=True))
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()})
    body = orjson.dumps(CHAT)

    async with RawClient(proxy.url) as client:
        first = asyncio.create_task(client.request("POST", "/v1/chat/completions", body, {"X-Request-Id": "mine"}))
        await wait_for(proxy, "first_byte")
        await end(proxy, "mine")
        assert_ended_by_operator(await first)
        second = await client.request("POST", "/v1/chat/completions", body)

    assert second.status == 200


async def test_client_that_leaves_while_its_request_is_ended_is_told_nothing(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=WITNESS)

    async with RawClient(proxy.url) as client:
        await client.send(
            encode_request(
                "POST", "/v1/chat/completions", orjson.dumps(CHAT), {"X-Request-Id": "mine"}, host="localhost"
            )
        )
        await wait_for(proxy, "first_byte")
        (exchange,) = proxy.app.pipeline.running
        task = proxy.app.pipeline.running[exchange]
        assert task is not None
        assert proxy.app.pipeline.cancel(exchange, "an operator")
        task.cancel()  # as aiohttp does when the connection is lost
        assert not proxy.app.pipeline.cancel(exchange, "another")

    await assert_nothing_is_left(proxy)
    assert outcomes(proxy) == ["mine 499 None"]
