"""Streams arrive byte for byte and event for event, and never look whole when they are not."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from proxy.testing import CutOff, FakeProvider, Faults, ProxyProcess, RawClient, RawResponse
from tests.e2e.rig import STREAMS, Call, ask

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORMATS = ["openai", "responses", "anthropic", "gemini", "ollama"]
TEXTS = ["One", " zwei", " trois", " 四", " ✓\n", " six"]
BLOCK = b"x" * (64 << 10)
LARGE_BYTES = 20 << 20
SLOW_READERS = 20
SLOW_READER_BYTES = 512 << 10


async def stream_of(server: ProxyProcess | FakeProvider, call: Call, **more: Any) -> RawResponse:
    return await ask(server, "POST", call.path, call.body(**more), call.headers)


async def cut_stream(proxy: ProxyProcess, call: Call) -> bytes:
    """The body of a stream whose connection ends without the final chunk."""
    async with RawClient(proxy.url) as client:
        with pytest.raises(CutOff) as raised:
            await client.request("POST", call.path, call.body(), call.headers)
    return raised.value.partial


def whole_events(format: str, data: bytes) -> bytes:
    mark = b"\n" if format == "ollama" else b"\n\n"
    return data[: data.rfind(mark) + len(mark)]


def error_of(format: str, event: bytes, *, is_timeout: bool = False) -> str:
    """The stable code in an error event, read as the format's clients read it; what the vendor calls it is checked."""
    if format == "ollama":
        document = orjson.loads(event)
        assert isinstance(document["error"], str)
        return str(document["code"])
    lines = event.decode().splitlines()
    document = orjson.loads(next(line for line in lines if line.startswith("data: "))[6:])
    if format in ("anthropic", "responses"):
        assert lines[0] == "event: error"
        assert document["type"] == "error"
    if format == "gemini":
        named = (504, "DEADLINE_EXCEEDED") if is_timeout else (502, "INTERNAL")
        assert (document["error"]["code"], document["error"]["status"]) == named
        return str(next(detail["reason"] for detail in document["error"]["details"] if "reason" in detail))
    if format == "anthropic":
        assert document["error"]["type"] == ("timeout_error" if is_timeout else "api_error")
        return str(document["error"]["details"]["error_code"])
    return str(document["error"].get("code") or document["code"])


async def test_hundred_streams_at_once_arrive_byte_for_byte(relay: ProxyProcess, upstream: FakeProvider) -> None:
    upstream.stream([f" {n}" for n in range(30)], delay_s=0.005)
    call = STREAMS["openai"]

    relayed = await asyncio.gather(*(stream_of(relay, call, model=f"gpt-{n}") for n in range(100)))

    direct = await asyncio.gather(*(stream_of(upstream, call, model=f"gpt-{n}") for n in range(100)))
    assert [one.body for one in relayed] == [one.body for one in direct]
    assert len({one.body for one in relayed}) == 100


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("intact", "split"),
    [
        (Faults(), Faults(split_every=1, drip_s=0.0001)),
        (Faults(comments=True, crlf=True), Faults(comments=True, crlf=True, split_every=1)),
    ],
    ids=["a packet a byte", "a chunk a byte, with comments and CR LF"],
)
async def test_stream_split_at_every_byte_arrives_byte_for_byte(
    relay: ProxyProcess, upstream: FakeProvider, format: str, intact: Faults, split: Faults
) -> None:
    call = STREAMS[format]
    upstream.stream(TEXTS[:4], faults=intact)
    direct = await stream_of(upstream, call)
    upstream.stream(TEXTS[:4], faults=split)

    relayed = await stream_of(relay, call)

    assert relayed.body == direct.body
    assert relayed.header("content-type") == direct.header("content-type")


@pytest.mark.parametrize("format", FORMATS)
async def test_events_are_handed_on_before_the_stream_goes_on(
    relay: ProxyProcess, upstream: FakeProvider, format: str
) -> None:
    gate = asyncio.Event()
    upstream.stream(["first", "second"], gate=gate, gate_after=1)
    call = STREAMS[format]

    async with RawClient(relay.url) as client:
        await client.send(_request(relay, call))
        response = await client.read_head()
        while b"first" not in response.body:
            assert await client.read_part(response)
        has_second = b"second" in response.body
        gate.set()
        while await client.read_part(response):
            pass

    assert not has_second
    assert b"second" in response.body


def _request(proxy: ProxyProcess, call: Call) -> bytes:
    lines = [f"POST {call.path} HTTP/1.1", f"Host: 127.0.0.1:{proxy.port}", f"Content-Length: {len(call.body())}"]
    lines += [f"{name}: {value}" for name, value in call.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + call.body()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["rst", "fin"])
async def test_broken_stream_gives_all_whole_events_then_an_error_then_no_end(
    relay: ProxyProcess, upstream: FakeProvider, format: str, kind: Any
) -> None:
    call = STREAMS[format]
    upstream.stream(TEXTS)
    whole = (await stream_of(upstream, call)).body
    cut_at = whole.index(" ✓".encode() if b"\xe2\x9c" in whole else b" \\u2713") + 1  # in the middle of an event
    upstream.stream(TEXTS, faults=Faults(cut_after_bytes=cut_at, cut=kind))

    partial = await cut_stream(relay, call)

    expected = whole_events(format, whole[:cut_at])
    assert partial.startswith(expected)
    assert error_of(format, partial[len(expected) :]) == "upstream_cut"


@pytest.mark.parametrize("format", FORMATS)
async def test_stream_without_its_formats_end_is_told_as_broken(
    relay: ProxyProcess, upstream: FakeProvider, format: str
) -> None:
    call = STREAMS[format]
    upstream.stream(TEXTS, faults=Faults(without_end=True))
    sent = (await stream_of(upstream, call)).body

    partial = await cut_stream(relay, call)

    assert partial.startswith(sent)
    assert error_of(format, partial[len(sent) :]) == "upstream_cut"


async def test_raw_stream_that_breaks_is_cut_without_anything_added(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    call = STREAMS["openai"]
    upstream.stream(TEXTS)
    whole = (await stream_of(upstream, call)).body
    upstream.stream(TEXTS, faults=Faults(cut_after_bytes=700))

    async with RawClient(relay.url) as client:
        with pytest.raises(CutOff) as raised:
            await client.request("POST", "/proxy/openai/chat/completions", call.body())

    assert raised.value.partial == whole[:700]


@pytest.mark.parametrize(
    "faults",
    [Faults(never_answer=True), Faults(stall_after_events=1), Faults(cut_after_events=0), Faults(cut_after_events=1)],
    ids=["silent", "stalled after the preamble", "cut after the head", "cut after the preamble"],
)
async def test_provider_that_fails_before_its_first_output_is_replaced_unnoticed(
    relay: ProxyProcess, upstream: FakeProvider, spare: FakeProvider, faults: Faults
) -> None:
    call = STREAMS["openai"]
    upstream.stream(["never seen"], faults=faults)
    spare.stream(TEXTS)
    direct = await stream_of(spare, call, model="both-x")

    relayed = await stream_of(relay, call, model="both-x")

    assert (relayed.status, relayed.body) == (200, direct.body)
    assert upstream.last_request.header("authorization") == "Bearer sk-first"
    assert spare.last_request.header("authorization") == "Bearer sk-second"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_provider_that_answers_an_error_is_replaced(
    relay: ProxyProcess, upstream: FakeProvider, spare: FakeProvider, status: int
) -> None:
    upstream.reply_status(status)
    spare.reply("Paris")

    relayed = await stream_of(relay, STREAMS["openai"], model="both-x", stream=False)

    assert (relayed.status, b"Paris" in relayed.body) == (200, True)


async def test_client_is_told_not_to_retry_once_every_provider_has_failed(
    relay: ProxyProcess, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_raw(b"HTTP/9.9 nonsense\r\n\r\n")
    spare.reply_raw(b"HTTP/9.9 nonsense\r\n\r\n")

    response = await stream_of(relay, STREAMS["openai"], model="both-x")

    assert (response.status, response.header("x-should-retry")) == (502, "false")
    assert response.header("x-failed-attempts") == "first;kind=reset, second;kind=reset"
    assert b"first/both-x: " in response.body
    assert b"second/both-x: " in response.body


async def test_client_that_started_reading_is_not_failed_over(
    relay: ProxyProcess, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.stream(TEXTS, faults=Faults(cut_after_events=4))
    call = STREAMS["openai"]

    partial = await cut_stream(relay, Call(call.format, call.path, {**call.document, "model": "both-x"}, {}))

    assert b" trois" in partial
    assert b"upstream_cut" in partial
    assert spare.requests_seen == 0


@pytest.mark.parametrize("is_stream", [False, True], ids=["length", "events"])
async def test_slow_readers_of_large_responses_cost_little_memory(
    relay: ProxyProcess, upstream: FakeProvider, is_stream: bool
) -> None:
    call, blocks = STREAMS["openai"], LARGE_BYTES // len(BLOCK)
    if is_stream:
        event = b'data: {"choices":[{"index":0,"delta":{"content":"' + BLOCK[:-60] + b'"}}]}\n\n'
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        done = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream.reply_raw(head, *[chunk] * blocks, b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))
        size = len(event) * blocks + len(done)
    else:
        upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES, *[BLOCK] * blocks)
        size = LARGE_BYTES
    warm = await stream_of(relay, call)
    before_bytes = relay.rss_bytes()

    readers = [RawClient(relay.url) for _ in range(SLOW_READERS)]
    for reader in readers:
        await reader.__aenter__()
        await reader.send(_request(relay, call))
    responses = [await reader.read_head() for reader in readers]
    most_bytes, until_s = 0, time.monotonic() + 1.5
    while time.monotonic() < until_s:  # all that while nobody reads
        most_bytes = max(most_bytes, relay.rss_bytes() - before_bytes)
        await asyncio.sleep(0.02)
    while await readers[0].read_part(responses[0]):
        pass
    for reader in readers:
        reader.close()

    assert len(warm.body) == len(responses[0].body) == size
    assert most_bytes / SLOW_READERS <= SLOW_READER_BYTES


async def test_stream_that_stalls_for_its_idle_limit_is_cut_with_an_error(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    upstream.stream(TEXTS, faults=Faults(stall_after_events=4))
    call = STREAMS["openai"]
    begin_s = time.monotonic()

    partial = await cut_stream(relay, Call(call.format, call.path, {**call.document, "model": "both-x"}, {}))

    assert b"upstream_timeout" in partial
    assert 0.25 <= time.monotonic() - begin_s <= 2.0
    await upstream.wait_for_disconnect()
