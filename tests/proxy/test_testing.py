"""The fake provider speaks what the vendors' own SDKs understand, and misbehaves exactly as told."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai

from proxy.testing import (
    Cut,
    CutOff,
    FakeProvider,
    Faults,
    Pause,
    ProxyHarness,
    ProxyProcess,
    RawClient,
    encode_request,
)
from proxy.usage import Usage

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Capital of France?"}]}
STREAM_BODY = b'{"model":"m","messages":[],"stream":true}'
CHAT_BODY = b'{"model":"m","messages":[]}'


@pytest.fixture
async def upstream() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def client(upstream: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key="k", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
async def claude(upstream: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=upstream.url, api_key="k", max_retries=0) as sdk:
        yield sdk


async def test_openai_sdk_reads_a_reply(upstream: FakeProvider, client: openai.AsyncOpenAI) -> None:
    upstream.reply("Paris", usage=Usage(input_tokens=7, output_tokens=1))

    reply = await client.chat.completions.create(**CHAT)

    assert reply.choices[0].message.content == "Paris"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (7, 8)
    assert upstream.last_request.document["messages"] == CHAT["messages"]
    assert upstream.problems == []


async def test_openai_sdk_reads_a_stream_with_usage(upstream: FakeProvider, client: openai.AsyncOpenAI) -> None:
    upstream.stream(["Pa", "ris"])

    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}
        )
    ]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Paris"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_sdk_reads_a_tool_call(upstream: FakeProvider, client: openai.AsyncOpenAI, stream: bool) -> None:
    upstream.reply_tool_call("weather", {"city": "Paris"})

    if stream:
        parts = [
            call
            async for chunk in await client.chat.completions.create(**CHAT, stream=True)
            for call in (chunk.choices[0].delta.tool_calls or [])
        ]
        arguments = "".join(part.function.arguments or "" for part in parts if part.function)
    else:
        reply = await client.chat.completions.create(**CHAT)
        arguments = reply.choices[0].message.tool_calls[0].function.arguments

    assert arguments == '{"city":"Paris"}'


async def test_openai_sdk_reads_the_other_endpoints(upstream: FakeProvider, client: openai.AsyncOpenAI) -> None:
    upstream.reply("Paris is it")

    embeddings = await client.embeddings.create(model="m", input=["a", "b"])
    completion = await client.completions.create(model="m", prompt="Capital?")
    response = await client.responses.create(model="m", input="Capital?")
    deltas = [
        event.delta
        async for event in await client.responses.create(model="m", input="Capital?", stream=True)
        if event.type == "response.output_text.delta"
    ]
    models = await client.models.list()

    assert [each.embedding for each in embeddings.data] == [[0.5, -0.25, 0.0], [0.5, -0.25, 1.0]]
    assert completion.choices[0].text == response.output_text == "".join(deltas) == "Paris is it"
    assert [each.id for each in models.data] == ["fake-model"]


async def test_openai_sdk_maps_a_status_to_its_exception(upstream: FakeProvider, client: openai.AsyncOpenAI) -> None:
    upstream.once.reply_status(429, headers={"retry-after": "7"})
    upstream.reply("Paris")

    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(**CHAT)
    second = await client.chat.completions.create(**CHAT)

    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "7"
    assert second.choices[0].message.content == "Paris"


async def test_anthropic_sdk_reads_a_message_and_a_stream(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.reply("Paris is it")

    message = await claude.messages.create(**CHAT, max_tokens=9)
    async with claude.messages.stream(**CHAT, max_tokens=9) as stream:
        streamed = await stream.get_final_message()
    count = await claude.messages.count_tokens(**CHAT)

    assert message.content[0].type == streamed.content[0].type == "text"
    assert message.content[0].text == streamed.content[0].text == "Paris is it"
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("end_turn", 3)
    assert count.input_tokens == 9


async def test_anthropic_sdk_reads_a_tool_call_and_an_error(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.reply_tool_call("weather", {"city": "Paris"})
    async with claude.messages.stream(**CHAT, max_tokens=9) as stream:
        streamed = await stream.get_final_message()
    upstream.reply_status(429)

    with pytest.raises(anthropic.RateLimitError):
        await claude.messages.create(**CHAT, max_tokens=9)

    assert streamed.content[0].type == "tool_use"
    assert streamed.content[0].input == {"city": "Paris"}


async def test_anthropic_sdk_raises_from_the_error_event(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.stream(["Pa"], faults=Faults(error_event="overloaded"))

    with pytest.raises(anthropic.APIStatusError, match="overloaded"):
        async for _ in await claude.messages.create(**CHAT, max_tokens=9, stream=True):
            pass


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # the SDK's own
async def test_gemini_sdk_reads_a_reply_and_a_stream(upstream: FakeProvider) -> None:
    upstream.reply("Paris is it")
    async with genai.Client(api_key="k", http_options={"base_url": upstream.url}).aio as sdk:
        whole = await sdk.models.generate_content(model="m", contents="Capital?")
        texts = [part.text async for part in await sdk.models.generate_content_stream(model="m", contents="Capital?")]

    assert whole.text == "".join(text or "" for text in texts) == "Paris is it"
    assert upstream.last_request.path.endswith("/models/m:streamGenerateContent")


async def test_ollama_sdk_reads_a_reply_and_a_stream(upstream: FakeProvider) -> None:
    upstream.reply("Paris is it")
    sdk = ollama.AsyncClient(host=upstream.url)

    whole = await sdk.chat(**CHAT)
    texts = [part.message.content async for part in await sdk.chat(**CHAT, stream=True)]
    tags = await sdk.list()
    await sdk._client.aclose()

    assert whole.message.content == "".join(text or "" for text in texts) == "Paris is it"
    assert [each.model for each in tags.models] == ["fake-model"]


async def test_wrong_requests_are_refused_and_noted(upstream: FakeProvider) -> None:
    async with RawClient(upstream.url) as raw:
        missing = await raw.request("POST", "/v1/chat/completions", b'{"model":"m"}')
        unknown = await raw.request("GET", "/nowhere")

    assert (missing.status, unknown.status) == (400, 404)
    assert upstream.problems == ["missing: messages", "no such path: GET /nowhere"]


async def test_a_request_without_the_key_gets_401() -> None:
    async with FakeProvider(api_key="right") as upstream, RawClient(upstream.url) as raw:
        shown = {"Authorization": "Bearer right"}
        refused = await raw.request("POST", "/v1/chat/completions", CHAT_BODY)
        accepted = await raw.request("POST", "/v1/chat/completions", CHAT_BODY, shown)

    assert (refused.status, accepted.status) == (401, 200)


@pytest.mark.parametrize(
    "faults", [Faults(split_every=1), Faults(split_at=(3, 40, 41)), Faults(comments=True, crlf=True)]
)
async def test_sdk_survives_odd_streams(upstream: FakeProvider, client: openai.AsyncOpenAI, faults: Faults) -> None:
    upstream.stream(["Zür", "ich ☂"], faults=faults)

    stream = await client.chat.completions.create(**CHAT, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert text == "Zürich ☂"


async def test_splits_fall_where_they_were_ordered(upstream: FakeProvider) -> None:
    upstream.stream(["Zürich"], faults=Faults(split_at=(3, 10)))

    async with RawClient(upstream.url) as raw:
        response = await raw.request("POST", "/v1/chat/completions", STREAM_BODY)

    assert [len(part) for _, part in response.parts][:2] == [3, 7]


@pytest.mark.parametrize("kind", ["rst", "fin"])
async def test_stream_is_cut_after_so_many_events(upstream: FakeProvider, kind: Any) -> None:
    upstream.stream(["a", "b", "c"], faults=Faults(cut_after_events=2, cut=kind))

    async with RawClient(upstream.url) as raw:
        with pytest.raises(CutOff) as caught:
            await raw.request("POST", "/v1/chat/completions", STREAM_BODY)

    assert caught.value.partial.count(b"data: ") == 2
    assert upstream.early_closes == []


async def test_body_is_cut_after_so_many_bytes(upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(cut_after_bytes=10, cut="fin"))

    async with RawClient(upstream.url) as raw:
        with pytest.raises(CutOff) as caught:
            await raw.request("POST", "/v1/chat/completions", CHAT_BODY)

    assert caught.value.partial == b'{"id":"cha'


async def test_gate_holds_a_stream_back(upstream: FakeProvider) -> None:
    gate = asyncio.Event()
    upstream.stream(["a", "b"], gate=gate)

    async with RawClient(upstream.url) as raw:
        await raw.send(encode_request("POST", "/v1/chat/completions", STREAM_BODY, host="fake"))
        response = await raw.read_head()
        first = [await raw.read_part(response) for _ in range(2)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.read_part(response), 0.05)
        gate.set()
        rest = await raw.read_part(response)

    assert b'"a"' in first[1]
    assert b'"b"' in rest


@pytest.mark.parametrize(
    ("faults", "is_begun"), [(Faults(never_answer=True), False), (Faults(stall_after_events=2), True)]
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_client_that_leaves_is_noticed_with_its_time(
    upstream: FakeProvider, faults: Faults, is_begun: bool, how: str
) -> None:
    upstream.stream(["a", "b"], faults=faults)
    async with RawClient(upstream.url) as raw:
        await raw.send(encode_request("POST", "/v1/chat/completions", STREAM_BODY, host="fake"))
        request = await upstream.wait_for_request()
        if is_begun:
            await raw.read_head()

        left_s = time.monotonic()
        getattr(raw, how)()
        noticed_s = await upstream.wait_for_disconnect(timeout_s=1)

    assert 0 <= noticed_s - left_s < 0.25
    assert upstream.early_closes[0].request is request
    assert (upstream.early_closes[0].bytes_sent > 0) == is_begun
    await upstream.wait_for_connections(0)


async def test_stalled_upload_is_seen_and_its_end_noticed(upstream: FakeProvider) -> None:
    async with RawClient(upstream.url) as raw:
        await raw.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        request = await upstream.wait_for_request(is_complete=False)

        raw.close()
        await upstream.wait_for_disconnect(timeout_s=1)

    assert not request.is_complete
    assert request.body == b"{"


async def test_answer_may_come_before_the_body(upstream: FakeProvider) -> None:
    upstream.answers_before_body = True
    upstream.reply_status(413)

    async with RawClient(upstream.url) as raw:
        await raw.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        response = await raw.read_response()

    assert response.status == 413


async def test_raw_steps_go_out_as_they_are(upstream: FakeProvider) -> None:
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Le", Pause(0.01), b"ngth: 2\r\nX-Odd:  y\r\n\r\nhi", Cut("fin"))

    async with RawClient(upstream.url) as raw:
        response = await raw.request("GET", "/anything")
        rest = await raw.read_until_closed()

    assert (response.body, response.header("x-odd"), rest) == (b"hi", "y", b"")


async def test_expect_is_answered_and_connections_are_reused(upstream: FakeProvider) -> None:
    async with RawClient(upstream.url) as raw:
        await raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 26\r\n\r\n")
        interim = await raw.read_head()
        await raw.send(b'{"model":"m","input":"hi"}')
        final = await raw.read_response()
        await raw.request("GET", "/v1/models")

    assert (interim.status, final.status) == (100, 200)
    assert [request.connection for request in upstream.requests] == [0, 0]


async def test_idle_connections_can_be_closed(upstream: FakeProvider) -> None:
    async with RawClient(upstream.url) as raw:
        await raw.request("GET", "/v1/models")

        upstream.drop_connections()
        await upstream.wait_for_connections(0)

        assert await raw.read_until_closed() == b""
    assert upstream.early_closes == []


@pytest.mark.parametrize("stream", [False, True])
async def test_harness_asks_through_the_proxy(upstream: FakeProvider, stream: bool) -> None:
    upstream.reply("Paris is it")

    async with ProxyHarness(upstream) as proxy:
        await proxy.start(max_concurrency=3)
        reply = await proxy.chat("Capital of France?", stream=stream)

    assert (reply.status, reply.text) == (200, "Paris is it")
    assert upstream.requests_seen == 1
    assert upstream.last_request.header("authorization") == "Bearer sk-fake"


async def test_harness_without_an_upstream_has_echo() -> None:
    async with ProxyHarness() as proxy:
        await proxy.start()
        health = await proxy.request("GET", "/health")

    assert health.status == 200


async def test_process_starts_answers_and_ends(upstream: FakeProvider) -> None:
    async with ProxyProcess({"providers": {"fake": upstream.provider()}}) as proxy:
        async with RawClient(proxy.url) as raw:
            reply = await raw.request("POST", "/v1/chat/completions", CHAT_BODY)
        used_s, memory_bytes = proxy.cpu_s(), proxy.rss_bytes()

        code = await proxy.terminate()

    assert (reply.status, code) == (200, 0)
    assert used_s > 0
    assert memory_bytes > 10 << 20


async def test_process_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="noSuchKey"):
        async with ProxyProcess({"noSuchKey": 1}):
            pass
