"""Events of the responses API made a response, and the official sequence written from one."""

from typing import Any

import orjson
import pytest

from proxy.exchange import JsonObject
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.formats.sse import parse_event
from proxy.testing.answers import Answer, ToolCall
from proxy.testing.shapes import responses as shapes
from tests.proxy.formats.streams import RESPONSES

OPERATION = FORMATS["openai"].operation("responses")
REQUEST: JsonObject = {"model": "gpt-x"}
CALLING = Answer(texts=(), tool_call=ToolCall("weather", '{"city": "Par'))
BEGIN = ["response.created", "response.in_progress", "response.output_item.added"]
END = ["response.output_item.done", "response.completed"]


def fake_stream(answer: Answer) -> bytes:
    shape = shapes.stream(answer, REQUEST)
    return b"".join((*shape.before, *shape.texts, *shape.end))


def events_of(reply: JsonObject) -> list[Any]:
    stream = rearrange(OPERATION, orjson.dumps(reply), is_streaming=True)
    assert stream is not None
    found = [parse_event(event) for event in stream.split(b"\n\n")[:-1]]
    documents = [orjson.loads(data) for _, data in found]
    assert [name for name, _ in found] == [document["type"] for document in documents]
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    return documents


def with_item(item: JsonObject) -> JsonObject:
    return shapes.response(Answer(), REQUEST) | {"output": [item]}


@pytest.mark.parametrize("answer", [Answer(), CALLING], ids=["text", "call"])
def test_fake_providers_events_make_its_whole_response(answer: Answer) -> None:
    body = rearrange(OPERATION, fake_stream(answer), is_streaming=False)

    assert body is not None
    assert orjson.loads(body) == shapes.response(answer, REQUEST)


@pytest.mark.parametrize("answer", [Answer(texts=("Paris",)), CALLING], ids=["text", "call"])
def test_written_events_are_those_the_fake_provider_sends(answer: Answer) -> None:
    written = events_of(shapes.response(answer, REQUEST))

    sent = [orjson.loads(parse_event(event)[1]) for event in fake_stream(answer).split(b"\n\n")[:-1]]
    for event in written[:2]:
        del event["response"]["usage"]  # null, which the fake leaves out
    assert written == sent


def test_reasoning_is_told_summary_by_summary() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}

    events = events_of(with_item(item))

    part = "response.reasoning_summary_part"
    text = "response.reasoning_summary_text"
    assert [event["type"] for event in events] == [
        *BEGIN,
        *(f"{part}.added", f"{text}.delta", f"{text}.done", f"{part}.done"),
        *END,
    ]
    assert events[2]["item"] == {"type": "reasoning", "id": "rs_1", "summary": []}
    assert (events[4]["item_id"], events[4]["summary_index"], events[4]["delta"]) == ("rs_1", 0, "Hm.")


def test_annotations_and_log_probabilities_come_in_events_of_their_own() -> None:
    citation, logprob = {"type": "url_citation", "url": "u"}, {"token": "P", "logprob": -1.0}
    part = {"type": "output_text", "text": "Paris", "annotations": [citation], "logprobs": [logprob]}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}

    added, delta, annotated, done = events_of(with_item(message))[3:7]

    assert (added["part"]["text"], added["part"]["annotations"], added["part"]["logprobs"]) == ("", [], [])
    assert (delta["delta"], delta["logprobs"]) == ("Paris", [logprob])
    assert (annotated["annotation_index"], annotated["annotation"]) == (0, citation)
    assert (done["text"], done["logprobs"]) == ("Paris", [logprob])


def test_response_cut_by_its_limit_ends_so() -> None:
    reply = shapes.response(Answer(), REQUEST)
    reply |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}

    events = events_of(reply)

    assert events[-1]["type"] == "response.incomplete"
    assert events[0]["response"]["incomplete_details"] is None
    assert events[-1]["response"] == reply


@pytest.mark.parametrize(
    "reply",
    [
        with_item({"type": "web_search_call", "id": "ws_1", "status": "completed"}),
        with_item({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}),
        with_item({"type": "message", "id": "m", "content": [{"type": "output_image"}]}),
        shapes.response(Answer(), REQUEST) | {"status": "failed", "error": {"message": "no"}},
        shapes.response(Answer(), REQUEST) | {"status": "queued"},
    ],
    ids=["hosted tool", "no id", "unknown part", "failed", "queued"],
)
def test_response_whose_events_are_not_known_is_refused(reply: JsonObject) -> None:
    assert rearrange(OPERATION, orjson.dumps(reply), is_streaming=True) is None


@pytest.mark.parametrize(
    "stream",
    [
        fake_stream(Answer()).partition(b"event: response.completed")[0],
        fake_stream(Answer()).replace(b"response.completed", b"response.failed"),
        fake_stream(Answer()) + b'event: error\ndata: {"type":"error","message":"busy"}\n\n',
        fake_stream(Answer()).replace(b"event: response.output_text.done", b"event: response.output_text.delta"),
        RESPONSES,  # its output has an item that was never told to be done
    ],
    ids=["cut", "failed", "error", "two kinds", "items differ"],
)
def test_stream_that_is_cut_or_failed_is_no_response(stream: bytes) -> None:
    assert rearrange(OPERATION, stream, is_streaming=False) is None
