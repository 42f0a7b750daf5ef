"""Gemini's streamed responses made one, events and array alike, and one made several."""

from typing import Any

import orjson
import pytest

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import gemini as shapes
from proxy.testing.shapes.base import StreamShape
from proxy.usage import Usage
from tests.proxy.formats.streams import GEMINI

OPERATION = FORMATS["gemini"].operation("stream_generate")
REQUEST: JsonObject = {"model": "gemini-x"}
CALLING = Answer(texts=(), tool_call=ToolCall("weather", '{"city":"Paris"}'))
ANSWERS = [Answer(usage=Usage(9, 5, 3, None, 2)), Answer(texts=("",)), CALLING]


def joined(shape: StreamShape) -> bytes:
    return b"".join((*shape.before, *shape.texts, *shape.end))


def stream_of(*documents: JsonObject) -> bytes:
    return b"".join(b"data: " + orjson.dumps(document) + b"\r\n\r\n" for document in documents)


def told(parts: list[JsonObject], **fields: Any) -> JsonObject:
    return {"candidates": [{"content": {"role": "model", "parts": parts}, **fields}]}


def collect(stream: bytes) -> Any:
    body = rearrange(OPERATION, stream, is_streaming=False)
    return None if body is None else orjson.loads(body)


def parts_of(*documents: JsonObject) -> Any:
    found = collect(stream_of(*documents))
    return found and found["candidates"][0]["content"]["parts"]


@pytest.mark.parametrize("answer", ANSWERS, ids=["text", "empty", "call"])
@pytest.mark.parametrize("shape", [shapes.stream, shapes.array_stream])
def test_fake_providers_stream_makes_its_whole_response(answer: Answer, shape: Any) -> None:
    assert collect(joined(shape(answer, REQUEST))) == shapes.generate(answer, REQUEST)


@pytest.mark.parametrize("is_array", [False, True])
def test_stream_is_written_in_the_form_that_is_asked_for_from_either(is_array: bool) -> None:
    wanted = joined((shapes.array_stream if is_array else shapes.stream)(ANSWERS[0], REQUEST))

    for body in (
        orjson.dumps(shapes.generate(ANSWERS[0], REQUEST)),
        joined(shapes.stream(ANSWERS[0], REQUEST)),
        joined(shapes.array_stream(ANSWERS[0], REQUEST)),
    ):
        stream = rearrange(OPERATION, body, is_streaming=True, is_array=is_array) or b""

        assert stream[:1] == wanted[:1]
        assert collect(stream) == collect(wanted)


def test_usage_of_the_last_event_counts_and_what_stands_once_is_kept() -> None:
    reply = collect(GEMINI)

    assert reply["usageMetadata"]["totalTokenCount"] == 13
    assert (reply["modelVersion"], reply["responseId"]) == ("gemini-x", "r1")
    assert reply["candidates"] == [
        {"content": {"role": "model", "parts": [{"text": "héllo"}]}, "finishReason": "STOP", "index": 0}
    ]


def test_texts_are_joined_but_neither_with_thoughts_nor_with_signed_parts_nor_within_an_event() -> None:
    thought = {"text": "Hm", "thought": True}
    signed = {"text": "", "thoughtSignature": "c2ln"}

    found = parts_of(
        told([thought]),
        told([thought, {"text": "Pa"}]),
        told([{"text": "ris"}, {"text": "!"}]),
        told([signed]),
        told([signed, {"functionCall": {"name": "f", "args": {}}}], finishReason="STOP"),
    )

    assert found == [
        {"text": "HmHm", "thought": True},
        {"text": "Paris"},
        {"text": "!"},
        signed,
        signed,
        {"functionCall": {"name": "f", "args": {}}},
    ]


def test_candidates_that_take_turns_are_told_apart_and_the_first_may_leave_its_index_out() -> None:
    def both(text: str, **fields: Any) -> JsonObject:
        first, second = ({"content": {"parts": [{"text": text + end}]}, **fields} for end in "ab")
        return {"candidates": [first, second | {"index": 1}]}

    found = collect(stream_of(both("1"), both("2", finishReason="STOP")))

    assert [candidate["content"]["parts"][0]["text"] for candidate in found["candidates"]] == ["1a2a", "1b2b"]


def test_blocked_prompt_is_the_same_in_both_forms() -> None:
    reply = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 1}}
    body = orjson.dumps(reply)

    assert rearrange(OPERATION, body, is_streaming=True) == b"data: " + body + b"\n\n"
    assert collect(stream_of(reply)) == reply


def test_comments_are_never_written_and_data_begins_with_one_space_as_the_sdk_needs() -> None:
    body = orjson.dumps(shapes.generate(Answer(texts=("x" * 3000,)), REQUEST))

    stream = rearrange(OPERATION, body, is_streaming=True) or b""

    assert [event[:7] for event in stream.split(b"\n\n")] == [b"data: {"] * 3 + [b""]


@pytest.mark.parametrize(
    "stream",
    [
        GEMINI.replace(b'"finishReason":"STOP",', b""),
        GEMINI + stream_of({"error": {"code": 503, "message": "busy"}}),
        GEMINI.replace(b'"modelVersion":"gemini-x"', b'"modelVersion":"gemini-y"', 1),
        GEMINI.replace(b'"index":0', b'"index":1'),
        GEMINI.replace(b'"role":"model"', b'"role":"user"', 1),
        GEMINI.replace(b"data: ", b"event: news\r\ndata: ", 1),
        stream_of(told([], finishReason="STOP", safetyRatings=[1]), told([], safetyRatings=[2])),
        stream_of(told([], finishReason="STOP"), told([], finishReason="SAFETY")),
        stream_of(told([{"functionCall": {"name": "f", "willContinue": True}}], finishReason="STOP")),
        stream_of(*[told([{"inlineData": {"mimeType": "audio/pcm", "data": "eA=="}}], finishReason="STOP")] * 2),
        stream_of({"candidates": [{"finishReason": "STOP"}, {"finishReason": "STOP"}]}),
        joined(shapes.array_stream(Answer(), REQUEST))[:-1],
    ],
    ids=str,
)
def test_stream_that_is_cut_or_ambiguous_is_no_response(stream: bytes) -> None:
    assert stream != GEMINI
    assert collect(stream) is None
