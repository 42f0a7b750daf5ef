"""Anthropic's events made a message, and a message made events."""

from typing import Any

import orjson
import pytest

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import anthropic as shapes
from proxy.usage import Usage
from tests.proxy.formats.streams import ANTHROPIC

OPERATION = FORMATS["anthropic"].operation("chat")
REQUEST: JsonObject = {"model": "claude-x"}
CALLING = Answer(texts=(), tool_call=ToolCall("weather", '{"city":"Paris","days":[1,2.5]}'))
START, TEXT_START, PING, *DELTAS, TEXT_STOP, MESSAGE_DELTA, STOP = [
    event + b"\n\n" for event in ANTHROPIC.split(b"\n\n")[:-1]
]


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def block(start: JsonObject, *deltas: JsonObject, index: int = 0) -> bytes:
    return b"".join(
        (
            event("content_block_start", index=index, content_block=start),
            *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
            event("content_block_stop", index=index),
        )
    )


def collect(stream: bytes) -> Any:
    body = rearrange(OPERATION, stream, is_streaming=False)
    return None if body is None else orjson.loads(body)


def content(*blocks: bytes) -> Any:
    found = collect(b"".join((START, *blocks, MESSAGE_DELTA, STOP)))
    return found and found["content"]


@pytest.mark.parametrize(
    "answer", [Answer(usage=Usage(9, 5, 3, 1)), Answer(texts=("",)), CALLING], ids=["text", "empty", "call"]
)
def test_fake_providers_events_make_its_whole_message(answer: Answer) -> None:
    shape = shapes.message_stream(answer, REQUEST)

    assert collect(b"".join((*shape.before, *shape.texts, *shape.end))) == shapes.message(answer, REQUEST)


def test_counts_at_the_end_replace_those_at_the_start_and_the_others_stay() -> None:
    reply = collect(ANTHROPIC)

    assert reply["content"] == [{"type": "text", "text": "héllo"}]
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("end_turn", None)
    assert reply["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 3,
        "output_tokens": 4,
    }


def test_thoughts_are_joined_with_their_signature_and_citations_listed() -> None:
    found = content(
        block(
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Let me"},
            {"type": "thinking_delta", "thinking": " see"},
            {"type": "signature_delta", "signature": "c2ln"},
        ),
        block({"type": "redacted_thinking", "data": "eA=="}, index=1),
        block(
            {"type": "text", "text": "", "citations": []},
            {"type": "text_delta", "text": "Paris"},
            {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "P"}},
            index=2,
        ),
    )

    assert found == [
        {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Paris", "citations": [{"type": "char_location", "cited_text": "P"}]},
    ]


def test_call_without_input_has_an_empty_one() -> None:
    call = {"type": "tool_use", "id": "t", "name": "now", "input": {}}

    assert content(block(call, {"type": "input_json_delta", "partial_json": ""})) == [call]


def test_input_with_whole_numbers_beyond_64_bits_is_kept_to_the_last_digit() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    stream = b"".join(
        (
            START,
            block(call, {"type": "input_json_delta", "partial_json": f'{{"n":{2**70}}}'}),
            MESSAGE_DELTA,
            STOP,
        )
    )

    body = rearrange(OPERATION, stream, is_streaming=False) or b""
    again = rearrange(OPERATION, body, is_streaming=True) or b""

    assert b'"input":{"n":1180591620717411303424}' in body
    assert rb'"partial_json":"{\"n\":1180591620717411303424}"' in again


def test_input_with_half_a_character_is_refused() -> None:
    delta = {"type": "input_json_delta", "partial_json": "{HALF 1234567890123456789"}
    call = block({"type": "tool_use", "input": {}}, delta).replace(b"HALF", rb"\ud800")

    assert content(call) is None


def test_what_message_delta_tells_beside_its_delta_belongs_to_the_message() -> None:
    told = event("message_delta", delta={"stop_reason": "end_turn"}, usage={}, context_management={"applied_edits": []})

    assert collect(START + told + STOP)["context_management"] == {"applied_edits": []}


def test_written_stream_starts_with_no_output_and_ends_with_all_of_it() -> None:
    reply = shapes.message(Answer(texts=("Paris",)), REQUEST)

    stream = rearrange(OPERATION, orjson.dumps(reply), is_streaming=True) or b""
    documents = [orjson.loads(part.split(b"data: ")[1]) for part in stream.split(b"\n\n")[:-1]]

    assert [document["type"] for document in documents] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert documents[0]["message"]["usage"] == reply["usage"] | {"output_tokens": 0}
    assert documents[4]["usage"] == {"output_tokens": 5}


@pytest.mark.parametrize(
    "stream",
    [
        ANTHROPIC.replace(STOP, b""),
        ANTHROPIC.replace(STOP, event("error", error={"type": "overloaded_error"}) + STOP),
        ANTHROPIC + MESSAGE_DELTA,
        ANTHROPIC.replace(START, b""),
        ANTHROPIC.replace(START, START + START),
        ANTHROPIC.replace(TEXT_STOP, b""),
        ANTHROPIC.replace(TEXT_STOP, TEXT_STOP + TEXT_STOP),
        ANTHROPIC.replace(TEXT_STOP, TEXT_STOP + DELTAS[0]),
        ANTHROPIC.replace(TEXT_START, b""),
        ANTHROPIC.replace(MESSAGE_DELTA, b""),
        ANTHROPIC.replace(b'"delta":{"stop_reason', b'"delta":{"id":"msg_2","stop_reason'),
        ANTHROPIC.replace(MESSAGE_DELTA, event("message_delta", delta={"stop_reason": "x"}, usage={}, news=1)),
        ANTHROPIC.replace(PING, event("new_kind")),
        ANTHROPIC.replace(b"event: ping", b"event: pong"),
        ANTHROPIC.replace(b'"index":0', b'"index":1'),
        ANTHROPIC.replace(b"text_delta", b"new_delta"),
        ANTHROPIC.replace(b'"text_delta"', b'"text_delta","more":1'),
        ANTHROPIC.replace(b'"type":"text","text":""', b'"type":"compaction"'),
    ],
    ids=str,
)
def test_stream_that_is_cut_or_strange_is_no_message(stream: bytes) -> None:
    assert stream != ANTHROPIC
    assert collect(stream) is None


@pytest.mark.parametrize(
    "blocks",
    [
        block({"type": "tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": '{"a"'}),
        block({"type": "tool_use", "input": {}}, {"type": "input_json_delta", "partial_json": "[]"}),
        block({"type": "tool_use", "input": {"a": 1}}, {"type": "input_json_delta", "partial_json": "{}"}),
        block({"type": "text", "text": ""}, {"type": "thinking_delta", "thinking": "x"}),
        block({"type": "web_search_tool_result"}, {"type": "text_delta", "text": "x"}),
        block(
            {"type": "thinking", "thinking": "", "signature": ""}, *[{"type": "signature_delta", "signature": "x"}] * 2
        ),
    ],
    ids=["input cut", "input a list", "input twice", "foreign delta", "result in pieces", "two signatures"],
)
def test_block_whose_deltas_do_not_fit_is_refused(blocks: bytes) -> None:
    assert content(blocks) is None
