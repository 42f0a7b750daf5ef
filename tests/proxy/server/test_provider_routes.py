"""What operators are told of providers over HTTP, and what they may do about them; no secret is ever shown (F9)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.journey.running import phase_of
from proxy.testing import FakeProvider, ProxyHarness, RawResponse
from tests.e2e.rig import until

KEYS = ["sk-canary-first-0c5d21aa", "sk-canary-second-77e1bbbb"]
CALLER = "sk-canary-of-the-client-9f31"
OFF = 'disabled: providers.off.enabled is false; PATCH /config with {"providers":{"off":{"enabled":true}}} enables it'
BREAKER = {"failures": 2, "cooldown": "30s", "maxCooldown": "60s"}


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply("from the spare")
        yield provider


async def ask(proxy: ProxyHarness, method: str, path: str, **headers: str) -> Any:
    response = await proxy.request(method, path, headers={key.replace("_", "-"): text for key, text in headers.items()})
    assert response.status == 200, response.text
    return response.json()


async def refused(proxy: ProxyHarness, method: str, path: str) -> tuple[int, str]:
    response: RawResponse = await proxy.request(method, path)
    document: Any = response.json()
    assert response.header("content-type") == "application/problem+json"
    return response.status, document["detail"]


async def provider(proxy: ProxyHarness, name: str = "vendor") -> Any:
    shown = await ask(proxy, "GET", "/providers/status")
    return next(one for one in shown["providers"] if one["name"] == name)


async def problems(proxy: ProxyHarness) -> list[str]:
    found: list[str] = (await ask(proxy, "GET", "/health"))["problems"]
    return found


def kinds(proxy: ProxyHarness) -> list[str]:
    return [event.kind for event in proxy.events.recent()]


# -- status ----------------------------------------------------------------------------------------------------------


async def test_status_tells_how_a_provider_does_from_real_traffic(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris", headers={"x-ratelimit-remaining-requests": "12", "x-ratelimit-reset-requests": "1m"})
    await proxy.start(providers={"vendor": upstream.provider(adaptiveConcurrency="aimd", maxConcurrency=40)})

    await proxy.chat("Hello")
    await proxy.chat("Hello", stream=True)
    shown = await ask(proxy, "GET", "/providers/status")

    (vendor,) = shown["providers"]
    assert (vendor["state"], vendor["why"], vendor["nextProbe"]) == ("ok", None, None)
    assert (vendor["calls"], vendor["errorRate"], vendor["inFlight"], vendor["queued"]) == (2, 0.0, 0, 0)
    assert vendor["models"] == ["*"]
    assert vendor["adaptiveLimit"] == 20
    assert vendor["timeToFirstByteMs"]["p99"] > 0
    assert [(one["model"], one["state"]) for one in vendor["modelStates"]] == [("fake-model", "ok")]
    assert vendor["modelStates"][0]["latencyMs"]["p50"] > 0
    (key,) = vendor["keys"]
    assert (key["state"], key["remainingRequests"], key["quotaModel"]) == ("ok", 12, "fake-model")
    assert shown["retryBudget"]["left"] == shown["retryBudget"]["capacity"]


async def test_time_to_the_first_token_of_streams_is_shown(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["one", "two"])
    await proxy.start(providers={"vendor": upstream.provider()})

    await proxy.chat("Hello", stream=True, stream_options={"include_usage": True})

    assert (await provider(proxy))["timeToFirstTokenMs"]["p50"] > 0


async def test_status_gives_times_by_the_wall_clock(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await upstream.close()
    await proxy.start(providers={"vendor": upstream.provider()}, breaker=BREAKER)

    before = datetime.now(UTC)
    for _ in range(2):
        await proxy.chat("Hello")
    vendor = await provider(proxy)

    since, probe = (datetime.fromisoformat(vendor[name]) for name in ("since", "nextProbe"))
    assert (vendor["state"], vendor["why"]) == ("open", "2 failures in a row: upstream_connect")
    assert timedelta(seconds=-0.01) <= since - before <= timedelta(seconds=10)
    assert probe - since == timedelta(seconds=30)
    assert vendor["modelStates"][0]["why"] == "the whole provider: 2 failures in a row: upstream_connect"
    assert await problems(proxy) == [
        "provider vendor is left out: 2 failures in a row: upstream_connect; see /providers/status"
    ]


async def test_open_circuit_of_one_model_and_the_panic_after_it_are_problems(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, breaker=BREAKER)
    for _ in range(7):
        await proxy.chat("Hello", model="good")
    upstream.reply_status(500)

    for _ in range(3):
        await proxy.chat("Hello", model="bad")

    left_out = "is left out for some requests (model bad: 2 failures in a row: upstream_rejected, status 500)"
    assert (await provider(proxy))["state"] == "degraded"
    assert await problems(proxy) == [
        f"provider vendor {left_out}; see /providers/status",
        "everybody who has model 'bad' was left out, and asked all the same; see /providers/explain?model=bad",
    ]


async def test_provider_all_of_whose_keys_rest_is_a_problem(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(429, headers={"Retry-After": "60"})
    settings = upstream.provider(apiKeys=KEYS)
    del settings["apiKey"]
    await proxy.start(providers={"vendor": settings, "spare": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")
    vendor = await provider(proxy)

    assert reply.text == "from the spare"
    assert [(key["key"], key["state"], key["models"]) for key in vendor["keys"]] == [
        ("…21aa", "cooling", ["fake-model"]),
        ("…bbbb", "cooling", ["fake-model"]),
    ]
    assert (vendor["state"], vendor["nextProbe"] is not None) == ("open", True)
    why = "model fake-model: all 2 keys are left alone: rate limit, and the provider said when to come back"
    assert await problems(proxy) == [f"provider vendor is left out: {why}; see /providers/status"]


async def test_status_and_explain_and_inflight_show_no_secret(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    settings = upstream.provider("anthropic", apiKeys=KEYS)
    del settings["apiKey"]
    spare.stream(["slow"], gate=gate, gate_after=0)
    upstream.reply_status(400, {"error": {"message": f"bad key {KEYS[0]} and {KEYS[1]}"}})
    await proxy.start(providers={"vendor": settings, "spare": spare.provider(priority=1, apiKey=None)})

    for _ in range(2):
        await proxy.request("POST", "/", {"prompt": "Hi", "model": "vendor/m"}, {"Authorization": f"Bearer {CALLER}"})
    upstream.reply_status(503, {"error": {"message": f"no room for {KEYS[0]} and {KEYS[1]}"}})
    for _ in range(2):
        await proxy.request("POST", "/", {"prompt": "Hi", "model": "vendor/m"}, {"Authorization": f"Bearer {CALLER}"})
    running = asyncio.create_task(
        proxy.chat("Hello", model="spare/m", stream=True, headers={"Authorization": f"Bearer {CALLER}"})
    )
    await spare.wait_for_request()
    paths = ("providers/status", "providers/explain?model=vendor/m&format=native", "inflight", "health")
    told = "".join([(await proxy.request("GET", f"/{path}")).text for path in paths])
    gate.set()
    await running

    assert f"…{CALLER[-4:]}" in told
    assert "no room for ***" in told
    for secret in (*KEYS, CALLER):
        assert not any(secret[start : start + 6] in told for start in range(9, len(secret) - 5))


# -- explain ---------------------------------------------------------------------------------------------------------


async def test_explain_tells_who_is_asked_in_which_order_and_why_the_others_are_not(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(
        providers={
            "first": upstream.provider(models=["gpt-*"], prices={"gpt-*": {"input": 2, "output": 8}}),
            "second": spare.provider(models=["gpt-*"], priority=1),
            "claude": {"type": "anthropic", "baseUrl": "http://127.0.0.1:9", "models": ["*"]},
            "off": spare.provider(enabled=False),
        },
        failover={"attempts": 3, "models": {"gpt-4o": {"fallbacks": ["second/gpt-3", "nobody-has-it"]}}},
    )
    await ask(proxy, "POST", "/providers/first/drain")

    told = await ask(proxy, "GET", "/providers/explain?model=gpt-4o")

    assert told["summary"] == "second/gpt-4o is asked first"
    assert (told["first"], told["panic"]) == ("second/gpt-4o", False)
    assert [(one["candidate"], one["in"], one["why"]) for one in told["candidates"]] == [
        ("first/gpt-4o", False, "drained by an operator"),
        ("second/gpt-4o", True, "asked first"),
        ("off/gpt-4o", False, OFF),
    ]
    assert [one["candidate"] for one in told["fallbacks"]] == ["second/gpt-3"]
    assert told["candidates"][0]["price"] == {"input": 2.0, "output": 8.0}
    assert [one["provider"] for one in told["notCandidates"]] == ["claude"]
    assert told["balancer"]["strategy"] == "priority"
    assert (told["policy"]["attempts"], told["policy"]["fallbacks"]) == (3, ["second/gpt-3", "nobody-has-it"])
    assert (upstream.requests_seen, spare.requests_seen) == (0, 0)


async def test_explain_says_what_failover_and_routes_leave_out(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    route = {"when": {"header": {"X-Job": "batch-*"}, "minSize": "1KB"}, "use": ["second"]}
    await proxy.start(
        providers={"first": upstream.provider(), "second": spare.provider(priority=1)},
        failover={"models": {"alone": {"enabled": False}}},
        balancer={"routes": [route]},
    )

    alone = await ask(proxy, "GET", "/providers/explain?model=alone")
    small = await ask(proxy, "GET", "/providers/explain?model=m&header.X-Job=batch-1&size=10")
    large = await ask(proxy, "GET", "/providers/explain?model=m&header.X-Job=batch-1&size=2KB")

    assert [(one["candidate"], one["in"]) for one in alone["candidates"]] == [
        ("first/alone", True),
        ("second/alone", False),
    ]
    assert "failover is off" in alone["candidates"][1]["why"]
    assert small["first"] == "first/m"
    assert (large["first"], large["balancer"]["route"]) == ("second/m", 0)
    assert large["candidates"][1]["why"] == "left out by the balancer, or by another plugin that chooses"


@pytest.mark.parametrize(("model", "of_vendor"), [("gpt-4o", "gpt-4o"), ("fast", "x"), ("off/any", "any")])
async def test_explain_shows_who_has_the_model_and_is_disabled(
    proxy: ProxyHarness, upstream: FakeProvider, model: str, of_vendor: str
) -> None:
    await proxy.start(
        providers={"off": upstream.provider(models=["gpt-*"], enabled=False), "on": upstream.provider(models=["o3"])},
        models={"fast": ["off/x"]},
    )

    told = await ask(proxy, "GET", f"/providers/explain?model={model}")
    reply = await proxy.chat("Hello", model=model)

    assert told["summary"] == (
        "nobody is asked: every provider that has the model is disabled, and a client gets 404 model_not_found"
    )
    assert (told["first"], told["panic"], told["fallbacks"]) == (None, False, [])
    (row,) = told["candidates"]
    assert (row["candidate"], row["in"], row["cause"], row["why"]) == (f"off/{of_vendor}", False, "disabled", OFF)
    assert [one["provider"] for one in told["notCandidates"]] == ["on"]
    assert reply.status == 404


async def test_explain_names_who_has_room_where_the_first_has_none(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    providers = {"vendor": upstream.provider(maxConcurrency=1), "spare": spare.provider(priority=1)}
    await proxy.start(providers=providers)
    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()

    told = await ask(proxy, "GET", "/providers/explain?model=fake-model")
    reply = await proxy.chat("Hello")
    gate.set()
    await running

    assert told["summary"] == (
        "spare/fake-model is asked first, because vendor/fake-model is busy (1 of 1 calls, 0 wait)"
    )
    assert [(one["provider"], one["cause"]) for one in told["candidates"]] == [("spare", None), ("vendor", "busy")]
    assert told["candidates"][1]["slots"] == {"inUse": 1, "limit": 1, "waiting": 0}
    assert reply.text == "from the spare"


async def test_explain_says_that_the_retry_budget_of_the_process_is_used_up(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(), "spare": spare.provider(priority=1)})
    before = await ask(proxy, "GET", "/providers/explain?model=m")
    while proxy.app.pipeline.overview._kit.retries.withdraw():
        pass

    told = await ask(proxy, "GET", "/providers/explain?model=m")

    assert before["notes"] == []
    assert [note.partition(" (")[0] for note in told["notes"]] == ["the retry budget of the process is used up"]
    assert [(one["provider"], one["in"]) for one in told["candidates"]] == [("vendor", True), ("spare", False)]


async def test_explain_foretells_a_panic(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(500)
    await proxy.start(providers={"vendor": upstream.provider()}, breaker=BREAKER)
    for _ in range(2):
        await proxy.chat("Hello")

    told = await ask(proxy, "GET", "/providers/explain?model=fake-model&stream=true")

    assert (told["panic"], told["first"]) == (True, "vendor/fake-model")
    assert told["balancer"] is None  # there was nothing to put in order
    assert told["candidates"][0]["cause"] == "open"


@pytest.mark.parametrize(
    ("model", "format_name", "first"),
    [
        ("fast", "openai", "vendor/gpt-4o"),
        ("vendor/any", "openai", "vendor/any"),
        ("g-1", "gemini", "g/g-1"),
        ("g-1&stream=1", "gemini", "g/g-1"),
        ("g-1", "native", "g/g-1"),
        ("vendor/x%2Fy", "ollama", None),
    ],
)
async def test_explain_takes_what_a_request_takes(
    proxy: ProxyHarness, upstream: FakeProvider, model: str, format_name: str, first: str | None
) -> None:
    providers = {"vendor": upstream.provider(models=["gpt-*"]), "g": upstream.provider("gemini", models=["g-*"])}
    await proxy.start(providers=providers, models={"fast": ["vendor/gpt-4o"]})

    response = await proxy.request("GET", f"/providers/explain?model={model}&format={format_name}")

    document: Any = response.json()
    assert (response.status, document.get("first")) == ((200, first) if first else (501, None))


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("", 400, "?model: name a model, an alias or provider/model, as in /providers/explain?model=gpt-4o"),
        ("?model=", 400, "?model: name a model"),
        ("?model=nobody-has-it", 404, "no provider has the model 'nobody-has-it'; there are gpt-*"),
        ("?modle=gpt-4o", 400, "?modle: is not known here (did you mean model?)"),
        ("?model=gpt-4o&key=sk-mine", 400, "?key: a caller's key is not taken: secrets have no place in a URL"),
        ("?model=gpt-4o&header.X-Api-Key=a", 400, "?header.X-Api-Key: a secret has no place in a URL"),
        ("?model=gpt-4o&header.Authorization=a", 400, "?header.Authorization: a secret has no place in a URL"),
        ("?model=gpt-4o&header.X%20Y=a", 400, "?header.X Y: name a header, as in "),
        ("?model=gpt-4o&header.X-Y=a%0ab", 400, "?header.X-Y: has control characters"),
        ("?model=gpt-4o&format=soap", 400, "?format: is one of openai, anthropic, gemini, ollama, native"),
        ("?model=gpt-4o&stream=maybe", 400, "?stream: is true or false"),
        ("?model=gpt-4o&size=big", 400, '?size: a size is bytes or text such as "64MB"'),
        ("?model=gpt-4o&size=1GB", 400, "?size: is above server.clientMaxSize"),
        ("?model=gpt-4o&format=gemini", 501, "the model 'gpt-4o' is only at a provider of the openai format"),
    ],
)
async def test_explain_says_what_to_type(
    proxy: ProxyHarness, upstream: FakeProvider, query: str, status: int, detail: str
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-*"])})

    found = await refused(proxy, "GET", f"/providers/explain{query}")

    assert (found[0], found[1][: len(detail)]) == (status, detail)
    assert "sk-mine" not in found[1]


async def test_explain_takes_nobodys_turn_and_makes_no_lane(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(providers={"one": upstream.provider(), "two": spare.provider()}, balancer={"strategy": "latency"})

    for number in range(20):
        await ask(proxy, "GET", f"/providers/explain?model=m{number}")

    shown = await ask(proxy, "GET", "/providers/status")
    assert [one["modelsAsked"] for one in shown["providers"]] == [0, 0]
    assert (proxy.app.pipeline.in_flight, kinds(proxy)) == (0, [])


# -- drain and enable ------------------------------------------------------------------------------------------------


async def test_drained_provider_gets_no_new_call_and_ends_those_it_has(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"vendor": upstream.provider(), "spare": spare.provider(priority=1)})
    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()

    drained = await ask(proxy, "POST", "/providers/vendor/drain", X_Author="ann")
    again = await ask(proxy, "POST", "/providers/vendor/drain", X_Author="bob")
    elsewhere = await proxy.chat("Hello")
    sick = await problems(proxy)
    gate.set()
    answered = await running
    upstream.reply("from the vendor")
    enabled = await ask(proxy, "POST", "/providers/vendor/enable")
    await ask(proxy, "POST", "/providers/vendor/enable")
    back = await proxy.chat("Hello")

    assert (drained["state"], drained["inFlight"]) == ("drained", 1)
    assert drained["undo"] == f"curl -X POST {proxy.url}/providers/vendor/enable"
    assert again == drained
    assert (elsewhere.text, answered.text, back.text) == ("from the spare", "slow", "from the vendor")
    assert sick == ["provider vendor is drained (1 in flight); POST /providers/vendor/enable undoes it"]
    assert (enabled["state"], (await provider(proxy))["state"], await problems(proxy)) == ("unknown", "ok", [])
    assert kinds(proxy) == ["provider_drained", "provider_enabled"]
    assert proxy.events.recent()[0].fields["author"] == "ann"


async def test_drained_provider_that_is_named_is_not_asked_either(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})
    await ask(proxy, "POST", "/providers/vendor/drain")

    replies = [await proxy.chat("Hello"), await proxy.chat("Hello", model="vendor/m")]
    raw = await proxy.request("GET", "/proxy/vendor/models")

    assert [reply.status for reply in (*replies, raw)] == [503, 503, 503]
    assert "drained by an operator" in raw.text
    assert upstream.requests_seen == 0


async def test_request_that_waits_in_the_line_of_a_provider_goes_elsewhere_when_it_is_drained(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    spare.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(
        providers={
            "vendor": upstream.provider(maxConcurrency=1),
            "spare": spare.provider(maxConcurrency=1, priority=1),
        }
    )
    running = [asyncio.create_task(proxy.chat("Hello", stream=True)) for _ in range(3)]
    await until(lambda: proxy.app.pipeline.generation.endpoints["vendor"].slots.waiting == 1, "one in the line")

    drained = await ask(proxy, "POST", "/providers/vendor/drain")
    gate.set()
    replies = [await one for one in running]

    assert (drained["inFlight"], drained["queued"]) == (1, 0)
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert (upstream.requests_seen, spare.requests_seen) == (1, 2)
    assert all(endpoint.slots.in_use == 0 for endpoint in proxy.app.pipeline.generation.endpoints.values())


async def test_request_that_waits_to_ask_again_does_not_when_its_provider_is_drained(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(503, headers={"Retry-After": "1"})
    await proxy.start(providers={"vendor": upstream.provider()})
    running = asyncio.create_task(proxy.chat("Hello"))
    await until(lambda: [phase_of(one) for one in proxy.app.pipeline.running] == ["backoff"], "a wait")

    await ask(proxy, "POST", "/providers/vendor/drain")
    reply = await running

    assert (reply.status, upstream.requests_seen) == (503, 1)


async def test_drain_outlives_a_change_of_the_providers_settings(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})
    before = await ask(proxy, "POST", "/providers/vendor/drain")

    await proxy.request("PATCH", "/config", {"providers": {"vendor": {"weight": 3, "breaker": {"failures": 9}}}})

    after = await provider(proxy)
    assert (after["state"], after["since"], after["weight"]) == ("drained", before["since"], 3.0)


async def test_enable_closes_circuits_and_ends_cooldowns(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(429)
    await proxy.start(providers={"vendor": upstream.provider()}, breaker=BREAKER, failover={"attempts": 1})
    await proxy.chat("Hello")
    upstream.reply_status(500)
    for _ in range(2):
        await proxy.chat("Hello", model="other")
    before = await proxy.request("GET", "/metrics")

    enabled = await ask(proxy, "POST", "/providers/vendor/enable")
    after = await proxy.request("GET", "/metrics")

    assert enabled["forgotten"] == {"circuits": ["vendor/other"], "cooldowns": 1}
    assert 'proxy_circuit_state{name="vendor/other"} 1.0' in before.text
    assert 'proxy_circuit_state{name="vendor/other"} 0.0' in after.text
    assert {one["state"] for one in (await provider(proxy))["modelStates"]} == {"ok"}


@pytest.mark.parametrize("verb", ["drain", "enable"])
@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("nobody", 404, "there is no provider 'nobody'; there are vendor"),
        ("off", 409, "off is off by configuration: providers.off.enabled is false"),
        ("a%0ab", 404, r"there is no provider 'a\nb'; there are vendor"),
    ],
)
async def test_provider_that_cannot_be_drained_is_named(
    proxy: ProxyHarness, upstream: FakeProvider, verb: str, name: str, status: int, detail: str
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(), "off": upstream.provider(enabled=False)})

    assert await refused(proxy, "POST", f"/providers/{name}/{verb}") == (status, detail)


# -- reset -----------------------------------------------------------------------------------------------------------


async def test_reset_closes_circuits_and_ends_cooldowns_but_leaves_who_is_drained(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    await proxy.start(providers={"vendor": upstream.provider(), "spare": spare.provider(priority=1)}, breaker=BREAKER)
    for _ in range(2):
        await proxy.chat("Hello")
    await ask(proxy, "POST", "/providers/spare/drain")

    dry = await ask(proxy, "POST", "/reset?dryRun=true")
    still = await provider(proxy)
    reset = await ask(proxy, "POST", "/reset")
    again = await ask(proxy, "POST", "/reset")

    assert (dry["forgotten"], still["state"]) == (None, "open")
    assert reset["forgotten"] == {"circuits": ["vendor/fake-model"], "cooldowns": 0, "stillDrained": ["spare"]}
    assert again["forgotten"] == {"circuits": [], "cooldowns": 0, "stillDrained": ["spare"]}
    assert (await provider(proxy))["modelStates"][0]["state"] == "ok"
    assert kinds(proxy).count("routing_reset") == 1


@pytest.mark.parametrize("call", ["/reset", "/providers/vendor/enable"])
async def test_provider_is_failing_after_some_calls_until_it_is_judged_anew(
    proxy: ProxyHarness, upstream: FakeProvider, call: str
) -> None:
    upstream.reply_status(500)
    await proxy.start(providers={"vendor": upstream.provider()}, breaker={"enabled": False}, failover={"attempts": 1})
    states = []
    for _ in range(5):
        await proxy.chat("Hello")
        states.append((await provider(proxy))["state"])
    before = await problems(proxy)

    await ask(proxy, "POST", call)

    assert states == ["ok", "ok", "ok", "ok", "failing"]
    assert before == ["provider vendor failed 5 of 5 calls; see /providers/status"]
    assert ((await provider(proxy))["state"], await problems(proxy)) == ("unknown", [])
    metrics = (await proxy.request("GET", "/metrics")).text
    assert 'upstream_requests_total{model="fake-model",outcome="upstream_rejected",provider="vendor"} 5.0' in metrics


async def test_reset_that_is_refused_forgets_nothing(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(500)
    await proxy.start(providers={"vendor": upstream.provider()}, breaker=BREAKER)
    for _ in range(2):
        await proxy.chat("Hello")

    response = await proxy.request("POST", "/reset", headers={"If-Match": '"99"'})

    assert (response.status, (await provider(proxy))["state"]) == (412, "open")
