"""One exchange's journey through a real proxy in this process: who is asked, with which key, and what is noted."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness, RawClient


@pytest.fixture
async def spare() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        provider.reply("from the spare")
        yield provider


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
async def test_next_provider_makes_a_failing_one_good(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.text) == (200, "from the spare")
    assert [event.kind for event in proxy.events.recent()] == ["failover"]


@pytest.mark.parametrize("status", [400, 404, 409, 422])
async def test_clients_own_mistake_is_not_taken_elsewhere(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status)
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert reply.status == status
    assert spare.requests_seen == 0


async def test_no_other_provider_is_asked_when_fallback_is_off(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(
        providers={"first": upstream.provider(), "second": spare.provider(priority=1)}, enable_fallback_providers=False
    )

    reply = await proxy.chat("Hello")

    assert (reply.status, spare.requests_seen) == (503, 0)


async def test_last_word_names_everybody_with_a_reason_and_tells_the_most(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(500)
    spare.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n")
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert reply.status == 500
    assert (reply.header("x-attempts"), reply.header("x-should-retry")) == ("2", "false")
    assert reply.header("x-failed-attempts") == "first;kind=server-error;status=500, second;kind=reset"
    assert "first/fake-model: answered with status 500 (upstream_rejected); " in reply.response.text
    assert "second/fake-model: response head with a length that is no number (upstream_protocol)" in reply.response.text


async def test_refused_key_of_the_proxy_is_502_without_the_vendors_text(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(401, {"error": {"message": "Incorrect API key provided: sk-fake-very-secret"}})
    await proxy.start(providers={"vendor": upstream.provider()})

    reply = await proxy.chat("Hello")

    assert reply.status == 502
    assert "upstream_auth" in reply.response.text
    assert "very-secret" not in reply.response.text


async def test_clients_key_goes_to_the_only_provider_without_one(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider(apiKey=None)})

    await proxy.chat("Hello", headers={"Authorization": "Bearer sk-mine"})

    assert upstream.last_request.header("authorization") == "Bearer sk-mine"


async def test_clients_key_goes_to_nobody_where_two_could_be_meant(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(
        providers={"first": upstream.provider(apiKey=None), "second": spare.provider(apiKey=None, priority=1)}
    )

    await proxy.chat("Hello", headers={"Authorization": "Bearer sk-mine"})
    await proxy.chat("Hello", model="second/any", headers={"Authorization": "Bearer sk-mine"})

    assert upstream.last_request.header("authorization") is None
    assert spare.last_request.header("authorization") == "Bearer sk-mine"


async def test_same_headers_go_to_each_provider_with_its_own_key(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await proxy.start(
        providers={
            "one": upstream.provider(apiKey="sk-one", models=["one"]),
            "two": spare.provider(apiKey="sk-two", models=["two"]),
        }
    )
    body = b'{"model": "%b", "messages": [{"role": "user", "content": "Hi"}]}'

    async with RawClient(proxy.url) as client:
        for model in (b"one", b"two", b"one"):
            await client.request("POST", "/v1/chat/completions", body % model)

    assert [request.header("authorization") for request in upstream.requests] == ["Bearer sk-one"] * 2
    assert [request.header("authorization") for request in spare.requests] == ["Bearer sk-two"]


async def test_native_request_without_a_model_takes_the_default(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-*"])}, native={"defaultModel": "gpt-4o-mini"})

    reply = await proxy.request("POST", "/", {"prompt": "Capital of France?"})

    assert reply.json()["response"] == "Paris"  # type: ignore[index]  # JSON of our own making
    assert orjson.loads(upstream.last_request.body)["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("format_name", ["openai", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_native_api_works_on_top_of_every_format(
    proxy: ProxyHarness, upstream: FakeProvider, format_name: str, is_streaming: bool
) -> None:
    upstream.stream(["Par", "is"]) if is_streaming else upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider(format_name)})  # type: ignore[arg-type]  # a Format

    reply = await proxy.request("POST", "/", {"prompt": "Capital?", "model": "fake-model", "stream": is_streaming})

    assert reply.status == 200
    assert '"response":"Paris"' in reply.text
    assert '"provider":"vendor"' in reply.text
    assert reply.text.count('"delta"') == (2 if is_streaming else 0)


async def test_providers_error_is_told_in_the_native_format_with_its_status(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(422, {"error": {"message": "too odd"}})
    await proxy.start(providers={"vendor": upstream.provider()})

    reply = await proxy.request("POST", "/", {"prompt": "x", "model": "fake-model"})

    assert reply.status == 422
    assert "vendor answered with status 422: too odd" in reply.text


async def test_beyond_the_queue_requests_are_refused_at_once_and_slots_come_back(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["slow"], gate=gate, gate_after=0)
    await proxy.start(providers={"vendor": upstream.provider()}, max_concurrency=1, max_queue=0)

    running = asyncio.create_task(proxy.chat("Hello", stream=True))
    await upstream.wait_for_request()
    refused = await proxy.chat("Hello")
    gate.set()
    answered = await running

    assert (refused.status, answered.status) == (503, 200)
    assert int(refused.header("retry-after") or 0) >= 1
    assert (proxy.app.pipeline.slots.in_use, proxy.app.pipeline.in_flight) == (0, 0)


async def test_stream_that_never_ends_properly_ends_with_an_error_event_and_a_cut(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["one", "two"], faults=Faults(without_end=True))
    await proxy.start(providers={"vendor": upstream.provider()})

    with pytest.raises(CutOff) as caught:
        await proxy.chat("Hello", stream=True)

    events = caught.value.partial.split(b"\n\n")
    assert [event.count(b'"content":"') for event in events[1:3]] == [1, 1]
    assert b'"code":"upstream_cut"' in events[-2]
    assert events[-1].strip() == b""


async def test_reply_reaches_a_client_that_writes_before_it_reads(proxy: ProxyHarness) -> None:
    await proxy.start(server={"clientMaxSize": "1MB"})

    async with RawClient(proxy.url) as client:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1900000\r\n\r\n")
        await client.send(b"x" * 1_900_000)
        response = await client.read_response()

    assert response.status == 413
    assert response.header("connection") == "close"


async def test_usage_is_counted_once_for_each_provider_and_model(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()})

    await proxy.chat("Hello")
    metrics = await proxy.request("GET", "/metrics")

    assert 'proxy_upstream_requests_total{model="fake-model",outcome="ok",provider="vendor"} 1.0' in metrics.text
    assert 'proxy_http_requests_total{method="POST",route="openai.chat",status="200"} 1.0' in metrics.text


async def test_models_known_by_pattern_only_are_asked_of_the_provider(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-*"])})

    reply = await proxy.request("GET", "/v1/models")

    assert reply.status == 200
    assert upstream.last_request.path == "/v1/models"


async def test_exact_models_and_aliases_are_listed_without_asking(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(
        providers={"vendor": upstream.provider(models=["gpt-4o", "o*"])}, models={"fast": ["vendor/gpt-4o"]}
    )

    reply = await proxy.request("GET", "/v1/models")

    assert [one["id"] for one in reply.json()["data"]] == ["fast", "gpt-4o"]  # type: ignore[index]
    assert upstream.requests_seen == 0


async def test_alias_reaches_the_provider_under_the_models_own_name_and_nothing_else_changes(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, models={"fast": ["vendor/gpt-4o-mini"]})
    body = b'{ "messages": [{"role":"user","content":"model"}],  "unknown": 1.50, "model" : "fast" }'

    await proxy.request("POST", "/v1/chat/completions", body)

    assert upstream.last_request.body == body.replace(b'"fast"', b'"gpt-4o-mini"')


@pytest.mark.parametrize("is_fallback_on", [True, False])
async def test_clients_key_is_withheld_however_the_choice_is_narrowed(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, is_fallback_on: bool
) -> None:
    await proxy.start(
        providers={"first": upstream.provider(apiKey=None), "second": spare.provider(apiKey=None, priority=1)},
        enable_fallback_providers=is_fallback_on,
    )

    await proxy.chat("Hello", headers={"Authorization": "Bearer sk-mine"})
    await proxy.request("GET", "/v1/files", headers={"Authorization": "Bearer sk-mine"})

    assert [request.header("authorization") for request in upstream.requests] == [None, None]


@pytest.mark.parametrize("status", [200, 401, 413])
async def test_reply_that_comes_before_the_upload_ends_is_the_only_one(
    proxy: ProxyHarness, upstream: FakeProvider, status: int
) -> None:
    upstream.answers_before_body = True
    upstream.reply_raw(b"HTTP/1.1 %d Early\r\nContent-Length: 5\r\n\r\nearly" % status)
    await proxy.start(providers={"vendor": upstream.provider("http", apiKey=None, models=[])})

    async with RawClient(proxy.url) as client:
        await client.send(b"POST /proxy/vendor/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nhalf")
        raw = await client.read_until_closed()

    assert raw.count(b"HTTP/1.") == 1
    assert raw.endswith(b"early")


async def test_list_answered_from_the_configuration_is_an_exchange_too(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(models=["gpt-4o"])})

    await proxy.request("GET", "/v1/models")
    metrics = await proxy.request("GET", "/metrics")

    assert 'proxy_http_requests_total{method="GET",route="openai.models",status="200"} 1.0' in metrics.text


async def test_alias_is_replaced_on_paths_without_special_handling(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, models={"voice": ["vendor/tts-1"]})

    await proxy.request(
        "POST", "/v1/audio/speech", b'{"model": "voice", "input": "x"}', {"Content-Type": "application/json"}
    )

    assert upstream.last_request.body == b'{"model": "tts-1", "input": "x"}'


async def test_vendors_ids_and_origins_do_not_pass_for_ours(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_raw(
        b"HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\n{}"
    )
    await proxy.start(providers={"vendor": upstream.provider()})

    reply = await proxy.request("POST", "/v1/embeddings", {"model": "m", "input": "x"}, {"X-Request-Id": "ours"})

    assert (reply.header("x-request-id"), reply.header("x-upstream-request-id")) == ("ours", "theirs")
    assert reply.header("access-control-allow-origin") is None


async def test_last_word_after_retries_asks_sdks_not_to_multiply_them(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503)
    spare.reply_status(503, headers={"x-should-retry": "true"})
    await proxy.start(providers={"first": upstream.provider(), "second": spare.provider(priority=1)})

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("x-should-retry"), reply.header("x-attempts")) == (503, "false", "4")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/nowhere"), ("POST", "/proxy/vendor/x"), ("GET", "/v1/models")]
)
async def test_no_kind_of_request_keeps_the_proxy_from_draining(
    proxy: ProxyHarness, upstream: FakeProvider, method: str, path: str
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})

    await proxy.request(method, path, b"{}" if method == "POST" else None)

    assert await proxy.app.drain(1)


async def test_upload_that_has_begun_is_finished_while_draining(proxy: ProxyHarness) -> None:
    await proxy.start()
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'

    async with RawClient(proxy.url) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        await client.send(body[:10])
        await asyncio.sleep(0.02)  # the head has been read: a request is in work
        draining = asyncio.create_task(proxy.app.drain(5))
        await asyncio.sleep(0.02)
        await client.send(body[10:])
        response = await client.read_response()

    assert response.status == 200
    assert response.header("connection") == "close"
    assert await draining


async def test_providers_error_within_a_translated_stream_is_told_in_its_own_words(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["one", "two"], faults=Faults(error_event="out of luck"))
    await proxy.start(providers={"vendor": upstream.provider()})

    with pytest.raises(CutOff) as caught:
        await proxy.request("POST", "/", {"prompt": "x", "model": "fake-model", "stream": True})

    assert b"event: error" in caught.value.partial
    assert b"out of luck" in caught.value.partial


async def test_headers_of_unusual_size_are_not_kept_while_a_connection_idles(proxy: ProxyHarness) -> None:
    await proxy.start()
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'

    async with RawClient(proxy.url) as client:
        response = await client.request("POST", "/v1/chat/completions", body, {"X-Large": "x" * 12_000})
        kept = [connection.facts for connection in proxy.app.connections]

    assert response.status == 200
    assert kept == [None]


async def test_plugins_header_that_breaks_out_of_its_line_is_not_sent(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=["tests.proxy.broken_reply"])

    response = await proxy.request("POST", "/v1/chat/completions", {"model": "any", "messages": []})

    assert (response.status, orjson.loads(response.body)["error"]["code"]) == (500, "internal_error")
    assert (response.header("X-Model"), response.header("Set-Cookie")) == (None, None)


async def test_head_written_for_one_request_of_a_connection_never_serves_an_unlike_one(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gemini, openai = upstream.provider("gemini", models=["g-*"]), upstream.provider("openai", models=["o-*"])
    await proxy.start(providers={"g": gemini, "o": openai}, models={"alias": ["g/g-3"]})
    ask = orjson.dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})
    calls = [
        ("/v1beta/models/g-1:generateContent", "Accept", "a", ask),
        ("/v1beta/models/g-1:generateContent", "Accept", "a", ask),
        ("/v1beta/models/g-1:generateContent?alt=json", "Accept", "a", ask),
        ("/v1beta/models/g-1:generateContent", "Accept", "a", ask),
        ("/v1beta/models/g-1:generateContent", "Accept", "b", ask),
        ("/v1beta/models/g-2:generateContent", "Accept", "a", ask),
        ("/v1beta/models/alias:generateContent", "Accept", "a", ask),
        ("/v1/embeddings", "Accept", "b", b'{"model":"o-1","input":"x"}'),
        ("/v1/chat/completions", "Accept", "b", b'{"model":"o-1","messages":[{"role":"user","content":"Hi"}]}'),
    ]

    async with RawClient(proxy.url) as client:
        statuses = [
            (await client.request("POST", path, body, {name: value})).status for path, name, value, body in calls
        ]

    seen = [
        (one.path, one.query, one.header("accept"), int(one.header("content-length") or 0)) for one in upstream.requests
    ]
    assert statuses == [200] * len(calls)
    assert seen == [
        ("/v1beta/models/g-1:generateContent", "", "a", len(ask)),
        ("/v1beta/models/g-1:generateContent", "", "a", len(ask)),
        ("/v1beta/models/g-1:generateContent", "alt=json", "a", len(ask)),
        ("/v1beta/models/g-1:generateContent", "", "a", len(ask)),
        ("/v1beta/models/g-1:generateContent", "", "b", len(ask)),
        ("/v1beta/models/g-2:generateContent", "", "a", len(ask)),
        ("/v1beta/models/g-3:generateContent", "", "a", len(ask)),
        ("/v1/embeddings", "", "b", len(calls[-2][3])),
        ("/v1/chat/completions", "", "b", len(calls[-1][3])),
    ]


async def test_second_target_of_an_alias_at_the_same_provider_is_asked_by_its_own_name(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.once.reply_status(503)
    await proxy.start(providers={"g": upstream.provider("gemini")}, models={"alias": ["g/g-1", "g/g-2"]})

    reply = await proxy.request("POST", "/v1beta/models/alias:generateContent", {"contents": []})

    assert reply.status == 200
    assert [one.path.rpartition("/")[2] for one in upstream.requests] == ["g-1:generateContent", "g-2:generateContent"]


async def test_header_that_a_plugin_adds_to_each_request_reaches_the_provider(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"o": upstream.provider()}, plugins=["tests.proxy.counting_header"])
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'

    async with RawClient(proxy.url) as client:
        for _ in range(3):
            await client.request("POST", "/v1/chat/completions", body)

    assert [one.header("x-number") for one in upstream.requests] == ["1", "2", "3"]


async def test_key_that_would_break_out_of_its_header_is_the_clients_fault(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    keyless = {**upstream.provider("gemini"), "apiKey": ""}
    await proxy.start(providers={"g": keyless})

    path = "/v1beta/models/g-1:generateContent?key=a%0d%0aX-Injected:%20b"
    response = await proxy.request("POST", path, {"contents": []})

    assert (response.status, upstream.requests_seen) == (400, 0)
