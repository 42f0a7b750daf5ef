"""Answers given again: byte by byte, in the other manner, at the recorded pace, and as the vendors' SDKs read them."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anthropic
import ollama
import openai
import orjson
import pytest
from google import genai
from google.genai import types as genai_types

from plugins.cache.replay import MARK
from proxy.testing import FakeProvider, Faults, ProxyHarness
from proxy.usage import Usage
from tests.plugins.cache.rig import STREAMED, WHOLE, Crowd, ask, begin, said, store_of, until_idle

pytestmark = [
    # google-genai makes a subclass of aiohttp's session, which aiohttp would rather it did not
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

USAGE = Usage(input_tokens=7, output_tokens=5)
TEXTS = ["Pa", "ris", " \u00e9\u2028\U0001f600", "\n\ndata: [DONE]\n\n", " in France"]
SPLITS = [Faults(), Faults(split_every=7), Faults(crlf=True), Faults(comments=True), Faults(data_lines=True)]


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("faults", SPLITS, ids=["plain", "cut", "crlf", "comments", "lines"])
async def test_stream_is_given_again_byte_by_byte(
    proxy: ProxyHarness, upstream: FakeProvider, name: str, faults: Faults
) -> None:
    upstream.stream(TEXTS, usage=USAGE, faults=faults)
    await begin(proxy, upstream, STREAMED[name].provider)

    first = await ask(proxy, STREAMED[name])
    second = await ask(proxy, STREAMED[name])

    assert (said(first)[1], said(second)) == ("miss", (200, "hit", None))
    assert second.body == first.body
    assert second.header("content-type") == first.header("content-type")
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "native"])
async def test_whole_answer_is_given_again_byte_by_byte(proxy: ProxyHarness, upstream: FakeProvider, name: str) -> None:
    upstream.reply("".join(TEXTS), usage=USAGE, is_chunked=True)
    await begin(proxy, upstream, WHOLE[name].provider)

    first, second = await ask(proxy, WHOLE[name]), await ask(proxy, WHOLE[name])

    assert (said(second), second.body) == ((200, "hit", None), first.body)
    assert second.header("content-length") == str(len(first.body))


async def test_options_of_a_stream_make_another_form_and_no_other_call(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(TEXTS, usage=USAGE)
    await begin(proxy, upstream)
    with_usage = {"stream_options": {"include_usage": True}}

    told = await ask(proxy, STREAMED["openai"], **with_usage)
    untold = await ask(proxy, STREAMED["openai"])

    assert (said(untold)[1], upstream.requests_seen) == ("hit", 1)
    assert b'"usage":{' in told.body
    assert b'"usage":{' not in untold.body


async def test_gemini_gives_events_where_an_array_was_recorded_and_the_other_way_round(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(TEXTS, usage=USAGE)
    await begin(proxy, upstream, "gemini")

    array = await ask(proxy, STREAMED["gemini array"])
    events = await ask(proxy, STREAMED["gemini"])
    whole = await ask(proxy, WHOLE["gemini"])

    assert [said(each)[1] for each in (array, events, whole)] == ["miss", "hit", "hit"]
    assert (events.header("content-type") or "").startswith("text/event-stream")
    assert events.body.startswith(b"data: {")
    assert isinstance(orjson.loads(array.body), list)
    text = "".join(part["text"] for part in orjson.loads(whole.body)["candidates"][0]["content"]["parts"])
    assert text == "".join(TEXTS)


async def test_echoed_streams_are_kept_like_others(proxy: ProxyHarness) -> None:
    await proxy.start(providers={"echo": {"type": "echo"}}, cache={"enabled": True})

    replies = [await ask(proxy, STREAMED["openai"], model="echo/echo") for _ in range(2)]

    assert [said(each)[1] for each in replies] == ["miss", "hit"]
    assert replies[0].body == replies[1].body


# -- the native API --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(False, False), (False, True), (True, False), (True, True)])
async def test_native_api_tells_that_an_answer_is_kept_and_whose_request_it_answers(
    proxy: ProxyHarness, upstream: FakeProvider, order: tuple[bool, bool]
) -> None:
    upstream.stream(["Pa", "ris"], usage=USAGE)
    await begin(proxy, upstream)
    await ask(proxy, WHOLE["native"], {"X-Trace-Id": "first"}, stream=order[0])

    again = await ask(proxy, WHOLE["native"], {"X-Trace-Id": "second"}, stream=order[1])
    lines = [line[6:] for line in again.body.split(b"\n") if line.startswith(b"data: {")]
    last: dict[str, Any] = orjson.loads(lines[-1] if order[1] else again.body)

    assert (said(again)[:2], upstream.requests_seen) == ((200, "hit"), 1)
    assert (last["cached"], last["traceId"]) == (True, "second")
    assert 0 <= last["latencyMs"] < 1000
    assert b"first" not in again.body


# -- pace ------------------------------------------------------------------------------------------------------------


async def test_stream_is_replayed_at_its_own_pace_up_to_the_cap(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["Pa", "ris", " in"], delay_s=0.15)
    await begin(proxy, upstream, replay="paced", replayCap="20ms")
    first = await ask(proxy, STREAMED["openai"])

    second = await ask(proxy, STREAMED["openai"])

    assert (second.body, said(second)[1]) == (first.body, "hit")
    times_s = [at_s for at_s, _ in second.parts]
    assert len(times_s) >= 3  # what ends the stream came with the last text, or in a part of its own
    assert 0.03 < times_s[-1] - times_s[0] < 0.25


@pytest.mark.parametrize("settings", [{"replay": "instant"}, {"replay": "paced", "replayCap": 0}])
async def test_stream_is_replayed_at_once_where_that_is_said(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, Any]
) -> None:
    upstream.stream(["Pa", "ris", " in"], delay_s=0.05)
    await begin(proxy, upstream, **settings)
    await ask(proxy, STREAMED["openai"])

    second = await ask(proxy, STREAMED["openai"])

    assert said(second)[1] == "hit"
    assert second.parts[-1][0] - second.parts[0][0] < 0.05


async def test_client_that_leaves_a_paced_replay_leaves_nothing_behind(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["x"] * 3, delay_s=0.005)
    await begin(proxy, upstream, replay="paced", replayCap="30s")
    await ask(proxy, STREAMED["openai"])
    entry, _ = store_of(proxy).newest(1)[0]
    entry.pace = MARK.pack(entry.body.index(b"\n\n") + 2, 0) + MARK.pack(len(entry.body), 30_000)

    async with Crowd(proxy) as crowd:
        client = (await crowd.ask(1, STREAMED["openai"]))[0]
        await client.read_head()
        client.reset()
    await until_idle(proxy)

    assert upstream.requests_seen == 1


# -- real SDKs, one manner after the other ---------------------------------------------------------------------------

ORDERS = [(False, True), (True, False), (True, True), (False, False)]
CHAT: dict[str, Any] = {"model": "fake-model", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def gpt(proxy: ProxyHarness, upstream: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    await begin(proxy, upstream, "openai")
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="client-key", max_retries=0) as sdk:
        yield sdk


@pytest.mark.parametrize("order", ORDERS)
async def test_openai_reads_both_manners(
    gpt: openai.AsyncOpenAI, upstream: FakeProvider, order: tuple[bool, bool]
) -> None:
    upstream.stream(TEXTS, usage=USAGE)
    seen = []

    for is_streaming in order:
        if is_streaming:
            options: Any = {"include_usage": True}
            stream = await gpt.chat.completions.create(**CHAT, stream=True, stream_options=options)
            chunks = [one async for one in stream]
            text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
            usage = chunks[-1].usage
        else:
            reply = await gpt.chat.completions.create(**CHAT)
            text, usage = reply.choices[0].message.content or "", reply.usage
        seen.append((text, usage and usage.total_tokens))

    assert seen == [("".join(TEXTS), 12)] * 2
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_openai_reads_responses_in_both_manners(
    gpt: openai.AsyncOpenAI, upstream: FakeProvider, order: tuple[bool, bool]
) -> None:
    upstream.stream(TEXTS, usage=USAGE)
    seen = []

    for is_streaming in order:
        if is_streaming:
            events: list[Any] = [
                one async for one in await gpt.responses.create(model="fake-model", input="Hello", stream=True)
            ]
            assert "".join(one.delta for one in events if one.type == "response.output_text.delta") == "".join(TEXTS)
            seen.append(events[-1].response.output_text)
        else:
            seen.append((await gpt.responses.create(model="fake-model", input="Hello")).output_text)

    assert seen == ["".join(TEXTS)] * 2
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_anthropic_reads_both_manners(
    proxy: ProxyHarness, upstream: FakeProvider, order: tuple[bool, bool]
) -> None:
    await begin(proxy, upstream, "anthropic")
    upstream.stream(TEXTS, usage=USAGE)
    seen = []

    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key="client-key", max_retries=0) as sdk:
        for is_streaming in order:
            if is_streaming:
                async with sdk.messages.stream(max_tokens=9, **CHAT) as stream:
                    message = await stream.get_final_message()
            else:
                message = await sdk.messages.create(max_tokens=9, **CHAT)
            seen.append((message.content[0].text, message.usage.input_tokens, message.usage.output_tokens))  # type: ignore[union-attr]  # a text

    assert seen == [("".join(TEXTS), 7, 5)] * 2
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_gemini_reads_both_manners(proxy: ProxyHarness, upstream: FakeProvider, order: tuple[bool, bool]) -> None:
    await begin(proxy, upstream, "gemini")
    upstream.stream(TEXTS, usage=USAGE)
    seen = []

    options = genai_types.HttpOptions(base_url=proxy.url)
    async with genai.Client(api_key="client-key", http_options=options).aio as sdk:
        for is_streaming in order:
            if is_streaming:
                stream = await sdk.models.generate_content_stream(model="fake-model", contents="Hello")
                chunks = [one async for one in stream]
                seen.append("".join(one.text or "" for one in chunks))
            else:
                seen.append((await sdk.models.generate_content(model="fake-model", contents="Hello")).text or "")

    assert seen == ["".join(TEXTS)] * 2
    assert upstream.requests_seen == 1


@pytest.mark.parametrize("order", ORDERS)
async def test_ollama_reads_both_manners(proxy: ProxyHarness, upstream: FakeProvider, order: tuple[bool, bool]) -> None:
    await begin(proxy, upstream, "ollama")
    texts = [text.replace("\u2028", "") for text in TEXTS]  # at which its SDK takes a line for ended
    upstream.stream(texts, usage=USAGE)
    seen = []
    client = ollama.AsyncClient(host=proxy.url)

    for is_streaming in order:
        if is_streaming:
            async with aclosing(await client.chat("fake-model", CHAT["messages"], stream=True)) as stream:  # type: ignore[type-var]  # as in the SDK's own tests
                parts = [part async for part in stream]
            seen.append(("".join(part.message.content or "" for part in parts), parts[-1].eval_count))
        else:
            reply = await client.chat("fake-model", CHAT["messages"])
            seen.append((reply.message.content or "", reply.eval_count))
    await client._client.aclose()

    assert seen == [("".join(texts), 5)] * 2
    assert upstream.requests_seen == 1
