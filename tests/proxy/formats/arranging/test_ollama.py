"""Ollama's lines made one object, and an object made lines."""

from typing import Any

import orjson
import pytest

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import ollama as shapes
from tests.proxy.formats.streams import OLLAMA

CHAT = FORMATS["ollama"].operation("chat")
GENERATE = FORMATS["ollama"].operation("generate")
REQUEST: JsonObject = {"model": "llama-x"}
CALLING = Answer(texts=(), tool_call=ToolCall("weather", '{"city":"Paris"}'))
LAST = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}


def collect(stream: bytes, operation: Any = CHAT) -> Any:
    body = rearrange(operation, stream, is_streaming=False)
    return None if body is None else orjson.loads(body)


def lines_of(*messages: JsonObject, **fields: Any) -> bytes:
    told = [{"model": "m", "message": {"role": "assistant", **message}, "done": False} for message in messages]
    return b"".join(orjson.dumps(line) + b"\n" for line in (*told, LAST | fields))


@pytest.mark.parametrize("answer", [Answer(), Answer(texts=("",)), CALLING], ids=["text", "empty", "call"])
def test_fake_providers_lines_make_its_whole_reply(answer: Answer) -> None:
    chat, generate = shapes.chat_stream(answer, REQUEST), shapes.generate_stream(answer, REQUEST)

    assert collect(b"".join((*chat.texts, *chat.end))) == shapes.chat(answer, REQUEST)
    assert collect(b"".join((*generate.texts, *generate.end)), GENERATE) == shapes.generate(answer, REQUEST)


def test_thoughts_texts_calls_and_log_probabilities_are_joined() -> None:
    calls = [{"function": {"name": name, "arguments": {}}} for name in "ab"]
    told = [
        {"content": "", "thinking": "Let"},
        {"content": "", "thinking": " me"},
        *({"content": "", "tool_calls": [call]} for call in calls),
        {"content": "Pa"},
    ]
    probable = orjson.dumps({"model": "m", "message": {"content": "ris"}, "logprobs": [1], "done": False}) + b"\n"

    found = collect(probable + lines_of(*told, logprobs=[2]))

    assert found["message"] == {
        "role": "assistant",
        "content": "risPa",
        "thinking": "Let me",
        "tool_calls": calls,
    }
    assert found["logprobs"] == [1, 2]


def test_time_is_that_of_the_last_line_as_in_a_reply_that_is_no_stream() -> None:
    stream = OLLAMA.replace(b"T00:00:00Z", b"T23:59:59Z", 1)

    assert collect(stream)["created_at"] == "2026-11-24T00:00:00Z"


def test_written_lines_are_those_ollama_sends() -> None:
    message = {"role": "assistant", "content": "Paris", "thinking": "Hm", "tool_calls": [{"function": {"name": "f"}}]}
    reply = {"model": "m", "created_at": "t", "message": message, "done": True, "done_reason": "stop", "eval_count": 4}

    stream = rearrange(CHAT, orjson.dumps(reply), is_streaming=True) or b""
    *lines, last = map(orjson.loads, stream.splitlines())

    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "Hm"},
        {"role": "assistant", "content": "Paris"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
    ]
    assert [line["done"] for line in lines] == [False] * 3
    assert last == reply | {"message": {"role": "assistant", "content": ""}}


def test_reply_without_a_text_is_one_line() -> None:
    body = orjson.dumps({"model": "m", "created_at": "t", "response": "", "done": True, "done_reason": "load"})

    assert rearrange(GENERATE, body, is_streaming=True) == body + b"\n"


@pytest.mark.parametrize(
    "stream",
    [
        OLLAMA.replace(b'"done":true', b'"done":false'),
        OLLAMA.rpartition(b'{"model"')[0],
        OLLAMA + b'{"error":"busy"}\n',
        OLLAMA + OLLAMA,
        OLLAMA.replace(b"llama-x", b"llama-y", 1),
        OLLAMA.replace(b'"content":"llo"', b'"content":["llo"]'),
        OLLAMA.replace(b'"role":"assistant"', b'"role":"user"', 1),
        lines_of({"content": "", "tool_calls": {"function": {}}}),
    ],
    ids=str,
)
def test_stream_that_is_cut_or_ambiguous_is_no_reply(stream: bytes) -> None:
    assert stream != OLLAMA
    assert collect(stream) is None
