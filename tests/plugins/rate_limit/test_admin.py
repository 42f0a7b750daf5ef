"""What operators see of the limits, ask about them and forget of them; nothing of that changes what holds."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.plugins.cache.rig import until
from tests.plugins.rate_limit.asking import MESSAGES, call, chat_statuses, made, statuses


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


async def test_explain_names_the_rule_that_holds_for_longest_and_none_that_only_watches() -> None:
    rules = [
        {"name": "watched", "amount": 1, "period": "7d", "mode": "shadow"},
        {"name": "short", "amount": 1, "period": "1m", "algorithm": "fixed-window"},
        {"name": "long", "amount": 1, "period": "1d"},
    ]
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "rules": rules})
        before = await call(proxy, "GET", "/rate-limits/explain?model=echo")
        await statuses(proxy, 1)
        both = await call(proxy, "GET", "/rate-limits/explain?model=echo")
        await call(proxy, "PATCH", "/config", {"rateLimit": {"rules": rules[:1]}})
        watched = await call(proxy, "GET", "/rate-limits/explain?model=echo")

    assert (before["wouldPass"], before["refusedBy"], before["waitSeconds"]) == (True, None, 0)
    assert (both["wouldPass"], both["refusedBy"]) == (False, "long")
    assert 86_000 < both["waitSeconds"] <= 86_400
    assert (watched["wouldPass"], [each["rule"] for each in watched["rules"]]) == (True, ["watched"])


async def test_explain_reckons_with_the_words_and_the_limit_on_output_that_are_asked_about() -> None:
    rules = [{"name": name, "counts": name, "amount": 1000} for name in ("inputTokens", "outputTokens")]
    async with ProxyHarness() as proxy:
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "rules": rules})
        told = [
            await call(proxy, "GET", f"/rate-limits/explain?model=echo&{query}")
            for query in ("inputChars=100&maxTokens=100", "inputChars=100000&maxTokens=100", "maxTokens=1001")
        ]

    assert [each["refusedBy"] for each in told] == [None, "inputTokens", "outputTokens"]


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
        ("?caller=sk-alice-000001", {"sk-alice-000001": 200, "sk-bob-0000001": 429}),
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
    [
        ("?rul=perHour", None),
        ("?kye=sk-alice-000001", None),
        ("", {"caler": "x"}),
        ("", {"rule": None}),
        ("", {"key": True}),
    ],
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


async def test_reset_leaves_what_is_in_work_counted() -> None:
    gate = asyncio.Event()
    async with FakeProvider() as upstream, ProxyHarness(upstream) as proxy:
        rules = [{"name": "par", "counts": "concurrent", "amount": 1}]
        await proxy.start(rate_limit={"enabled": True, "perHour": "none", "rules": rules})
        upstream.stream(["a", "b"], gate=gate)
        running = asyncio.create_task(proxy.chat("hi", stream=True))
        await upstream.wait_for_request()

        reset = await call(proxy, "POST", "/rate-limits/reset")
        refused = await statuses(proxy, 1)
        gate.set()
        await running
        await until(lambda: not proxy.app.pipeline.running, "no request in work")
        after = await statuses(proxy, 1)

    assert (reset["forgotten"], refused, after) == (0, [429], [200])


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
        headers = {"Authorization": f"Bearer {made['key']}"}
        asked = {"path": "/v1/chat/completions", "headers": headers, "body": {"model": "echo/m", "messages": MESSAGES}}

        before = await call(proxy, "POST", "/rate-limits/explain", {"key": made["key"], "model": "m"})
        missing = await call(proxy, "POST", "/cache/explain", asked)
        reply = await proxy.request("POST", asked["path"], asked["body"], headers)
        after = await call(proxy, "POST", "/rate-limits/explain", {"key": made["key"], "model": "m"})
        kept = await call(proxy, "POST", "/cache/explain", asked)
        stranger = await call(proxy, "POST", "/rate-limits/explain", {"key": "sk-unknown", "model": "m"})
        reset = await call(proxy, "POST", "/rate-limits/reset", {"key": made["key"]})

    assert reply.status == 200
    assert (before["caller"], before["wouldPass"]) == (f"key:{made['id']}", True)
    assert (after["caller"], after["refusedBy"]) == (f"key:{made['id']}", "key.requestsPerMinute")
    assert stranger["caller"].startswith("credential:")
    assert reset["caller"] == f"key:{made['id']}"
    assert (missing["outcome"], kept["outcome"]) == ("miss", "hit")


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
            for each in (f"key:{key['id']}", key["id"], "team-a", key["key"])
        ]
        await call(proxy, "POST", "/rate-limits/explain", {"key": other["key"], "ip": "192.0.2.7"})
        await call(proxy, "POST", "/rate-limits/explain", {"key": "sk-of-nobody-0001", "ip": "192.0.2.7"})

        own, general = await chat_statuses(proxy, key["key"], 4), await chat_statuses(proxy, other["key"], 2)

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
        first = await chat_statuses(proxy, key["key"], 2)
        await call(proxy, "PATCH", f"/keys/{key['id']}", {"limits": {"requestsPerDay": 2}})
        wider = await call(proxy, "POST", "/rate-limits/explain", {"key": "web"})
        second = await chat_statuses(proxy, key["key"], 2)
        await call(proxy, "PATCH", "/config", {"rateLimit": {"perMinute": 1000}})
        used_up = await call(proxy, "POST", "/rate-limits/explain", {"key": "web"})
        shown = await call(proxy, "GET", "/rate-limits")
        reset = await call(proxy, "POST", "/rate-limits/reset", {"key": "web", "rule": "key.requestsPerDay"})
        third = await chat_statuses(proxy, key["key"], 1)

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
