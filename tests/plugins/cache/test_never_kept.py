"""What is never given again: whatever is not the whole, successful answer that was asked for (A7, A8, F10)."""

import asyncio
import gzip
from typing import Any

import pytest

from proxy.testing import CutOff, FakeProvider, Faults, Pause, ProxyHarness, RawResponse
from tests.plugins.cache import refuser
from tests.plugins.cache.rig import (
    CALLS,
    CHAT,
    STREAMED,
    WHOLE,
    Call,
    Crowd,
    ask,
    begin,
    desk_of,
    not_kept,
    plugin_of,
    read_all,
    said,
    store_of,
    until,
    until_idle,
)

TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]}


async def ask_or_cut(proxy: ProxyHarness, call: Call = WHOLE["openai"], **fields: Any) -> RawResponse | None:
    """Give the answer, or None where it was cut."""
    try:
        return await ask(proxy, call, **fields)
    except CutOff:
        return None


async def both(proxy: ProxyHarness, upstream: FakeProvider, call: Call, **fields: Any) -> int:
    """Ask twice; how often the provider was asked for the second."""
    await ask_or_cut(proxy, call, **fields)
    await until_idle(proxy)
    before = upstream.requests_seen
    await ask_or_cut(proxy, call, **fields)
    await until_idle(proxy)
    return upstream.requests_seen - before


@pytest.mark.parametrize("status", [201, 202, 204, 206, 304, 400, 401, 404, 408, 422, 429, 500, 502, 503, 504, 529])
async def test_no_other_status_than_200_is_kept(proxy: ProxyHarness, upstream: FakeProvider, status: int) -> None:
    body = None if status in (204, 304) else {"choices": [], "usage": None}
    upstream.reply_status(status, body)
    await begin(proxy, upstream)

    await ask(proxy)
    await ask(proxy)
    await until_idle(proxy)

    assert len(store_of(proxy)) == 0
    assert sum(not_kept(proxy).values()) == 2


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("cut", ["rst", "fin"])
async def test_answer_that_was_cut_is_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider, name: str, cut: Any
) -> None:
    call = CALLS[name]
    faults = Faults(cut_after_events=2, cut=cut) if "streamed" in name else Faults(cut_after_bytes=20, cut=cut)
    upstream.stream(["Pa", "ris", " in", " France"], faults=faults)
    await begin(proxy, upstream, call.provider)

    asked = await both(proxy, upstream, call)

    assert (asked >= 1, len(store_of(proxy))) == (True, 0)


@pytest.mark.parametrize("name", STREAMED)
async def test_stream_without_its_end_is_not_kept(proxy: ProxyHarness, upstream: FakeProvider, name: str) -> None:
    upstream.stream(["Pa", "ris"], faults=Faults(cut_after_events=2, cut="fin", without_end=True))
    await begin(proxy, upstream, STREAMED[name].provider)

    assert await both(proxy, upstream, STREAMED[name]) >= 1
    assert len(store_of(proxy)) == 0


@pytest.mark.parametrize("name", STREAMED)
async def test_stream_with_an_error_in_it_is_not_kept(proxy: ProxyHarness, upstream: FakeProvider, name: str) -> None:
    upstream.stream(["Pa", "ris"], faults=Faults(error_event="broken"))
    await begin(proxy, upstream, STREAMED[name].provider)

    assert await both(proxy, upstream, STREAMED[name]) >= 1
    assert len(store_of(proxy)) == 0


GZIP = "Content-Encoding: gzip\r\n"
ERROR = b'{"error":{"message":"overloaded","type":"server_error"}}'
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"Paris"},"finish_reason":null}]}\n\n'


def raw(body: bytes, content_type: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@pytest.mark.parametrize("name", WHOLE)
async def test_error_that_comes_with_200_is_not_kept(proxy: ProxyHarness, upstream: FakeProvider, name: str) -> None:
    whole = raw(ERROR)
    upstream.reply_raw(whole[:-30], Pause(0.02), whole[-30:])  # in two reads, so that the client has its beginning
    await begin(proxy, upstream, WHOLE[name].provider)

    assert await both(proxy, upstream, WHOLE[name]) >= 1
    assert len(store_of(proxy)) == 0


async def test_error_after_which_the_stream_ends_in_order_is_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    whole = raw(DELTA + b"data: " + ERROR + b"\n\ndata: [DONE]\n\n", "text/event-stream")
    at = whole.index(DELTA) + len(DELTA)
    upstream.reply_raw(whole[:at], Pause(0.02), whole[at:])
    await begin(proxy, upstream)

    assert await both(proxy, upstream, STREAMED["openai"]) == 1
    assert not_kept(proxy) == {"it tells an error": 2}


@pytest.mark.parametrize("body", [b"", b"Paris", b"<html>Busy</html>", b'{"choices":[', b'{"a":1}{"b":2}', b"NaN"])
async def test_whole_body_that_is_not_json_is_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider, body: bytes
) -> None:
    upstream.reply_raw(raw(body))
    await begin(proxy, upstream)

    assert await both(proxy, upstream, WHOLE["openai"]) == 1
    assert not_kept(proxy) == {"not JSON": 2}


@pytest.mark.parametrize("name", ["openai", "openai, streamed", "gemini", "gemini array, streamed", "ollama, streamed"])
async def test_compressed_answer_that_nobody_asked_for_is_relayed_and_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    body, call = gzip.compress(DELTA + b"data: [DONE]\n\n"), CALLS[name]
    content_type = "text/event-stream" if "streamed" in name else "application/json"
    upstream.reply_raw(raw(body, content_type, GZIP))
    await begin(proxy, upstream, call.provider)

    replies = [await ask(proxy, call) for _ in range(2)]

    assert [said(each)[1] for each in replies] == ["miss", "miss"]
    assert [(each.body, each.header("content-encoding")) for each in replies] == [(body, "gzip")] * 2
    assert not_kept(proxy) == {"encoded": 2}


async def test_those_who_share_a_compressed_answer_are_told_so(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    body, gate = gzip.compress(DELTA + b"data: [DONE]\n\n"), asyncio.Event()
    upstream.reply_raw(gate, raw(body, "text/event-stream", GZIP))
    await begin(proxy, upstream)

    async with Crowd(proxy) as crowd:
        await crowd.ask(3, STREAMED["openai"])
        await crowd.follow(2)
        gate.set()
        replies = await read_all(crowd.clients)

    assert [(each.body, each.header("content-encoding")) for each in replies] == [(body, "gzip")] * 3
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("name", [name for name in CALLS if "completions" not in name and "native" not in name])
async def test_call_of_a_tool_is_kept_only_where_that_is_said(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    call = CALLS[name]
    upstream.reply_tool_call("weather", {"city": "Paris"})
    await begin(proxy, upstream, call.provider)
    asked = await both(proxy, upstream, call)
    reasons = not_kept(proxy)

    await begin(proxy, upstream, call.provider, toolCalls=True)
    asked_where_allowed = await both(proxy, upstream, call)

    assert (asked, reasons, asked_where_allowed) == (1, {"calls a tool": 2}, 0)


async def test_answer_without_a_call_is_kept_though_tools_were_offered(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("no tool_calls here")
    await begin(proxy, upstream)

    assert await both(proxy, upstream, WHOLE["openai"], **TOOLS) == 0


@pytest.mark.parametrize("name", ["openai", "openai, streamed", "anthropic, streamed", "ollama, streamed"])
async def test_answer_larger_than_max_entry_is_relayed_whole_and_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider, name: str
) -> None:
    upstream.stream(["x" * 1000] * 20)
    await begin(proxy, upstream, CALLS[name].provider, maxEntry=5000)

    replies = [await ask(proxy, CALLS[name]) for _ in range(2)]

    assert [each.body.count(b"x" * 1000) for each in replies] == [20, 20]
    assert (not_kept(proxy), len(store_of(proxy))) == ({"larger than maxEntry": 2}, 0)


async def test_answer_of_exactly_max_entry_is_kept(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await begin(proxy, upstream)
    size = len((await ask(proxy)).body)

    await begin(proxy, upstream, maxEntry=size)
    fitting = await both(proxy, upstream, WHOLE["openai"])
    await begin(proxy, upstream, maxEntry=size - 1)
    beyond = await both(proxy, upstream, WHOLE["openai"])

    assert (fitting, beyond) == (0, 1)


FIELDS: list[dict[str, Any]] = [
    {"previous_response_id": "resp_1"},
    {"conversation": "conv_1"},
    {"background": True},
    {"container": "c_1"},
    {"cachedContent": "cachedContents/1"},
    {"cached_content": "cachedContents/1"},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: next(iter(fields)))
async def test_request_that_builds_on_what_the_vendor_holds_is_left_alone(
    proxy: ProxyHarness, upstream: FakeProvider, fields: dict[str, Any]
) -> None:
    await begin(proxy, upstream)

    replies = [await ask(proxy, **fields) for _ in range(2)]

    assert [said(each) for each in replies] == [(200, "bypass", f"{next(iter(fields))} is set")] * 2
    assert upstream.requests_seen == 2


RAW = [
    ("GET", "/v1/models", None),
    ("HEAD", "/v1/models", None),
    ("GET", "/v1/models/fake-model", None),
    ("POST", "/v1/images/generations", {"model": "fake-model", "prompt": "a"}),
    ("POST", "/v1/chat/completions/extra", CHAT),
    ("POST", "/proxy/vendor/chat/completions", CHAT),
    ("POST", "/api/show", {"model": "fake-model"}),
]


@pytest.mark.parametrize(("method", "path", "body"), RAW, ids=[f"{method} {path}" for method, path, _ in RAW])
async def test_paths_that_ask_no_model_are_left_alone(
    proxy: ProxyHarness, upstream: FakeProvider, method: str, path: str, body: dict[str, Any] | None
) -> None:
    upstream.reply_status(200, {"data": []})
    await begin(proxy, upstream, "ollama" if path.startswith("/api") else "openai")

    replies = [await proxy.request(method, path, body) for _ in range(2)]

    assert [said(each) for each in replies] == [(replies[0].status, None, None)] * 2
    assert (len(store_of(proxy)), sum(plugin_counts(proxy))) == (0, 0)


def plugin_counts(proxy: ProxyHarness) -> list[int]:
    described = plugin_of(proxy)._ledger.describe()
    return [described[name] for name in ("hits", "misses", "bypassed", "coalesced", "stale")]


async def test_request_that_is_not_json_costs_nothing_and_is_told_apart_from_none(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await begin(proxy, upstream)

    replies = [await proxy.request("POST", "/v1/chat/completions", body) for body in (b"{", b"[]", b'"a"', b"")]

    assert [said(each) for each in replies] == [(400, None, None)] * 4
    assert upstream.requests_seen == 0


async def test_model_nobody_has_is_answered_as_without_a_cache(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider(models=["fake-model"])}, cache={"enabled": True})

    reply = await ask(proxy, model="nobodys")
    await until_idle(proxy)

    assert said(reply) == (404, None, None)


PLUGINS = ["cache", "tests.plugins.cache.refuser"]


@pytest.mark.parametrize(("order", "status"), [("refuse", 403), ("answer", 200)])
async def test_what_another_plugin_says_is_not_kept(
    proxy: ProxyHarness, upstream: FakeProvider, order: str, status: int
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True}, plugins=PLUGINS)

    replies = [await ask(proxy, headers={"X-Refuser": order}) for _ in range(2)]
    await until_idle(proxy)
    asked = await ask(proxy)

    assert [said(each)[:2] for each in replies] == [(status, "miss")] * 2
    assert (said(asked)[1], upstream.requests_seen) == ("miss", 1)


async def test_those_who_wait_for_a_request_that_is_refused_do_not_wait_any_longer(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, cache={"enabled": True}, plugins=PLUGINS)
    gate = refuser.GATES["refuse"] = asyncio.Event()

    async with Crowd(proxy) as crowd:
        await crowd.ask(1, headers={"X-Refuser": "wait, then refuse"})
        await until(lambda: len(desk_of(proxy).flights) == 1, "a call under way")
        await crowd.ask(5)
        await crowd.follow(5)
        gate.set()
        replies = await read_all(crowd.clients)
    await until_idle(proxy)

    assert [each.status for each in replies] == [403, *[200] * 5]
    assert upstream.requests_seen == 1


async def test_echo_is_kept_like_any_other(proxy: ProxyHarness) -> None:
    await proxy.start(providers={"echo": {"type": "echo"}}, cache={"enabled": True})

    replies = [await ask(proxy, model="echo/echo") for _ in range(2)]

    assert [said(each)[1] for each in replies] == ["miss", "hit"]
    assert replies[0].body == replies[1].body
