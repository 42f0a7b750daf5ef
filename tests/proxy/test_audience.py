"""Who reads a response beside its client: hears all of it, may outstay the client, may know better than an error."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest

from proxy import hookimpl
from proxy.errors import Cancelled, ProxyError, UpstreamCut
from proxy.events import Events
from proxy.journey.shared_sink import Shared
from proxy.tasks import Tasks
from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness, RawClient
from proxy.testing.raw_client import encode_request
from tests.e2e.rig import until
from tests.proxy import listener
from tests.proxy.upstream.recording import RecordingSink

PLUGINS = ["tests.proxy.listener"]
CHAT = {"model": "fake-model", "messages": [{"role": "user", "content": "Hello"}]}


def streamed_chat(headers: dict[str, str] | None = None) -> bytes:
    body = orjson.dumps({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    return encode_request("POST", "/v1/chat/completions", body, headers, host="127.0.0.1")


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    yield
    listener.HEARD.clear()
    listener.ENDED.clear()


async def test_audience_hears_what_the_client_gets(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    whole = await proxy.chat("Capital of France?")
    streamed = await proxy.chat("Capital of France?", stream=True)

    assert (whole.text, streamed.text, whole.header("x-listener")) == ("Paris", "Paris", "1")
    assert [one.body for one in listener.HEARD] == [whole.response.body, streamed.response.body]
    assert [(one.status, one.ends) for one in listener.HEARD] == [(200, ["whole"])] * 2


async def test_audience_hears_that_a_stream_was_cut(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["a", "b", "c"], faults=Faults(cut_after_events=2))
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    with pytest.raises(CutOff):
        await proxy.request("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    await listener.wait_for_ended()

    assert [type(end) for end in listener.HEARD[0].ends] == [UpstreamCut]


async def test_told_header_goes_with_errors_too(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_status(400)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("x-listener")) == (400, "1")


async def test_work_goes_on_without_its_client_while_somebody_listens(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["x"] * 20, delay_s=0.02)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(streamed_chat({"X-Listener": "stay"}))
        await upstream.wait_for_request()
    await listener.wait_for_ended()

    assert listener.HEARD[0].ends == ["whole"]
    assert listener.HEARD[0].concluded_with == [499]
    assert listener.HEARD[0].body.endswith(b"data: [DONE]\n\n")
    assert (listener.ENDED[0].status, listener.ENDED[0].usage is not None) == (499, True)
    assert proxy.app.pipeline.slots.in_use == 0
    assert upstream.early_closes == []


async def test_work_ends_with_its_client_when_nobody_else_listens(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["x"] * 1000, delay_s=0.02)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(streamed_chat())
        await upstream.wait_for_request()
    await upstream.wait_for_disconnect()
    await listener.wait_for_ended()

    assert listener.HEARD[0].ends == [None]
    assert proxy.app.pipeline.slots.in_use == 0


async def test_operator_ends_the_work_for_everybody(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["x"] * 1000, delay_s=0.02)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(streamed_chat({"X-Listener": "stay"}))
        await upstream.wait_for_request()
        exchange = next(iter(proxy.app.pipeline.running))
        assert proxy.app.pipeline.cancel(exchange, "by an operator")
        await upstream.wait_for_disconnect()
    await listener.wait_for_ended()

    assert listener.HEARD[0].ends == [None]
    assert isinstance(listener.ENDED[0].error, Cancelled)


@pytest.mark.parametrize("status", [500, 503])
async def test_audience_that_knows_better_answers_instead_of_an_error(
    proxy: ProxyHarness, upstream: FakeProvider, status: int
) -> None:
    upstream.reply_status(status)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    reply = await proxy.request("POST", "/v1/chat/completions", CHAT, {"X-Listener": "better"})
    refused = await proxy.request("POST", "/v1/chat/completions", CHAT)

    assert (reply.status, reply.body) == (200, b"what was known before")
    assert refused.status == status
    assert all(isinstance(end, ProxyError) for one in listener.HEARD[:1] for end in one.ends)


async def test_request_is_asked_anew_for_an_audience_alone(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)
    await proxy.chat("Capital of France?")
    await listener.wait_for_ended()
    audience = listener.Listener(is_wanted=False, has_better=False)

    is_begun = proxy.app.pipeline.refresh(listener.ENDED[0], audience)
    await listener.wait_for_ended(2)

    assert (is_begun, audience.ends, len(listener.HEARD)) == (True, ["whole"], 1)
    assert audience.body == listener.HEARD[0].body
    assert (listener.ENDED[1].is_background, listener.ENDED[1].status, upstream.requests_seen) == (True, 200, 2)


async def test_nothing_is_asked_anew_when_all_slots_are_taken(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS, max_concurrency=1)
    await proxy.chat("Hello")
    await listener.wait_for_ended()
    assert proxy.app.pipeline.slots.try_take()

    is_begun = proxy.app.pipeline.refresh(listener.ENDED[0], listener.Listener(is_wanted=False, has_better=False))

    assert (is_begun, upstream.requests_seen) == (False, 1)


async def test_what_no_client_waits_for_ends_before_the_plugins_do(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    had_ended: list[int] = []

    async def shutdown(self: object) -> None:
        had_ended.append(len(listener.ENDED))

    monkeypatch.setattr(listener.ListenerPlugin, "shutdown", hookimpl(shutdown), raising=False)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)
    await proxy.chat("Hello")
    await listener.wait_for_ended()
    upstream.reply("late", faults=Faults(delay_s=60))
    assert proxy.app.pipeline.refresh(listener.ENDED[0], listener.Listener(is_wanted=False, has_better=False))
    await upstream.wait_for_request(2)

    await proxy.stop()

    assert had_ended == [2]


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("method", ["start", "write", "finish", "concluded"])
async def test_client_goes_on_without_an_audience_that_fails(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch, method: str, is_stream: bool
) -> None:
    monkeypatch.setattr(listener.Listener, method, _fails)
    upstream.stream(["Pa", "ris"]) if is_stream else upstream.reply("Paris")
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    reply = await proxy.chat("Capital of France?", stream=is_stream)
    await listener.wait_for_ended()

    assert reply.text == "Paris"
    assert [event.kind for event in proxy.events.recent()] == ["plugin_failed"]


@pytest.mark.parametrize("method", ["covers", "instead"])
async def test_error_is_told_as_it_is_when_the_audience_fails_at_a_better_one(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(listener.Listener, method, _fails)
    upstream.reply_status(503)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    reply = await proxy.request("POST", "/v1/chat/completions", CHAT, {"X-Listener": "better"})
    await listener.wait_for_ended()

    assert (reply.status, reply.header("x-request-id") is None) == (503, False)
    assert [event.kind for event in proxy.events.recent()].count("plugin_failed") == 1
    assert listener.HEARD[0].concluded_with == [503]


@pytest.mark.parametrize("method", ["is_wanted", "when_unwanted"])
async def test_client_that_leaves_is_let_go_when_the_audience_fails(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    upstream.stream(["x"] * 1000, delay_s=0.02)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(streamed_chat({"X-Listener": "stay"}))
        await upstream.wait_for_request()
        if method == "is_wanted":
            monkeypatch.setattr(listener.Listener, "__getattribute__", _has_no_wish)
        else:
            monkeypatch.setattr(listener.Listener, method, _fails)
    await upstream.wait_for_disconnect()
    await listener.wait_for_ended()

    assert proxy.app.pipeline.slots.in_use == 0
    assert listener.ENDED[0].status == 499


async def test_nothing_more_is_paid_for_an_audience_that_failed_after_its_client_left(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.stream(["x"] * 1000, delay_s=0.02)
    await proxy.start(providers={"vendor": upstream.provider()}, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(streamed_chat({"X-Listener": "stay"}))
        await upstream.wait_for_request()
        exchange = next(iter(proxy.app.pipeline.running))
    await until(lambda: exchange.has_client_left, "the client is known to have left")
    monkeypatch.setattr(listener.Listener, "write", _fails)
    await upstream.wait_for_disconnect()
    await listener.wait_for_ended()

    assert proxy.app.pipeline.slots.in_use == 0


async def test_whole_reply_waits_for_its_client_although_the_audience_is_behind_too() -> None:
    client, tasks = RecordingSink(), Tasks(Events())
    client.keeps_up = False
    audience = listener.Listener(is_wanted=False, has_better=False)
    audience.write = lambda data: False  # type: ignore[method-assign]
    shared = Shared(client, audience, lambda error: None, tasks, 60.0)

    is_ready = shared.whole(200, b"", b"{}")
    waiting = asyncio.ensure_future(shared.drain())
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not waiting.done()
    client.catch_up()
    await waiting

    assert (is_ready, is_waiting) == (False, True)
    await tasks.close()


@pytest.mark.parametrize(("is_client_ready", "is_audience_ready"), [(True, True), (True, False), (False, True)])
async def test_whole_reply_says_whether_somebody_is_behind(is_client_ready: bool, is_audience_ready: bool) -> None:
    client = RecordingSink()
    client.keeps_up = is_client_ready
    audience = listener.Listener(is_wanted=False, has_better=False)
    audience.write = lambda data: is_audience_ready  # type: ignore[method-assign]
    shared = Shared(client, audience, lambda error: None, Tasks(Events()), 60.0)

    assert shared.whole(200, b"", b"{}") is (is_client_ready and is_audience_ready)


def _fails(self: object, *arguments: object) -> bool:
    raise RuntimeError("broken")


def _has_no_wish(self: object, name: str) -> object:
    if name == "is_wanted":
        raise RuntimeError("broken")
    return object.__getattribute__(self, name)
