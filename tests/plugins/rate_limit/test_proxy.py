"""The plugin within the proxy: what clients of each format get, what operators see, and what is changed live."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, ProxyHarness, RawClient
from proxy.usage import Usage
from tests.plugins.cache.rig import until_idle

MESSAGES = [{"role": "user", "content": "hi"}]
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


async def call(proxy: ProxyHarness, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    reply = await proxy.request(method, path, body, headers)
    assert reply.status == 200, reply.body
    return orjson.loads(reply.body)


async def statuses(proxy: ProxyHarness, count: int, **fields: Any) -> list[int]:
    return [(await proxy.chat("hi", **fields)).status for _ in range(count)]


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


async def test_operator_sees_rules_buckets_and_who_was_refused_by_which_rule() -> None:
    async with ProxyHarness() as proxy:
        rules = [{"name": "usd", "counts": "costUsd", "amount": 1.5, "period": "1d", "burst": 1}]
        await proxy.start(rate_limit={"enabled": True, "perHour": 2, "burstSize": 2, "rules": rules})
        await statuses(proxy, 3, headers={"Authorization": "Bearer sk-canary-in-the-mine"})

        shown = await call(proxy, "GET", "/rate-limits")

    per_hour, usd = shown["rules"]
    assert (per_hour["name"], per_hour["amount"], per_hour["burst"], per_hour["period"]) == ("perHour", 2, 2, "1h")
    assert (per_hour["admitted"], per_hour["refused"], per_hour["buckets"]) == (2, 1, 1)
    assert (usd["amount"], usd["burst"], usd["algorithm"], usd["per"]) == (1.5, 1.0, "token-bucket", ["caller"])
    assert (shown["fullest"][0]["caller"], shown["fullest"][0]["left"]) == ("…mine", 0)
    assert (shown["blocked"][0]["rule"], shown["blocked"][0]["caller"]) == ("perHour", "…mine")
    assert "canary" not in orjson.dumps(shown).decode()


@pytest.mark.parametrize("form", ["key", "id", "mask", "body"])
async def test_explain_tells_whether_a_request_would_pass_and_takes_nothing(form: str) -> None:
    key = "sk-canary-in-the-mine"
    async with ProxyHarness() as proxy:
        rules = [{"name": "tpm", "counts": "inputTokens", "amount": 100, "models": ["gpt-*"]}]
        await proxy.start(rate_limit={"enabled": True, "perHour": 2, "burstSize": 2, "rules": rules})
        await statuses(proxy, 2, headers={"Authorization": f"Bearer {key}"})
        row = (await call(proxy, "GET", "/rate-limits"))["fullest"][0]
        named = {"key": key, "id": row["id"], "mask": "%E2%80%A6mine"}

        if form == "body":
            told = await call(proxy, "POST", "/rate-limits/explain", {"key": key, "model": "gpt-4o"})
        else:
            told = await call(proxy, "GET", f"/rate-limits/explain?key={named[form]}&model=gpt-4o")
        other = await call(proxy, "GET", "/rate-limits/explain?key=sk-nobody-knows-me&model=claude-3")

    assert (told["caller"], told["wouldPass"], told["refusedBy"]) == (row["id"], False, "perHour")
    assert 1790 < told["waitSeconds"] <= 1800
    assert [rule["rule"] for rule in told["rules"]] == ["perHour", "tpm"]
    assert (other["wouldPass"], [rule["rule"] for rule in other["rules"]]) == (True, ["perHour"])
    assert other["rules"][0]["left"] == 2


async def test_explain_without_a_key_speaks_of_who_asks() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1})
        await statuses(proxy, 1)

        told = await call(proxy, "GET", "/rate-limits/explain?model=echo")

    assert (told["caller"], told["wouldPass"], told["refusedBy"]) == ("peer:127.0.0.1", False, "perHour")


async def test_explain_says_what_it_does_not_know() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True})

        wrong = [
            await proxy.request("GET", f"/rate-limits/explain?{query}") for query in ("modle=gpt-4o", "maxTokens=many")
        ]

    assert [reply.status for reply in wrong] == [400, 400]
    assert b"modle" in wrong[0].body


@pytest.mark.parametrize(
    ("query", "after"),
    [
        ("", {"sk-alice-000001": 200, "sk-bob-0000001": 200}),
        ("?key=sk-alice-000001", {"sk-alice-000001": 200, "sk-bob-0000001": 429}),
        ("?rule=perDay", {"sk-alice-000001": 429, "sk-bob-0000001": 429}),
        ("?rule=perHour", {"sk-alice-000001": 200, "sk-bob-0000001": 200}),
    ],
)
async def test_reset_forgets_what_was_spent(query: str, after: dict[str, int]) -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1, "perDay": 100})
        await call(proxy, "PATCH", "/config", {"rateLimit": {"burstSize": 1}})
        for key in after:
            await statuses(proxy, 1, headers={"Authorization": f"Bearer {key}"})
        await call(proxy, "PATCH", "/config", {"rateLimit": {"perDay": "none"}} if query != "?rule=perDay" else {})

        await call(proxy, "POST", f"/rate-limits/reset{query}")

        found = {key: (await statuses(proxy, 1, headers={"Authorization": f"Bearer {key}"}))[0] for key in after}
    assert found == after


async def test_reset_of_a_rule_that_is_not_there_is_404() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True})

        reply = await proxy.request("POST", "/rate-limits/reset?rule=perYear")

    assert reply.status == 404
    assert b"perHour" in reply.body


@pytest.mark.parametrize(
    ("query", "body"),
    [("?rul=perHour", None), ("?kye=sk-alice-000001", None), ("", {"caler": "x"}), ("", {"rule": None})],
)
async def test_reset_that_cannot_be_meant_forgets_nothing(query: str, body: Any) -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1})
        assert await statuses(proxy, 2) == [200, 429]

        reply = await proxy.request("POST", f"/rate-limits/reset{query}", body, {"Content-Type": "application/json"})

        assert reply.status == 400
        assert await statuses(proxy, 1) == [429]


async def test_explain_knows_an_address_that_has_not_come_yet() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "callers": {"192.0.2.7": {"perHour": 7, "burstSize": 3}}})

        told = await call(proxy, "GET", "/rate-limits/explain?key=192.0.2.7")

    assert (told["caller"], told["rules"][0]["left"]) == ("peer:192.0.2.7", 3)


async def test_reset_of_everything_empties_the_limits_too() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": 1, "burstSize": 1})
        assert await statuses(proxy, 2) == [200, 429]

        told = await call(proxy, "POST", "/reset")

        assert told["forgotten"]["plugins"]["rate_limit"] == {"buckets": 1}
        assert await statuses(proxy, 2) == [200, 429]


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


async def test_virtual_key_in_clear_is_explained_as_what_it_counts_for() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(
            providers={"echo": {"type": "echo"}},
            keys={"enabled": True},
            cache={"enabled": True},
            rateLimit={"enabled": True, "perMinute": 9},
        )
        made = orjson.loads(
            (await proxy.request("POST", "/keys", {"name": "web", "limits": {"requestsPerMinute": 1}})).body
        )
        headers = {"Authorization": f"Bearer {made['text']}"}
        asked = {"path": "/v1/chat/completions", "headers": headers, "body": {"model": "echo/m", "messages": MESSAGES}}

        before = await call(proxy, "POST", "/rate-limits/explain", {"key": made["text"], "model": "m"})
        missing = await call(proxy, "POST", "/cache/explain", asked)
        reply = await proxy.request("POST", asked["path"], asked["body"], headers)
        after = await call(proxy, "POST", "/rate-limits/explain", {"key": made["text"], "model": "m"})
        kept = await call(proxy, "POST", "/cache/explain", asked)
        stranger = await call(proxy, "POST", "/rate-limits/explain", {"key": "sk-unknown", "model": "m"})
        reset = await call(proxy, "POST", "/rate-limits/reset", {"key": made["text"]})

    assert reply.status == 200
    assert (before["caller"], before["wouldPass"]) == (f"key:{made['id']}", True)
    assert (after["caller"], after["refusedBy"]) == (f"key:{made['id']}", "key.requestsPerMinute")
    assert stranger["caller"].startswith("credential:")
    assert reset["caller"] == f"key:{made['id']}"
    assert (missing["outcome"], kept["outcome"]) == ("miss", "hit")


async def made(proxy: ProxyHarness, name: str, **limits: int) -> Any:
    reply = await proxy.request("POST", "/keys", {"name": name, "limits": limits})
    assert reply.status == 201, reply.body
    return orjson.loads(reply.body)


async def chat_statuses(proxy: ProxyHarness, key: str, count: int) -> list[int]:
    headers, body = {"Authorization": f"Bearer {key}"}, {"model": "echo/m", "messages": MESSAGES}
    return [(await proxy.request("POST", "/v1/chat/completions", body, headers)).status for _ in range(count)]


async def test_explaining_changes_nothing_of_what_holds() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(
            providers={"echo": {"type": "echo"}},
            keys={"enabled": True},
            rateLimit={
                "enabled": True,
                "perHour": 1,
                "burstSize": 1,
                "callers": {"team-a": {"perHour": 100, "burstSize": 3}, "192.0.2.7": {"exempt": True}},
            },
        )
        key, other = await made(proxy, "team-a"), await made(proxy, "team-b")
        asked = [
            await call(proxy, "POST", "/rate-limits/explain", {"key": each})
            for each in (f"key:{key['id']}", key["id"], "team-a", key["text"])
        ]
        await call(proxy, "POST", "/rate-limits/explain", {"key": other["text"], "ip": "192.0.2.7"})
        await call(proxy, "POST", "/rate-limits/explain", {"key": "sk-of-nobody-0001", "ip": "192.0.2.7"})

        own, general = await chat_statuses(proxy, key["text"], 4), await chat_statuses(proxy, other["text"], 2)

    assert {each["caller"] for each in asked} == {f"key:{key['id']}"}
    assert [each["rules"][0]["left"] for each in asked] == [3] * 4
    assert (own, general) == ([200, 200, 200, 429], [200, 429])


async def test_limits_of_a_key_are_explained_as_they_are_and_reset_after_any_change() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(
            providers={"echo": {"type": "echo"}}, keys={"enabled": True}, rateLimit={"enabled": True, "perHour": "none"}
        )
        key = await made(proxy, "web", requestsPerDay=1)
        unused = await call(proxy, "POST", "/rate-limits/explain", {"key": "web"})
        first = await chat_statuses(proxy, key["text"], 2)
        await call(proxy, "PATCH", f"/keys/{key['id']}", {"limits": {"requestsPerDay": 2}})
        wider = await call(proxy, "POST", "/rate-limits/explain", {"key": "web"})
        second = await chat_statuses(proxy, key["text"], 2)
        await call(proxy, "PATCH", "/config", {"rateLimit": {"perMinute": 1000}})
        used_up = await call(proxy, "POST", "/rate-limits/explain", {"key": "web"})
        shown = await call(proxy, "GET", "/rate-limits")
        reset = await call(proxy, "POST", "/rate-limits/reset", {"key": "web", "rule": "key.requestsPerDay"})
        third = await chat_statuses(proxy, key["text"], 1)

    assert [each["rule"] for each in unused["rules"]] == ["key.requestsPerDay"]
    assert (first, second, third) == ([200, 429], [200, 429], [200])
    assert (wider["wouldPass"], used_up["refusedBy"]) == (True, "key.requestsPerDay")
    assert "key.requestsPerDay" in {each["rule"] for each in shown["fullest"]}
    assert reset == {"forgotten": 1, "rule": "key.requestsPerDay", "caller": f"key:{key['id']}"}


@pytest.mark.parametrize("body", [{"key": ""}, {"caller": ""}, {"key": "a", "caller": "b"}])
async def test_reset_of_a_caller_who_is_not_named_forgets_nobody(body: dict[str, str]) -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(
            providers={"echo": {"type": "echo"}}, rateLimit={"enabled": True, "perHour": 1, "burstSize": 1}
        )
        await statuses(proxy, 1)

        reply = await proxy.request("POST", "/rate-limits/reset", body)

        assert reply.status == 400
        assert await statuses(proxy, 1) == [429]


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "X-Session-Token"])
async def test_secret_header_that_is_counted_by_is_shown_to_nobody(name: str) -> None:
    canary = "Bearer sk-canary-of-a-counted-header-0001"
    async with ProxyHarness() as proxy:
        await proxy.start(
            providers={"echo": {"type": "echo"}},
            rateLimit={
                "enabled": True,
                "perHour": "none",
                "rules": [{"name": "r", "per": [f"header:{name}"], "amount": 1, "period": "1d"}],
            },
        )
        body = {"model": "echo/m", "messages": MESSAGES}
        ended = [
            (await proxy.request("POST", "/v1/chat/completions", body, {name: text})).status
            for text in (canary, canary, "Bearer another-secret-000002")
        ]
        shown = (await proxy.request("GET", "/rate-limits")).body.decode()

    assert ended == [200, 429, 200]
    assert "canary" not in shown
    assert not any("canary" in event.message for event in proxy.events.recent())
