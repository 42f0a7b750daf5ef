"""The vendors' SDKs get the same from a reply made a stream as from the reply itself, through a real socket."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import ollama
import openai
import orjson
import pytest
import pytest_asyncio
from google import genai
from google.genai import types as genai_types

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.testing import FakeProvider
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import anthropic as anthropic_shapes
from proxy.testing.shapes import gemini as gemini_shapes
from proxy.testing.shapes import ollama as ollama_shapes
from proxy.testing.shapes import openai as openai_shapes
from proxy.testing.shapes import responses as responses_shapes
from proxy.usage import Usage

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # google-genai makes a subclass of aiohttp's session, which aiohttp would rather it did not
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

LONG = "Paris, " * 500
REQUEST: JsonObject = {"model": "m", "stream_options": {"include_usage": True}}
TOOL = ToolCall("weather", orjson.dumps({"city": LONG, "days": [1, 2.5]}).decode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fake() -> AsyncIterator[FakeProvider]:
    async with FakeProvider() as provider:
        yield provider


def serve(fake: FakeProvider, format_name: str, name: str, reply: JsonObject, **options: Any) -> None:
    """Answer the next request with the reply, the one after with the stream made of it."""
    operation = FORMATS[format_name].operation(name)
    body = orjson.dumps(reply)
    stream = rearrange(operation, body, is_streaming=True, **options)
    assert stream is not None
    kind = FORMATS[format_name].stream_content_type.decode()
    fake.once.reply_status(200, body, {"Content-Type": "application/json"})
    fake.once.reply_status(200, stream, {"Content-Type": kind})


# -- openai ----------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def gpt(fake: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="k", max_retries=0) as sdk:
        yield sdk


async def test_openai_gets_the_same_chat(fake: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    logprobs = {"content": [{"token": "P", "logprob": -0.5, "bytes": [80], "top_logprobs": []}], "refusal": None}
    calling = openai_shapes.chat(Answer(texts=(), tool_call=TOOL), REQUEST)
    reply = openai_shapes.chat(Answer(texts=(LONG,)), REQUEST)
    reply["choices"][0]["logprobs"] = logprobs
    reply["choices"] += [choice | {"index": 1} for choice in calling["choices"]]
    serve(fake, "openai", "chat", reply, with_usage=True)

    whole = await gpt.chat.completions.create(model="m", messages=[])
    async with gpt.chat.completions.stream(model="m", messages=[], stream_options={"include_usage": True}) as stream:
        collected = await stream.get_final_completion()

    ignored = {"choices": {"__all__": {"message": {"parsed", "tool_calls", "annotations"}}}}
    assert collected.model_dump(exclude=ignored) == whole.model_dump(exclude=ignored)
    assert collected.choices[0].message.annotations == whole.choices[0].message.annotations == []
    (call,), (streamed,) = (found.choices[1].message.tool_calls or [] for found in (whole, collected))
    assert (streamed.id, streamed.type) == (call.id, call.type) == (TOOL.call_id, "function")
    assert (streamed.function.name, streamed.function.arguments) == (TOOL.name, TOOL.arguments)


async def test_openai_gets_the_same_legacy_completion(fake: FakeProvider, gpt: openai.AsyncOpenAI) -> None:
    serve(fake, "openai", "completions", openai_shapes.completion(Answer(texts=(LONG,)), REQUEST), with_usage=True)

    whole = await gpt.completions.create(model="m", prompt="")
    chunks = [chunk async for chunk in await gpt.completions.create(model="m", prompt="", stream=True)]

    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text == LONG
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("answer", [Answer(texts=(LONG,)), Answer(texts=(), tool_call=TOOL)], ids=["text", "call"])
async def test_openai_gets_the_same_response(fake: FakeProvider, gpt: openai.AsyncOpenAI, answer: Answer) -> None:
    reply = responses_shapes.response(answer, REQUEST)
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": LONG}]}
    reply["output"].insert(0, thought)
    serve(fake, "openai", "responses", reply)

    whole = await gpt.responses.create(model="m", input="")
    texts, arguments = [], []
    async with gpt.responses.stream(model="m", input="") as stream:
        async for event in stream:
            texts += [event.delta] if event.type == "response.output_text.delta" else []
            arguments += [event.delta] if event.type == "response.function_call_arguments.delta" else []
        collected = await stream.get_final_response()

    ignored = {"output": {"__all__": {"content": {"__all__": {"parsed"}}, "parsed_arguments": True}}}
    assert collected.model_dump(exclude=ignored) == whole.model_dump(exclude=ignored)
    assert "".join(texts) == whole.output_text == answer.text
    assert "".join(arguments) == (TOOL.arguments if answer.tool_call else "")


# -- anthropic -------------------------------------------------------------------------------------------------------


async def test_anthropic_gets_the_same_message(fake: FakeProvider) -> None:
    citation = {"type": "char_location", "cited_text": "P", "document_index": 0, "document_title": None}
    citation |= {"start_char_index": 0, "end_char_index": 1, "file_id": None}
    answer = Answer(texts=(), tool_call=TOOL, usage=Usage(9, 5, 3, 1))
    reply = anthropic_shapes.message(answer, REQUEST) | {"stop_sequence": "END"}
    reply["usage"]["server_tool_use"] = {"web_search_requests": 1, "web_fetch_requests": 0}
    reply["content"] = [
        {"type": "thinking", "thinking": LONG, "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": LONG, "citations": [citation, citation]},
        *reply["content"],
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    serve(fake, "anthropic", "chat", reply)
    request: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}

    async with anthropic.AsyncAnthropic(base_url=fake.url, api_key="k", max_retries=0) as claude:
        whole = await claude.messages.create(**request)
        async with claude.messages.stream(**request) as stream:
            collected = await stream.get_final_message()

    ignored = {"content": {"__all__": {"parsed_output"}}}
    assert collected.model_dump(exclude=ignored) == whole.model_dump(exclude=ignored)
    assert [block.type for block in whole.content] == [block["type"] for block in reply["content"]]
    assert whole.usage.output_tokens == 5


# -- gemini ----------------------------------------------------------------------------------------------------------


async def test_gemini_gets_the_same_response(fake: FakeProvider) -> None:
    reply = gemini_shapes.generate(Answer(texts=(LONG,), usage=Usage(9, 5, 3, None, 2)), REQUEST)
    calling = gemini_shapes.generate(Answer(texts=(), tool_call=TOOL), REQUEST)
    thought = {"text": LONG, "thought": True}
    parts = [thought, *reply["candidates"][0]["content"]["parts"], *calling["candidates"][0]["content"]["parts"]]
    reply["candidates"][0]["content"]["parts"] = parts
    serve(fake, "gemini", "stream_generate", reply)
    options = genai_types.HttpOptions(base_url=fake.url, api_version="v1beta")

    async with genai.Client(api_key="k", http_options=options).aio as sdk:
        whole = await sdk.models.generate_content(model="m", contents="?")
        chunks = [one async for one in await sdk.models.generate_content_stream(model="m", contents="?")]

    told = [part for chunk in chunks for part in (chunk.parts or [])]
    whole_parts = whole.parts or []
    for is_thought in (True, None):
        texts = ["".join(one.text or "" for one in found if one.thought is is_thought) for found in (told, whole_parts)]
        assert texts == [LONG, LONG]
    assert [part.function_call for part in told if part.function_call] == whole.function_calls
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert {chunk.response_id for chunk in chunks} == {whole.response_id}
    (last,), (candidate,) = chunks[-1].candidates or [], whole.candidates or []
    assert last.finish_reason == candidate.finish_reason == genai_types.FinishReason.STOP


# -- ollama ----------------------------------------------------------------------------------------------------------


async def test_ollama_gets_the_same_chat_and_the_same_completion(fake: FakeProvider) -> None:
    reply = ollama_shapes.chat(Answer(texts=(), tool_call=TOOL), REQUEST)
    reply["message"] |= {"content": LONG, "thinking": LONG}
    serve(fake, "ollama", "chat", reply)
    serve(fake, "ollama", "generate", ollama_shapes.generate(Answer(texts=(LONG,)), REQUEST))
    llama = ollama.AsyncClient(host=fake.url)

    chat = await llama.chat("m", messages=[])
    lines = [line async for line in await llama.chat("m", messages=[], stream=True)]
    generated = await llama.generate("m", "?")
    pieces = [piece async for piece in await llama.generate("m", "?", stream=True)]
    await llama._client.aclose()

    assert "".join(line.message.content or "" for line in lines) == chat.message.content == LONG
    assert "".join(line.message.thinking or "" for line in lines) == chat.message.thinking == LONG
    assert [call for line in lines for call in line.message.tool_calls or []] == chat.message.tool_calls
    assert lines[-1].model_dump(exclude={"message"}) == chat.model_dump(exclude={"message"})
    assert "".join(piece.response or "" for piece in pieces) == generated.response == LONG
    assert pieces[-1].model_dump(exclude={"response"}) == generated.model_dump(exclude={"response"})
