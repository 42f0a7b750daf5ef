"""The plugin within the proxy: what clients of each format get, what operators see, and what is changed live."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, ProxyHarness, RawClient
from proxy.usage import Usage
from tests.plugins.cache.rig import until_idle
from tests.plugins.rate_limit.asking import MESSAGES, call, statuses

REQUESTS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "openai": ("/v1/chat/completions", {"model": "m", "messages": MESSAGES}, {}),
    "anthropic": (
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": MESSAGES},
        {"anthropic-version": "2023-06-01"},
    ),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}, {}),
    "ollama": ("/api/chat", {"model": "m", "messages": MESSAGES, "stream": False}, {}),
    "native": ("/", {"prompt": "hi"}, {}),
}
LIMITS = {
    "x-ratelimit-limit-requests": "9",
    "anthropic-ratelimit-requests-remaining": "8",
    "ratelimit-policy": '"theirs";q=1',
}


@pytest.mark.parametrize("format_name", REQUESTS)
async def test_refusal_comes_in_the_format_of_the_client(format_name: str) -> None:
    path, body, headers = REQUESTS[format_name]
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1})
        first = await proxy.request("POST", path, body, headers)

        refused = await proxy.request("POST", path, body, headers)

    text = refused.body.decode()
    assert (first.status, refused.status) == (200, 429)
    assert "rate limit perHour is reached: 1 requests in 1h for each caller" in text
    assert 3590 <= int(refused.header("Retry-After") or 0) <= 3600
    assert refused.header("X-RateLimit-Remaining") == "0"
    assert first.header("RateLimit-Policy") == '"perHour";q=1;w=3600'


async def test_limits_of_the_provider_are_not_told_besides_ours() -> None:
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 100})
        upstream.reply("Hello", headers=LIMITS)
        whole = (await proxy.chat("hi")).response
        upstream.reply("Hello", headers=LIMITS)
        stream = (await proxy.chat("hi", stream=True)).response

    for reply in (whole, stream):
        names = [name.lower() for name, _ in reply.headers]
        assert len(names) == len(set(names))
        assert reply.header("x-ratelimit-limit-requests") == "100"
        assert "anthropic-ratelimit-requests-remaining" not in names


@pytest.mark.parametrize(
    "section",
    [{"enabled": False}, {"enabled": True, "perHour": "none", "rules": [{"name": "a", "amount": 9, "mode": "shadow"}]}],
)
async def test_limits_of_the_provider_are_told_where_there_are_none_of_ours(section: dict[str, Any]) -> None:
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        await proxy.start(rate_limit=section)
        upstream.reply("Hello", headers=LIMITS)

        reply = (await proxy.chat("hi")).response

    assert {name: reply.header(name) for name in LIMITS} == LIMITS


async def test_providers_refusal_is_passed_on_without_its_limits() -> None:
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 100}, failover={"attempts": 1})
        upstream.reply_status(429, headers=LIMITS)

        reply = (await proxy.chat("hi")).response

    assert reply.status == 429
    assert reply.header("x-ratelimit-limit-requests") == "100"
    assert [name.lower() for name, _ in reply.headers].count("x-ratelimit-limit-requests") == 1


@pytest.mark.parametrize("algorithm", ["gcra", "fixed-window", "sliding-window", "sliding-log"])
async def test_patch_of_the_algorithm_forgets_nothing(algorithm: str) -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "perDay": 10, "burstSize": 10})
        assert await statuses(proxy, 6) == [200] * 6

        await call(proxy, "PATCH", "/config", {"rateLimit": {"algorithm": algorithm}})

        assert await statuses(proxy, 8) == [200] * 4 + [429] * 4


async def test_patch_for_one_caller_takes_effect_at_once() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "perDay": 2, "burstSize": 2})
        assert await statuses(proxy, 3) == [200, 200, 429]
        (row,) = (await call(proxy, "GET", "/rate-limits"))["fullest"]

        own = {"rateLimit": {"callers": {row["id"]: {"perDay": 5, "burstSize": 5}}}}
        await call(proxy, "PATCH", "/config", own)

        assert await statuses(proxy, 4) == [200, 200, 200, 429]


async def test_switched_off_live_it_limits_nobody_and_answers_no_operator() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1})
        assert await statuses(proxy, 2) == [200, 429]

        await call(proxy, "PATCH", "/config", {"rateLimit": {"enabled": False}})

        assert await statuses(proxy, 2) == [200, 200]
        assert (await proxy.request("GET", "/rate-limits")).status == 404


async def test_decisions_are_counted() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 2, "burstSize": 2})
        await statuses(proxy, 5)

        text = (await proxy.request("GET", "/metrics")).body.decode()

    assert 'proxy_rate_limit_decisions_total{decision="admitted",rule="perHour"} 2' in text
    assert 'proxy_rate_limit_decisions_total{decision="refused",rule="perHour"} 3' in text
    assert "proxy_rate_limit_buckets 1" in text


async def test_requests_at_once_are_freed_when_a_client_leaves() -> None:
    gate = asyncio.Event()
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        rules = [{"name": "par", "counts": "concurrent", "amount": 1}]
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "rules": rules})
        upstream.stream(["a", "b"], gate=gate)
        async with RawClient(proxy.url) as client:
            body = orjson.dumps({"model": "m", "messages": MESSAGES, "stream": True})
            asking = asyncio.create_task(client.request("POST", "/v1/chat/completions", body))
            await upstream.wait_for_request()
            assert await statuses(proxy, 1) == [429]
            asking.cancel()
        await upstream.wait_for_disconnect()
        gate.set()

        for _ in range(100):
            if await statuses(proxy, 1) == [200]:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("the place was not given back")


async def test_tokens_that_a_provider_counted_are_what_counts() -> None:
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        rules = [{"name": "tpm", "counts": "totalTokens", "amount": 1000, "period": "1h", "algorithm": "fixed-window"}]
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "rules": rules})
        upstream.reply("Hello", usage=Usage(300, 200))
        await proxy.chat("hi", max_tokens=100)

        told = await call(proxy, "GET", "/rate-limits/explain?key=peer:127.0.0.1&model=fake-model&maxTokens=1")

    assert told["rules"][0]["left"] == 500


class TestEndingStreams:
    rules = ({"name": "out", "counts": "outputTokens", "amount": 300, "period": "1h", "algorithm": "fixed-window"},)

    async def start(self, proxy: ProxyHarness, *, is_on: bool) -> None:
        """It is switched over live, so that hooks that were skipped are called, and the other way round."""
        section = {"enabled": True, "perHour": "none", "rules": list(self.rules), "endStreams": not is_on}
        await proxy.start(rate_limit=section)
        await call(proxy, "PATCH", "/config", {"rateLimit": {"endStreams": is_on}})

    async def test_stream_that_passes_a_limit_ends_with_an_honest_error(self) -> None:
        async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
            await self.start(proxy, is_on=True)
            upstream.stream(["word "] * 600, delay_s=0.0005)

            with pytest.raises(CutOff) as caught:
                await proxy.chat("hi", stream=True)

            status = await call(proxy, "GET", "/providers/status")
            shown = await call(proxy, "GET", "/rate-limits")
            kinds = [event.kind for event in proxy.events.recent()]
        body = caught.value.partial
        assert 250 < body.count(b"word") < 450
        assert b'"code":"rate_limited"' in body
        assert b"rate limit out is passed by this stream" in body
        assert b"[DONE]" not in body
        assert kinds.count("rate_limited") == 1
        assert (shown["blocked"][0]["rule"], shown["fullest"][0]["left"]) == ("out", 0)
        assert not status["providers"][0]["lastError"], "the provider is not at fault"

    async def test_stream_that_is_translated_ends_so_too(self) -> None:
        async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
            await self.start(proxy, is_on=True)
            upstream.stream(["word "] * 600, delay_s=0.0005)

            try:
                body = {"prompt": "hi", "model": "fake-model", "stream": True}
                text = (await proxy.request("POST", "/", body)).body
            except CutOff as cut:
                text = cut.partial

        assert 200 < text.count(b"word") < 500
        assert b"rate limit out is passed by this stream" in text

    async def test_stream_is_let_go_on_where_that_is_not_wanted(self) -> None:
        async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
            await self.start(proxy, is_on=False)
            upstream.stream(["word "] * 600)

            reply = await proxy.chat("hi", stream=True)

        assert reply.text.count("word") == 600
        assert b"[DONE]" in reply.response.body


async def test_tokens_of_a_refresh_in_the_background_count_for_who_asked() -> None:
    rules = [{"name": "tpm", "counts": "totalTokens", "amount": 1000}]
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        upstream.reply("Paris", usage=Usage(input_tokens=100, output_tokens=20))
        await proxy.start(
            rate_limit={"enabled": True, "perHour": "none", "rules": rules},
            cache={"enabled": True, "ttl": 0, "staleWhileRevalidate": 60},
        )
        await proxy.chat("Capital of France?")
        before = (await call(proxy, "GET", "/rate-limits"))["fullest"][0]["left"]

        stale = await proxy.chat("Capital of France?")
        await upstream.wait_for_request(2)
        await until_idle(proxy)
        after = (await call(proxy, "GET", "/rate-limits"))["fullest"][0]["left"]

    assert stale.header("x-cache") == "stale"
    assert before - after == pytest.approx(120, abs=20)  # some come back meanwhile
