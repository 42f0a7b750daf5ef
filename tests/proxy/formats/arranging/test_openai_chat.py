"""OpenAI's chunks as servers send them, put together; and what of them is refused."""

from typing import Any

import orjson
import pytest

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import openai as shapes
from tests.proxy.formats.streams import OPENAI_CHAT, OPENAI_CRLF, OPENAI_SPACED

CHAT = FORMATS["openai"].operation("chat")
COMPLETIONS = FORMATS["openai"].operation("completions")
REQUEST: JsonObject = {"model": "gpt-x", "stream_options": {"include_usage": True}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def stream_of(*chunks: Any, done: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + done


def deltas(*given: JsonObject, reason: str = "stop") -> bytes:
    chunks = [{"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in given]
    last = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return stream_of(*chunks, last, {"id": "1", "choices": [], "usage": USAGE})


def collect(stream: bytes, operation: Any = CHAT) -> Any:
    body = rearrange(operation, stream, is_streaming=False)
    return None if body is None else orjson.loads(body)


def message(stream: bytes) -> Any:
    found = collect(stream)
    return found and found["choices"][0]["message"]


@pytest.mark.parametrize(
    "answer", [Answer(), Answer(texts=("",)), Answer(texts=(), tool_call=ToolCall("weather", '{"city": "Par'))]
)
def test_fake_providers_chunks_make_its_whole_reply(answer: Answer) -> None:
    shape = shapes.chat_stream(answer, REQUEST)
    whole = shapes.chat(answer, REQUEST)
    del whole["service_tier"], whole["choices"][0]["message"]["annotations"]  # its stream does not have them

    assert collect(b"".join((*shape.before, *shape.texts, *shape.end))) == whole


def test_fake_providers_legacy_chunks_make_its_whole_reply_once_they_tell_their_usage() -> None:
    answer = Answer()
    shape = shapes.completion_stream(answer, REQUEST)
    usage = stream_of({"choices": [], "usage": shapes.usage(answer)}, done=b"")

    assert collect(b"".join((*shape.texts, *shape.end)), COMPLETIONS) is None
    assert collect(b"".join((*shape.texts, shape.end[0], usage, shape.end[1])), COMPLETIONS) == shapes.completion(
        answer, REQUEST
    )


@pytest.mark.parametrize("stream", [OPENAI_CHAT, OPENAI_SPACED, OPENAI_CRLF], ids=["plain", "spaced", "crlf"])
def test_spelling_of_the_stream_does_not_matter(stream: bytes) -> None:
    reply = collect(stream)

    assert (reply["id"], reply["created"], reply["model"]) == ("chatcmpl-1", 1, "gpt-x")
    assert reply["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "héllo 🌍"}, "finish_reason": "stop"}
    ]
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


def test_fragments_of_interleaved_calls_are_joined_by_their_index() -> None:
    calls = [
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}},
        {"index": 1, "id": "b", "function": {"arguments": "[]"}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]

    found = message(deltas({"role": "assistant", "content": None}, *({"tool_calls": [call]} for call in calls)))

    assert found == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
        ],
    }


def test_whole_calls_without_an_index_stand_in_their_order() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]

    assert message(deltas({"tool_calls": calls}))["tool_calls"] == calls
    assert message(deltas({"tool_calls": calls[:1]}, {"tool_calls": calls[1:]})) is None  # two calls, or pieces of one?


def test_reasoning_and_refusal_are_joined_and_what_comes_once_is_kept() -> None:
    found = message(
        deltas(
            {"role": "assistant", "reasoning_content": "Let"},
            {"reasoning_content": " me see", "content": None},
            {"refusal": "I "},
            {"refusal": "won't", "annotations": [{"type": "url_citation"}]},
        )
    )

    assert found == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Let me see",
        "refusal": "I won't",
        "annotations": [{"type": "url_citation"}],
    }


def test_log_probabilities_are_chained() -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}]}
        for text, logprobs in [("a", {"content": [1], "refusal": None}), ("b", {"content": [2], "refusal": None})]
    ]
    last = {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}], "usage": USAGE}

    assert collect(stream_of(*chunks, last))["choices"][0]["logprobs"] == {"content": [1, 2], "refusal": None}


def test_azures_first_chunk_gives_its_filter_results_and_no_empty_id() -> None:
    first = {"id": "", "created": 0, "model": "", "object": "", "choices": [], "prompt_filter_results": [{"x": 1}]}

    reply = collect(stream_of(first, done=b"") + OPENAI_CHAT)

    assert (reply["id"], reply["created"], reply["prompt_filter_results"]) == ("chatcmpl-1", 1, [{"x": 1}])


@pytest.mark.parametrize(
    "stream",
    [
        OPENAI_CHAT.replace(b"data: [DONE]\n\n", b""),
        OPENAI_CHAT + b'data: {"choices":[]}\n\n',
        OPENAI_CHAT.replace(b'"finish_reason":"stop"', b'"finish_reason":null'),
        OPENAI_CHAT.replace(b'"usage":{"prompt', b'"usagf":{"prompt'),
        OPENAI_CHAT.replace(b"data: [DONE]", b'data: {"error":{"message":"busy"}}\n\ndata: [DONE]'),
        OPENAI_CHAT.replace(b": ping", b"event: delta\ndata: {}"),
        OPENAI_CHAT.replace(b": ping", b"ping"),
        OPENAI_CHAT.replace(b'"id":"chatcmpl-1"', b'"id":"chatcmpl-2"', 1),
        OPENAI_CHAT.replace(b'"index":0', b'"index":1'),
        OPENAI_CHAT.replace(b'{"content":"lo"}', b'{"content":["lo"]}'),
        OPENAI_CHAT.replace(b'{"content":"lo"}', b'{"text":"lo"},"text":"lo"'),
        deltas({"audio": {"data": "a"}}, {"audio": {"data": "b"}}),
        deltas({"role": "assistant"}, {"role": "user"}),
        deltas({"tool_calls": [{"index": 1, "id": "a", "type": "function", "function": {"name": "f"}}]}),
        deltas({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}}]}),
        deltas(
            {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]},
            {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "f"}}]},
        ),
    ],
    ids=str,
)
def test_stream_that_is_cut_or_ambiguous_is_no_reply(stream: bytes) -> None:
    assert stream != OPENAI_CHAT
    assert collect(stream) is None


def test_usage_is_in_a_stream_exactly_if_asked_for() -> None:
    body = orjson.dumps(shapes.chat(Answer(), REQUEST))

    with_usage = rearrange(CHAT, body, is_streaming=True, with_usage=True) or b""
    without = rearrange(CHAT, body, is_streaming=True) or b""

    assert (with_usage.count(b'"usage":{'), with_usage.count(b'"usage":null')) == (1, with_usage.count(b"data:") - 2)
    assert b'"usage"' not in without
    assert rearrange(CHAT, with_usage, is_streaming=True) == without
    assert rearrange(CHAT, without, is_streaming=True, with_usage=True) is None


def test_stream_of_a_whole_reply_without_usage_has_none() -> None:
    reply = shapes.chat(Answer(), REQUEST) | {"usage": None}

    assert rearrange(CHAT, orjson.dumps(reply), is_streaming=True)
    assert rearrange(CHAT, orjson.dumps(reply), is_streaming=True, with_usage=True) is None


def test_whole_numbers_beyond_64_bits_and_long_texts_are_kept_to_the_last_digit() -> None:
    reply = shapes.chat(Answer(texts=("x" * 5000,)), REQUEST) | {"exact": 2**70 + 1}
    body = orjson.dumps(reply | {"exact": 0}).replace(b'"exact":0', b'"exact":%d' % (2**70 + 1))

    stream = rearrange(CHAT, body, is_streaming=True, with_usage=True) or b""

    assert b'"exact":1180591620717411303425' in stream
    assert b'"exact":1180591620717411303425' in (rearrange(CHAT, stream, is_streaming=False) or b"")
    assert max(len(event) for event in stream.split(b"\n\n")) < 2000


def test_lone_surrogates_are_refused_rather_than_replaced() -> None:
    body = orjson.dumps(shapes.chat(Answer(texts=("x",)), REQUEST)).replace(b'"x"', b'"\\ud800 1234567890123456789"')

    assert b"\\ud800" in body
    assert rearrange(CHAT, body, is_streaming=True) is None
