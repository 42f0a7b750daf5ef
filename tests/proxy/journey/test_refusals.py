"""What a provider says when it refuses: read for what it means, passed on whole or not at all."""

from collections.abc import AsyncIterator

import orjson
import pytest

from proxy.testing import FakeProvider, Faults, ProxyHarness
from proxy.testing.steps import Stall

KEYS = ["sk-one-aaaaaaaaaa1111", "sk-two-bbbbbbbbbb2222"]
PAGE = "<html>" + "x" * (100 << 10) + "</html>"
QUICK = {"backoff": "1ms"}


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply("from the spare")
        yield provider


def google(status: int, name: str, **detail: str) -> dict[str, object]:
    return {"error": {"code": status, "message": "no", "status": name, "details": [detail]}}


# -- large ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_refusal_of_the_request_itself_reaches_the_client_whole(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_chunked: bool
) -> None:
    body = orjson.dumps({"error": {"message": "x" * (100 << 10), "type": "invalid_request_error"}})
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    upstream.reply_raw(b"HTTP/1.1 400 No\r\nContent-Type: application/json\r\n%b\r\n\r\n" % framing + framed)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.body) == (400, body)
    assert (reply.header("x-provider"), reply.header("x-attempts"), spare.requests_seen) == ("first", "1", 0)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_large_error_page_does_not_keep_the_next_provider_from_answering(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status, PAGE)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.text) == (200, "from the spare")
    assert reply.header("x-failed-attempts") is not None


async def test_large_error_page_of_the_only_provider_is_passed_on_whole_once_nothing_else_is_to_be_tried(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(503, PAGE, {"x-should-retry": "true"})
    await proxy.start(providers={"first": upstream.provider()}, failover={**QUICK, "attempts": 2})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.text, upstream.requests_seen) == (503, PAGE, 2)
    assert (reply.header("x-attempts"), reply.header("x-should-retry")) == ("2", "false")


async def test_large_error_page_is_never_passed_on_by_halves(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503, PAGE)
    await proxy.start(
        providers={"first": upstream.provider(), "second": spare.provider(priority=1)},
        failover={"retryBudget": {"ratio": 0, "capacity": 0}},
    )

    reply = await proxy.chat("Hello")

    assert reply.status == 503
    assert "xxx" not in reply.response.text
    assert "the retry budget of the process is used up" in reply.response.text


async def test_large_error_page_counts_as_the_failure_it_is(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(500, PAGE)
    await proxy.start(providers={"first": upstream.provider()}, breaker={"failures": 2})

    for _ in range(2):
        await proxy.chat("Hello")

    assert proxy.app.pipeline.generation.health["first"].has_open_circuit
    status = (await proxy.request("GET", "/metrics")).text
    assert 'outcome="upstream_rejected",provider="first"} 2.0' in status


async def test_refusal_that_breaks_off_is_told_by_its_status_alone(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(500, PAGE[:1000], faults=Faults(cut_after_bytes=500))
    await proxy.start(providers={"first": upstream.provider()})

    reply = await proxy.chat("Hello")

    assert (reply.status, "xxx" in reply.response.text) == (500, False)


# -- what they mean --------------------------------------------------------------------------------------------------


async def test_key_that_google_refuses_with_400_is_left_alone_and_the_next_one_answers(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(400, google(400, "INVALID_ARGUMENT", reason="API_KEY_INVALID"))
    await proxy.start(providers={"g": upstream.provider("gemini", apiKey=None, apiKeys=KEYS)})
    path, ask = "/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}

    replies = [await proxy.request("POST", path, ask) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].header("x-failed-attempts") == "g;kind=auth;status=400"
    assert [one.header("x-goog-api-key") for one in upstream.requests] == [KEYS[0], KEYS[1], KEYS[1]]


async def test_googles_own_time_to_come_back_is_kept_although_it_stands_in_the_body(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(429, google(429, "RESOURCE_EXHAUSTED", retryDelay="17s"))
    await proxy.start(providers={"g": upstream.provider("gemini")})
    path, ask = "/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}

    first = await proxy.request("POST", path, ask)
    second = await proxy.request("POST", path, ask)

    assert (first.status, second.status, upstream.requests_seen) == (429, 429, 1)
    assert 15 <= int(second.header("retry-after") or 0) <= 17


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, {"type": "error", "error": {"type": "billing_error", "message": "no credit"}}),
        (429, {"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}}),
    ],
)
async def test_key_without_money_is_passed_by_for_the_next_one_and_rests(
    proxy: ProxyHarness, upstream: FakeProvider, status: int, body: dict[str, object]
) -> None:
    upstream.once.reply_status(status, body)
    await proxy.start(providers={"v": upstream.provider(apiKey=None, apiKeys=KEYS)})

    replies = [await proxy.chat("Hello") for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    used = [(one.header("authorization") or "").removeprefix("Bearer ") for one in upstream.requests]
    assert used == [KEYS[0], KEYS[1], KEYS[1]]


async def test_provider_without_a_key_is_left_alone_as_long_as_it_asked_for(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(429, headers={"Retry-After": "30"})
    await proxy.start(
        providers={
            "first": upstream.provider(apiKey=None),
            "second": spare.provider(apiKey=None, priority=1, models=["both"]),
        }
    )

    replies = [await proxy.chat("Hello", model="both") for _ in range(2)]
    alone = [await proxy.chat("Hello", model="alone") for _ in range(2)]
    status = await proxy.request("GET", "/providers/status")

    assert [(reply.text, reply.header("x-attempts")) for reply in replies] == [
        ("from the spare", "2"),
        ("from the spare", "1"),
    ]
    assert [reply.status for reply in alone] == [429, 429]
    assert 28 <= int(alone[1].header("retry-after") or 0) <= 30
    assert upstream.requests_seen == 2
    assert "said when to come back" in status.text


async def test_clients_own_key_that_is_limited_is_no_reason_to_leave_the_provider_out_for_others(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(429, headers={"Retry-After": "30"})
    await proxy.start(providers={"only": upstream.provider(apiKey=None)})

    replies = [await proxy.chat("Hello", headers={"Authorization": f"Bearer sk-mine-{number}"}) for number in range(2)]

    assert [reply.status for reply in replies] == [429, 200]


async def test_key_that_a_provider_repeats_in_its_refusal_does_not_reach_the_client(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    words = {"error": {"message": f"bad request with key {KEYS[0]}", "type": "invalid_request_error"}}
    upstream.reply_status(400, words, {"x-debug": KEYS[0]})
    await proxy.start(providers={"v": upstream.provider(apiKey=KEYS[0])})

    reply = await proxy.chat("Hello")

    assert reply.status == 400
    assert reply.response.json()["error"]["message"] == "bad request with key ***"  # type: ignore[index]  # JSON of our own making
    assert reply.header("x-debug") == "***"


async def test_stream_that_begins_with_an_error_goes_elsewhere_though_the_provider_keeps_it_open(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    error = {"error": {"message": "Your input exceeds the context window of this model.", "type": "x"}}
    upstream.reply_raw(head, b"data: %b\n\n" % orjson.dumps(error), Stall())
    await proxy.start(providers={"a": upstream.provider(), "b": spare.provider()}, models={"m": ["a/short", "b/long"]})

    reply = await proxy.chat("Hello", model="m", stream=True)

    assert (reply.status, reply.text) == (200, "from the spare")
    assert reply.header("x-failed-attempts") == "a;kind=context-length"
