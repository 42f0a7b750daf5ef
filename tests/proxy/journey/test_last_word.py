"""What a client is told when nobody could answer: everybody with a reason, or the vendor's own words."""

from typing import Any

import pytest

from proxy.testing import FakeProvider, ProxyHarness, RawClient
from tests.proxy.journey.accounts import given_back, pair

TOO_LONG = {"error": {"code": "context_length_exceeded", "message": "too long", "type": "invalid_request_error"}}
LARGE = b'{"error": {"message": "' + b"x" * 100_000 + b'"}}'


def message(document: Any) -> str:
    text = document["error"]["message"]
    assert isinstance(text, str)
    return text


# -- everybody ---------------------------------------------------------------------------------------------------------


async def test_everybody_is_listed_those_who_were_not_asked_too(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    spare.reply_status(503)
    await proxy.start(
        providers={
            "a": upstream.provider(),
            "b": spare.provider(priority=1),
            "c": spare.provider(priority=2),
            "d": spare.provider(priority=3),
        },
        failover={"attempts": 2},
    )
    proxy.app.pipeline.generation.health["c"].drained_s = 1.0

    reply = await proxy.chat("Hello")
    told = message(reply.response.json())

    assert told.startswith("nobody could answer (2 attempts are made (failover.attempts)): ")
    assert "a/fake-model: answered with status 500 (upstream_rejected); " in told
    assert "b/fake-model: answered with status 503 (upstream_rejected)" in told
    assert "c/fake-model: not asked, drained by an operator" in told
    assert told.endswith("d/fake-model: not asked")


async def test_model_for_which_the_prompt_is_too_long_is_listed_with_that_reason(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.once.reply_status(400, TOO_LONG)
    upstream.reply_status(500)
    await proxy.start(
        providers={"a": upstream.provider(), "b": spare.provider()},
        models={"m": ["a/short", "b/short", "a/long"]},
        failover={"attempts": 2},
    )

    reply = await proxy.chat("Hello", model="m")

    assert (reply.status, reply.response.json()) == (400, TOO_LONG)
    assert reply.header("x-failed-attempts") == "a;kind=context-length;status=400, a;kind=server-error;status=500"


@pytest.mark.parametrize(
    ("first", "second", "status"), [(500, 429, 429), (429, 500, 429), (503, 500, 500), (401, 503, 503), (529, 500, 500)]
)
async def test_status_is_that_of_the_failure_that_says_most(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, first: int, second: int, status: int
) -> None:
    upstream.reply_status(first)
    spare.reply_status(second)
    await proxy.start(providers=pair(upstream, spare), failover={"attempts": 2})

    reply = await proxy.chat("Hello")

    assert reply.status == status
    assert reply.header("x-should-retry") == "false"


async def test_retry_after_is_that_of_who_comes_back_first(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(429, headers={"Retry-After": "70"})
    spare.reply_status(429, headers={"Retry-After": "40"})
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("retry-after")) == (429, "40")


async def test_keys_that_rest_until_a_time_the_provider_said_are_not_asked(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(429, headers={"Retry-After": "40"})
    keys = ["sk-aaaaaaaaaaaa1111", "sk-bbbbbbbbbbbb2222"]
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=keys)})
    await proxy.chat("Hello")

    reply = await proxy.chat("Hello")

    assert (reply.status, upstream.requests_seen) == (429, 2)
    assert 38 <= int(reply.header("retry-after") or 0) <= 40
    assert "all 2 keys are left alone: rate limit, and the provider said when to come back" in reply.response.text
    assert reply.header("x-attempts") is None


# -- when to come back -------------------------------------------------------------------------------------------------

TWO_KEYS = ["sk-aaaaaaaaaaaa1111", "sk-bbbbbbbbbbbb2222"]


def keyed(provider: FakeProvider, *keys: str, **settings: Any) -> dict[str, Any]:  # Any: of the configuration
    return provider.provider(apiKey=None, apiKeys=list(keys or TWO_KEYS), **settings)


@pytest.mark.parametrize(("first", "second"), [("40", "70"), ("70", "40")])
async def test_of_several_keys_the_one_that_comes_back_first_is_waited_for(
    proxy: ProxyHarness, upstream: FakeProvider, first: str, second: str
) -> None:
    for number, told in enumerate((first, second)):
        body = {"error": {"message": f"key {number}"}}
        upstream.once.reply_status(429, body, headers={"Retry-After": told, "retry-after-ms": f"{told}000"})
    await proxy.start(providers={"vendor": keyed(upstream)})

    reply = await proxy.chat("Hello")

    assert (reply.status, upstream.requests_seen) == (429, 2)
    assert reply.response.json() == {"error": {"message": "key 1"}}
    assert reply.header("retry-after") == "40"
    assert reply.header("retry-after-ms") == ("40000" if second == "40" else None)


@pytest.mark.parametrize(("first", "second"), [("40", "70"), ("70", "40")])
async def test_soonest_of_several_keys_is_told_in_another_format_too(
    proxy: ProxyHarness, upstream: FakeProvider, first: str, second: str
) -> None:
    for told in (first, second):
        upstream.once.reply_status(429, headers={"Retry-After": told})
    await proxy.start(providers={"vendor": keyed(upstream)})

    reply = await proxy.request("POST", "/", {"model": "fake-model", "prompt": "Hello"})

    assert (reply.status, reply.header("retry-after")) == (429, "40")


async def test_key_that_was_not_tried_any_more_needs_no_long_wait(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(429, headers={"Retry-After": "40"})
    await proxy.start(providers={"vendor": keyed(upstream)}, failover={"attempts": 1})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("retry-after")) == (429, "1")


async def test_among_several_providers_a_key_of_one_may_come_back_first(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    for told in ("30", "70"):
        upstream.once.reply_status(429, headers={"Retry-After": told})
    spare.reply_status(429, headers={"Retry-After": "50"})
    await proxy.start(providers={"a": keyed(upstream), "b": spare.provider(priority=1)}, failover={"attempts": 5})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("retry-after"), reply.header("x-attempts")) == (429, "30", "3")


async def test_providers_later_word_takes_the_place_of_its_earlier_one(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.once.reply_status(429, headers={"retry-after-ms": "20"})
    upstream.once.reply_status(429, headers={"Retry-After": "60"})
    spare.reply_status(500)
    await proxy.start(providers=pair(upstream, spare), failover={"backoff": "1ms"})

    reply = await proxy.chat("Hello")

    assert upstream.requests_seen == 2
    assert (reply.status, reply.header("retry-after")) == (429, "60")


# -- the vendor's own words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
async def test_only_providers_own_error_passes_byte_for_byte(
    proxy: ProxyHarness, upstream: FakeProvider, status: int
) -> None:
    body = b'{ "error" : {"message": "in its own words", "odd": 1.50} }'
    upstream.reply_status(status, body, headers={"x-should-retry": "false", "x-vendor": "kept", "Retry-After": "30"})
    await proxy.start(providers={"vendor": upstream.provider()})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.body) == (status, body)
    assert (reply.header("x-vendor"), reply.header("retry-after")) == ("kept", "30")
    assert (reply.header("x-provider"), reply.header("x-attempts")) == ("vendor", "1")


async def test_vendors_word_on_the_length_of_a_prompt_passes_though_another_failed_otherwise(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(400, TOO_LONG)
    spare.reply_status(500)
    await proxy.start(
        providers={"a": upstream.provider(models=["short"]), "b": spare.provider(models=["long"])},
        failover={"models": {"short": {"fallbacks": ["long"]}}},
    )

    reply = await proxy.chat("Hello", model="short")

    assert (reply.status, reply.response.json()) == (400, TOO_LONG)
    assert (reply.header("x-provider"), reply.header("x-attempts")) == ("a", "2")
    assert reply.header("x-should-retry") == "false"


async def test_clients_own_mistake_after_a_failure_elsewhere_passes_as_it_is(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    spare.reply_status(422, {"error": {"message": "too odd"}})
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.json()) == (422, {"error": {"message": "too odd"}})
    assert (reply.header("x-provider"), reply.header("x-failed-attempts")) == (
        "second",
        "first;kind=overloaded;status=503",
    )


async def test_of_several_keys_the_refusal_that_says_most_is_told(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    limited = {"error": {"message": "slow down"}}
    upstream.once.reply_status(429, limited, headers={"Retry-After": "60"})
    upstream.once.reply_status(401)
    keys = ["sk-aaaaaaaaaaaa1111", "sk-bbbbbbbbbbbb2222"]
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None, apiKeys=keys)})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.json(), reply.header("retry-after")) == (429, limited, "60")
    assert reply.header("x-failed-attempts") == "vendor;kind=rate-limit;status=429, vendor;kind=auth;status=401"


# -- large -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 503])
async def test_large_error_of_the_only_provider_flows_through_whole(
    proxy: ProxyHarness, upstream: FakeProvider, status: int
) -> None:
    upstream.reply_status(status, LARGE)
    await proxy.start(providers={"vendor": upstream.provider()})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.body) == (status, LARGE)
    await given_back(proxy)


async def test_large_error_that_flows_through_counts_as_a_failure(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(503, LARGE)
    await proxy.start(providers={"vendor": upstream.provider()}, breaker={"failures": 2})

    for _ in range(2):
        await proxy.chat("Hello")
    await given_back(proxy)

    health = proxy.app.pipeline.generation.health["vendor"]
    assert health.lane("fake-model").breaker.state == "open"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_large_error_is_made_good_by_somebody_else(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status, LARGE)
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.text, reply.header("x-attempts")) == (200, "from the spare", "2")
    await given_back(proxy)


async def test_large_error_that_was_cut_here_never_passes_for_a_whole_one(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500, LARGE)
    spare.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n")
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("x-provider"), reply.header("x-attempts")) == (500, "first", "2")
    assert message(reply.response.json()).startswith("nobody could answer")


async def test_large_error_of_the_last_one_flows_through_whole(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500, LARGE)
    spare.reply_status(500, LARGE)
    await proxy.start(providers=pair(upstream, spare))

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.response.body, reply.header("x-attempts")) == (500, LARGE, "2")


# -- HEAD --------------------------------------------------------------------------------------------------------------


async def test_error_to_head_says_the_length_and_sends_nothing(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(404, {"error": {"message": "no such model"}})
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-*"])})

    async with RawClient(proxy.url) as client:
        first = await client.request("HEAD", "/proxy/vendor/models/x")
        second = await client.request("HEAD", "/proxy/vendor/models/y")

    assert [(one.status, one.header("content-length")) for one in (first, second)] == [(404, "37")] * 2


async def test_last_word_to_head_has_no_body(proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider) -> None:
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: odd\r\n\r\n")
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-*"])})

    async with RawClient(proxy.url) as client:
        replies = [await client.request("HEAD", "/proxy/vendor/models/x") for _ in range(2)]
        assert not client.has_more

    assert [reply.status for reply in replies] == [502, 502]
