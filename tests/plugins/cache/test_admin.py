"""What operators see of the cache, may throw away, and may ask about a request."""

import asyncio
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness
from proxy.testing.raw_client import RawResponse

QUESTION = {"model": "fake-model", "messages": [{"role": "user", "content": "Capital of France?"}], "temperature": 0}
KEY = {"Authorization": "Bearer sk-canary-of-the-cache-0001"}
OTHER = {"x-api-key": "sk-canary-of-the-cache-0002"}


@pytest.fixture
async def cached(proxy: ProxyHarness, upstream: FakeProvider) -> ProxyHarness:
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True})
    return proxy


async def ask(proxy: ProxyHarness, headers: dict[str, str] | None = None, **changes: Any) -> RawResponse:
    return await proxy.request("POST", "/v1/chat/completions", {**QUESTION, **changes}, headers)


async def get(proxy: ProxyHarness, path: str, method: str = "GET", body: Any = None) -> Any:
    response = await proxy.request(method, path, body)
    assert response.status == 200, response.text
    return orjson.loads(response.body)


async def explain(proxy: ProxyHarness, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    asked = {"body": {**QUESTION, **changes}, "headers": headers or {}}
    return await get(proxy, "/cache/explain", "POST", asked)


async def test_status_counts_what_came_of_requests(cached: ProxyHarness) -> None:
    await ask(cached)
    await ask(cached)
    await ask(cached, {"X-Cache": "bypass"})

    status = await get(cached, "/cache/status")

    assert (status["enabled"], status["size"], status["maxSize"]) == (True, 1, 1000)
    assert (status["hits"], status["misses"], status["bypassed"], status["hitRate"]) == (1, 1, 1, 0.5)
    assert status["missesByReason"] == {"absent": 1}
    assert status["saved"]["tokens"] == 10
    assert 0 < status["bytes"] < status["maxBytes"]


async def test_saved_money_is_that_of_the_calls_that_were_spared(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")
    prices = {"*": {"input": 1000, "output": 10_000}}
    await proxy.start(providers={"vendor": upstream.provider(prices=prices)}, cache={"enabled": True})
    for _ in range(3):
        await ask(proxy)

    saved = (await get(proxy, "/cache/status"))["saved"]

    assert saved["usd"] == pytest.approx(2 * (9 * 0.001 + 1 * 0.01))
    assert saved["answersWithoutPrice"] == 0


async def test_entries_show_whose_they_are_and_no_content_and_no_credential(cached: ProxyHarness) -> None:
    await ask(cached, KEY)
    await ask(cached, OTHER)
    await ask(cached, OTHER)

    listed = await cached.request("GET", "/cache/entries")

    entries = orjson.loads(listed.body)["entries"]
    assert [entry["hits"] for entry in entries] == [1, 0]
    assert len({entry["caller"] for entry in entries}) == 2
    assert {(entry["model"], entry["operation"]) for entry in entries} == {("fake-model", "openai.chat")}
    assert b"canary" not in listed.body
    assert b"Paris" not in listed.body
    assert b"France" not in listed.body


@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "min-fresh=1000000", "no-cache, only-if-cached"])
async def test_entry_that_was_not_given_had_no_hit(cached: ProxyHarness, control: str) -> None:
    await ask(cached)

    await ask(cached, {"Cache-Control": control})

    assert [entry["hits"] for entry in (await get(cached, "/cache/entries"))["entries"]] == [0]


async def test_entries_are_filtered_and_counted(cached: ProxyHarness) -> None:
    for number in range(3):
        await ask(cached, seed=number)

    listed = await get(cached, "/cache/entries?model=fake-model&limit=2")
    none = await get(cached, "/cache/entries?olderThan=1h")

    assert (len(listed["entries"]), listed["total"]) == (2, 3)
    assert none == {"entries": [], "total": 0}


@pytest.mark.parametrize(("method", "path"), [("GET", "/cache/entries"), ("DELETE", "/cache")])
@pytest.mark.parametrize("query", ["colour=red", "olderThan=soon", "limit=0", "limit=x"])
async def test_filter_nobody_knows_is_refused_and_throws_nothing_away(
    cached: ProxyHarness, method: str, path: str, query: str
) -> None:
    await ask(cached)

    response = await cached.request(method, f"{path}?{query}")

    assert response.status == 400
    assert (await get(cached, "/cache/status"))["size"] == 1


async def test_part_is_thrown_away_by_key_caller_or_model(cached: ProxyHarness) -> None:
    await ask(cached, KEY)
    await ask(cached, OTHER)
    await ask(cached, OTHER, seed=1)
    entries = (await get(cached, "/cache/entries"))["entries"]

    by_key = await get(cached, f"/cache?key={entries[0]['key']}", "DELETE")
    by_caller = await get(cached, f"/cache?caller={entries[2]['caller']}", "DELETE")
    other_model = await get(cached, "/cache?model=other", "DELETE")
    left = await get(cached, "/cache/status")
    by_model = await get(cached, "/cache?model=fake-model", "DELETE")

    assert [each["cleared"] for each in (by_key, by_caller, other_model, by_model)] == [1, 1, 0, 1]
    assert left["size"] == 1
    assert [event.kind for event in cached.events.recent() if event.kind == "cache_cleared"] == ["cache_cleared"] * 4


async def test_all_is_thrown_away_and_asked_anew(cached: ProxyHarness, upstream: FakeProvider) -> None:
    await ask(cached)

    cleared = await get(cached, "/cache", "DELETE")
    again = await ask(cached)

    assert (cleared, again.header("x-cache"), upstream.requests_seen) == ({"cleared": 1}, "miss", 2)


async def test_explain_names_what_makes_a_request_miss(cached: ProxyHarness, upstream: FakeProvider) -> None:
    await ask(cached, KEY)

    same = await explain(cached, KEY)
    warmer = await explain(cached, KEY, temperature=0.5, seed=7)
    stranger = await explain(cached, OTHER)
    other_model = await explain(cached, KEY, model="vendor/other")

    assert (same["wouldHit"], same["outcome"], same["entry"]["model"]) == (True, "hit", "fake-model")
    assert (warmer["wouldHit"], warmer["nearest"]["differs"]) == (False, ["seed", "temperature"])
    assert stranger["nearest"]["differs"] == ["(caller)"]
    assert other_model["nearest"]["differs"] == ["(model)"]
    assert upstream.requests_seen == 1


async def test_explain_takes_the_bare_body_and_other_paths(cached: ProxyHarness) -> None:
    await ask(cached)

    bare = await get(cached, "/cache/explain", "POST", QUESTION)
    embeddings = {"path": "/v1/embeddings", "body": {"model": "fake-model", "input": "a"}}
    other = await get(cached, "/cache/explain", "POST", embeddings)
    stateful = await explain(cached, previous_response_id="r-1")
    listing = await get(cached, "/cache/explain", "POST", {"method": "GET", "path": "/v1/models", "body": {}})

    assert (bare["outcome"], other["outcome"], other["reason"]) == ("hit", "miss", "absent")
    assert (stateful["outcome"], listing["outcome"]) == ("bypass", "bypass")


@pytest.mark.parametrize(
    ("headers", "settings", "expected"),
    [
        ({}, {}, ("coalesced", "the same question is being answered now")),
        ({}, {"coalesce": False}, ("miss", "absent")),
        ({"Cache-Control": "no-cache"}, {}, ("miss", "absent")),
        ({"Cache-Control": "no-store"}, {}, ("miss", "absent")),
        ({"Cache-Control": "only-if-cached"}, {}, ("miss", "absent")),
    ],
)
async def test_explain_tells_who_would_wait_for_a_call_under_way(
    proxy: ProxyHarness,
    upstream: FakeProvider,
    headers: dict[str, str],
    settings: dict[str, Any],
    expected: tuple[str, str],
) -> None:
    gate = asyncio.Event()
    upstream.stream(["Pa", "ris"], gate=gate)
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True, **settings})

    asking = asyncio.create_task(ask(proxy, stream=True))
    await upstream.wait_for_request()
    told = await explain(proxy, headers)
    gate.set()
    await asking

    assert (told["outcome"], told["reason"]) == expected


async def test_explain_changes_no_count(cached: ProxyHarness) -> None:
    await ask(cached)
    before = await get(cached, "/cache/status")

    await explain(cached)
    await explain(cached, seed=1)

    assert await get(cached, "/cache/status") == before


@pytest.mark.parametrize(
    "asked",
    [[], "text", {"body": QUESTION, "colour": "red"}, {"body": QUESTION, "headers": {"a": 1}}, {"body": {"model": 1}}],
)
async def test_explain_refuses_what_is_no_request(cached: ProxyHarness, asked: Any) -> None:
    body = asked if isinstance(asked, dict) else orjson.dumps(asked)

    response = await cached.request("POST", "/cache/explain", body, {"Content-Type": "application/json"})

    assert response.status == 400


async def test_explain_of_an_unknown_model_says_so(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider(models=["known"])}, cache={"enabled": True})

    response = await proxy.request("POST", "/cache/explain", QUESTION)

    assert response.status == 404
    assert "known" in response.text


async def test_routes_say_that_the_cache_is_off(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})

    response = await proxy.request("GET", "/cache/status")

    assert response.status == 404
    assert "cache" in response.text


async def test_reset_empties_it_and_tells_how_much(cached: ProxyHarness) -> None:
    await ask(cached)
    await ask(cached)

    reset = await get(cached, "/reset", "POST")
    status = await get(cached, "/cache/status")

    assert reset["forgotten"]["plugins"]["cache"] == {"entries": 1}
    assert (status["size"], status["hits"]) == (0, 0)


ISSUES = [
    ({"store": "shared"}, "cache_without_store"),
    ({"partition": "shared"}, "cache_shared_by_all"),
    ({"size": 0}, "cache_keeps_nothing"),
    ({"maxEntry": "1GB"}, "cache_entry_too_large"),
    ({"smartCache": True, "smart": {"minTtl": "2d"}}, "cache_ttl_bounds_crossed"),
]


@pytest.mark.parametrize(("settings", "kind"), ISSUES)
async def test_doubtful_settings_are_issues_that_a_patch_mends(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, Any], kind: str
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True, **settings})

    issues = (await get(proxy, "/config/issues"))["issues"]
    (issue,) = [each for each in issues if each["kind"] == kind]
    await get(proxy, "/config", "PATCH", issue["patch"])
    left = (await get(proxy, "/config/issues"))["issues"]

    assert kind not in {each["kind"] for each in left}
