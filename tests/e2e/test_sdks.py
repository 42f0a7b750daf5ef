"""The vendors' own SDKs notice nothing: replies, streams, tools, usage, errors and keys through a real process."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anthropic
import ollama
import openai
import orjson
import pytest
import pytest_asyncio
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from proxy.testing import FakeProvider, Faults, ProxyProcess
from proxy.usage import Usage
from tests.e2e.rig import KEYS, TEXT, ask

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # google-genai makes a subclass of aiohttp's session, which aiohttp would rather it did not
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
CLAUDE: dict[str, Any] = {"model": "claude-x", "max_tokens": 99, "messages": [{"role": "user", "content": "Hello"}]}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest_asyncio.fixture(loop_scope="session")
async def gpt(relay: ProxyProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{relay.url}/v1", api_key="client-key", max_retries=0) as sdk:
        yield sdk


@pytest_asyncio.fixture(loop_scope="session")
async def claude(relay: ProxyProcess) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=relay.url, api_key="client-key", max_retries=0) as sdk:
        yield sdk


def make_gemini(url: str, version: str = "v1beta") -> genai.Client:
    options = genai_types.HttpOptions(base_url=url, api_version=version)
    return genai.Client(api_key="client-key", http_options=options)


@pytest_asyncio.fixture(loop_scope="session")
async def gemini(relay: ProxyProcess) -> AsyncIterator[Any]:
    async with make_gemini(relay.url).aio as sdk:
        yield sdk


@pytest_asyncio.fixture(loop_scope="session")
async def llama(relay: ProxyProcess) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=relay.url)
    yield client
    await client._client.aclose()


# -- openai ----------------------------------------------------------------------------------------------------------


async def test_openai_reads_a_reply_with_its_usage(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.reply(TEXT, usage=Usage(input_tokens=7, output_tokens=5))

    reply = await gpt.chat.completions.create(**CHAT)

    assert reply.choices[0].message.content == TEXT
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (7, 5, 12)
    assert upstream.problems == []


async def test_openai_reads_a_stream_with_its_usage(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.stream(["One", " two"], usage=Usage(input_tokens=7, output_tokens=2))

    stream = await gpt.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "One two"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_openai_gets_tool_calls_as_the_model_made_them(
    upstream: FakeProvider, gpt: openai.AsyncOpenAI, is_streaming: bool
) -> None:
    upstream.reply_tool_call("weather", '{"city": "Par')  # not JSON, as models can be
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]

    if is_streaming:
        parts = []
        async for chunk in await gpt.chat.completions.create(**CHAT, tools=tools, stream=True):
            parts += [call.function for call in chunk.choices[0].delta.tool_calls or []]
        name, arguments = parts[0].name, "".join(part.arguments or "" for part in parts)
    else:
        reply = await gpt.chat.completions.create(**CHAT, tools=tools)
        call: Any = (reply.choices[0].message.tool_calls or [])[0]
        name, arguments = call.function.name, call.function.arguments

    assert (name, arguments) == ("weather", '{"city": "Par')
    assert upstream.last_request.document["tools"] == tools


async def test_openai_responses_api_replies_and_streams(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.reply(TEXT)

    reply = await gpt.responses.create(model="gpt-4o", input="Hello")
    events = [event async for event in await gpt.responses.create(model="gpt-4o", input="Hello", stream=True)]

    assert reply.output_text == TEXT
    assert events[-1].type == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT


async def test_openai_embeddings_keep_their_numbers(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    reply = await gpt.embeddings.create(model="gpt-4o", input=["a", "b"])

    assert [one.embedding for one in reply.data] == [[0.5, -0.25, 0.0], [0.5, -0.25, 1.0]]
    assert upstream.last_request.document["encoding_format"] == "base64"  # untouched: the SDK asked for it


async def test_openai_legacy_completions_reply_and_stream(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.reply(TEXT)

    reply = await gpt.completions.create(model="gpt-4o", prompt="Hello")
    chunks = [one async for one in await gpt.completions.create(model="gpt-4o", prompt="Hello", stream=True)]

    assert reply.choices[0].text == TEXT
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT


ERROR_TYPES = [
    (400, openai.BadRequestError, anthropic.BadRequestError),
    (404, openai.NotFoundError, anthropic.NotFoundError),
    (429, openai.RateLimitError, anthropic.RateLimitError),
    (500, openai.InternalServerError, anthropic.InternalServerError),
    (529, openai.InternalServerError, anthropic.APIStatusError),
]


@pytest.mark.parametrize(("status", "kind", "_"), ERROR_TYPES)
async def test_openai_raises_its_own_type_for_the_providers_error(
    upstream: FakeProvider, gpt: openai.AsyncOpenAI, status: int, kind: type[openai.APIStatusError], _: object
) -> None:
    upstream.reply_status(status, headers={"Retry-After": "7"} if status == 429 else None)

    with pytest.raises(kind) as raised:
        await gpt.chat.completions.create(**CHAT)

    assert raised.value.status_code == status
    assert f"fake {status}" in raised.value.message
    assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_openai_sees_502_when_the_proxys_own_key_is_refused(
    upstream: FakeProvider, gpt: openai.AsyncOpenAI, status: int, is_streaming: bool
) -> None:
    upstream.reply_status(status, {"error": {"message": f"Incorrect API key provided: {KEYS['openai']}"}})

    with pytest.raises(openai.InternalServerError) as raised:
        await gpt.chat.completions.create(**CHAT, stream=is_streaming)

    assert (raised.value.status_code, raised.value.code) == (502, "upstream_auth")
    assert KEYS["openai"] not in raised.value.response.text


async def test_openai_sees_401_when_its_own_key_is_refused(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.reply_status(401)

    with pytest.raises(openai.AuthenticationError):
        await gpt.chat.completions.create(**{**CHAT, "model": "open-gpt-1"})


async def test_openai_raises_not_found_for_a_model_nobody_has(gpt: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await gpt.chat.completions.create(**{**CHAT, "model": "nobodys-model"})

    assert raised.value.code == "model_not_found"
    assert "gpt-*" in raised.value.message
    assert raised.value.request_id


async def test_openai_raises_for_an_error_inside_a_stream(upstream: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    upstream.stream(["One", " two", " three"], faults=Faults(cut_after_events=3))

    stream = await gpt.chat.completions.create(**CHAT, stream=True)
    chunks = [await anext(stream) for _ in range(3)]
    with pytest.raises(openai.APIError) as raised:
        await anext(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "One two"
    assert raised.value.code == "upstream_cut"


async def test_openai_own_key_reaches_the_provider_that_has_none(
    upstream: FakeProvider, gpt: openai.AsyncOpenAI
) -> None:
    await gpt.chat.completions.create(**{**CHAT, "model": "open-gpt-1"})

    assert upstream.last_request.header("authorization") == "Bearer client-key"


async def test_every_sdk_reads_the_providers_own_list_of_models(
    upstream: FakeProvider,
    gpt: openai.AsyncOpenAI,
    claude: anthropic.AsyncAnthropic,
    gemini: Any,
    llama: ollama.AsyncClient,
) -> None:
    # All models of this configuration are patterns, so only the provider knows names.
    assert [model.id for model in (await gpt.models.list()).data] == ["fake-model"]
    assert [model.id for model in (await claude.models.list()).data] == ["fake-model"]
    assert [model.model for model in (await llama.list()).models] == ["fake-model"]
    assert [model.name async for model in await gemini.models.list()] == ["models/fake-model"]
    assert len(upstream.requests) == 4


# -- anthropic -------------------------------------------------------------------------------------------------------


async def test_anthropic_reads_a_reply_with_its_usage(upstream: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    upstream.reply(TEXT, usage=Usage(input_tokens=7, output_tokens=5))

    reply = await claude.messages.create(**CLAUDE)

    assert reply.content[0].type == "text"
    assert reply.content[0].text == TEXT
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 5)
    assert upstream.problems == []


async def test_anthropic_reads_a_stream(upstream: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    upstream.stream(["One", " two"], usage=Usage(input_tokens=7, output_tokens=2))

    async with claude.messages.stream(**CLAUDE) as stream:
        texts = [text async for text in stream.text_stream]
        message = await stream.get_final_message()

    assert texts == ["One", " two"]
    assert message.usage.output_tokens == 2


async def test_anthropic_gets_a_tool_call_as_the_model_made_it(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.reply_tool_call("weather", {"city": "Paris"})
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]

    reply = await claude.messages.create(**CLAUDE, tools=tools)
    async with claude.messages.stream(**CLAUDE, tools=tools) as stream:
        streamed = await stream.get_final_message()

    for message in (reply, streamed):
        assert message.content[0].type == "tool_use"
        assert (message.content[0].name, message.content[0].input) == ("weather", {"city": "Paris"})
        assert message.stop_reason == "tool_use"


async def test_anthropic_counts_tokens(upstream: FakeProvider, claude: anthropic.AsyncAnthropic) -> None:
    upstream.reply(TEXT, usage=Usage(input_tokens=7, output_tokens=5))

    counted = await claude.messages.count_tokens(model="claude-x", messages=CLAUDE["messages"])

    assert counted.input_tokens == 7


@pytest.mark.parametrize("version", ["2023-01-01", "2023-06-01"])
async def test_anthropic_versions_and_betas_reach_the_provider(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic, version: str
) -> None:
    headers = {"anthropic-version": version, "anthropic-beta": "one-2025-01-01,two-2025-02-02"}

    await claude.messages.create(**CLAUDE, extra_headers=headers)

    assert upstream.last_request.header("anthropic-version") == version
    assert upstream.last_request.header("anthropic-beta") == "one-2025-01-01,two-2025-02-02"


async def test_anthropics_two_forms_of_a_key_both_reach_the_provider_that_has_none(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    request = {**CLAUDE, "model": "open-claude-1"}
    old = {"anthropic-version": "2023-06-01", "x-api-key": "sk-client"}  # as SDKs sent it before 2026-10-21

    async with anthropic.AsyncAnthropic(base_url=relay.url, api_key="sk-client", max_retries=0) as sdk:
        await sdk.messages.create(**request)
    await ask(relay, "POST", "/v1/messages", orjson.dumps(request), old)

    assert [
        (seen.header("x-api-key"), seen.header("authorization"), seen.header("anthropic-version"))
        for seen in upstream.requests
    ] == [(None, "Bearer sk-client", "2026-10-21"), ("sk-client", None, "2023-06-01")]


@pytest.mark.parametrize(("status", "_", "kind"), ERROR_TYPES)
async def test_anthropic_raises_its_own_type_for_the_providers_error(
    upstream: FakeProvider,
    claude: anthropic.AsyncAnthropic,
    status: int,
    _: object,
    kind: type[anthropic.APIStatusError],
) -> None:
    upstream.reply_status(status, headers={"Retry-After": "7"} if status == 429 else None)

    with pytest.raises(kind) as raised:
        await claude.messages.create(**CLAUDE)

    assert raised.value.status_code == status
    assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_anthropic_sees_502_when_the_proxys_own_key_is_refused(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.reply_status(401)

    with pytest.raises(anthropic.InternalServerError) as raised:
        await claude.messages.create(**CLAUDE)

    body: Any = raised.value.body
    assert raised.value.status_code == 502
    assert body["type"] == "error"
    assert raised.value.request_id


async def test_anthropic_raises_for_an_error_inside_a_stream(
    upstream: FakeProvider, claude: anthropic.AsyncAnthropic
) -> None:
    upstream.stream(["One", " two", " three"], faults=Faults(cut_after_events=5))

    async with claude.messages.stream(**CLAUDE) as stream:
        texts = stream.text_stream
        first = await anext(texts)
        with pytest.raises(anthropic.APIError):
            await stream.get_final_message()

    assert first == "One"


# -- gemini ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
async def test_gemini_replies_and_streams_under_every_version(
    relay: ProxyProcess, upstream: FakeProvider, version: str
) -> None:
    upstream.reply(TEXT, usage=Usage(input_tokens=7, output_tokens=5))

    async with make_gemini(relay.url, version).aio as sdk:
        reply = await sdk.models.generate_content(model="gemini-x", contents="Hello")
        chunks = [one async for one in await sdk.models.generate_content_stream(model="gemini-x", contents="Hello")]

    assert reply.text == TEXT
    assert reply.usage_metadata is not None
    assert reply.usage_metadata.prompt_token_count == 7
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    assert [seen.path for seen in upstream.requests] == [
        f"/{version}/models/gemini-x:generateContent",
        f"/{version}/models/gemini-x:streamGenerateContent",
    ]
    assert upstream.last_request.header("x-goog-api-key") == KEYS["gemini"]


async def test_gemini_gets_a_tool_call_as_the_model_made_it(upstream: FakeProvider, gemini: Any) -> None:
    upstream.reply_tool_call("weather", {"city": "Paris"})

    reply = await gemini.models.generate_content(model="gemini-x", contents="Hello")

    call = reply.function_calls[0]
    assert (call.name, call.args) == ("weather", {"city": "Paris"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, genai_errors.ClientError),
        (404, genai_errors.ClientError),
        (429, genai_errors.ClientError),
        (500, genai_errors.ServerError),
    ],
)
async def test_gemini_raises_its_own_type_for_the_providers_error(
    upstream: FakeProvider, gemini: Any, status: int, kind: type[genai_errors.APIError]
) -> None:
    upstream.reply_status(status)

    with pytest.raises(kind) as raised:
        await gemini.models.generate_content(model="gemini-x", contents="Hello")

    assert raised.value.code == status


async def test_gemini_sees_502_when_the_proxys_own_key_is_refused(upstream: FakeProvider, gemini: Any) -> None:
    upstream.reply_status(403)

    with pytest.raises(genai_errors.ServerError) as raised:
        await gemini.models.generate_content(model="gemini-x", contents="Hello")

    assert raised.value.code == 502


# -- ollama ----------------------------------------------------------------------------------------------------------


async def test_ollama_replies_and_streams(upstream: FakeProvider, llama: ollama.AsyncClient) -> None:
    upstream.reply(TEXT, usage=Usage(input_tokens=7, output_tokens=5))

    reply = await llama.chat("llama3", messages=CHAT["messages"])
    async with aclosing(await llama.chat("llama3", messages=CHAT["messages"], stream=True)) as stream:  # type: ignore[type-var]
        parts = [part async for part in stream]
    generated = await llama.generate("llama3", "Hello")

    assert (reply.message.content, reply.prompt_eval_count, reply.eval_count) == (TEXT, 7, 5)
    assert "".join(part.message.content or "" for part in parts) == TEXT
    assert parts[-1].done
    assert generated.response == TEXT


async def test_ollama_gets_a_tool_call_as_the_model_made_it(upstream: FakeProvider, llama: ollama.AsyncClient) -> None:
    upstream.reply_tool_call("weather", {"city": "Paris"})

    reply = await llama.chat("llama3", messages=CHAT["messages"])

    call = (reply.message.tool_calls or [])[0]
    assert (call.function.name, dict(call.function.arguments)) == ("weather", {"city": "Paris"})


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_ollama_raises_its_own_type_for_the_providers_error(
    upstream: FakeProvider, llama: ollama.AsyncClient, status: int
) -> None:
    upstream.reply_status(status)

    with pytest.raises(ollama.ResponseError) as raised:
        await llama.chat("llama3", messages=CHAT["messages"])

    assert (raised.value.status_code, raised.value.error) == (status, f"fake {status}")


# -- against echo ----------------------------------------------------------------------------------------------------


async def test_every_sdk_talks_to_echo(default_proxy: ProxyProcess) -> None:
    url = default_proxy.url
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as gpt:
        chat = await gpt.chat.completions.create(**CHAT)
        chunks = [chunk async for chunk in await gpt.chat.completions.create(**CHAT, stream=True)]
        vectors = await gpt.embeddings.create(model="any", input="Hello")
        names = [model.id for model in (await gpt.models.list()).data]
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as claude:
        message = await claude.messages.create(**CLAUDE)
        async with claude.messages.stream(**CLAUDE) as stream:
            streamed = await stream.get_final_text()
    async with make_gemini(url).aio as gemini:
        reply = await gemini.models.generate_content(model="any", contents="Hello")
        embedded = await gemini.models.embed_content(model="any", contents="Hello")
    llama = ollama.AsyncClient(host=url)
    told = await llama.chat("any", messages=CHAT["messages"])
    await llama._client.aclose()

    assert chat.choices[0].message.content == "Echo: Hello"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Echo: Hello"
    assert (len(vectors.data[0].embedding), names) == (64, ["echo"])
    assert getattr(message.content[0], "text", "") == streamed == "Echo: Hello"
    assert reply.text == told.message.content == "Echo: Hello"
    assert embedded.embeddings
