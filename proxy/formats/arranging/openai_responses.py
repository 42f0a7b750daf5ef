"""OpenAI's responses API: the response object, and the sequence of events that leads to it."""

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Arranger, StreamForm, Unarrangeable
from proxy.formats.arranging.material import (
    object_in,
    objects_in,
    pieces_of,
    read_events,
    text_in,
    write_document,
)

Told = Iterator[tuple[str, JsonObject]]
"""Events as kind (without `response.`) and fields, before they are numbered."""

ENDS: Final = ("completed", "incomplete")
"""States of a successful response; one cut by its limit on output is `incomplete`."""
UNTOLD: Final = ("usage", "incomplete_details", "completed_at")
"""What the response does not know while it is in progress."""
PART_TEXTS: Final = MappingProxyType({"output_text": "text", "refusal": "refusal", "reasoning_text": "text"})
"""The parts of a content, and the field that comes in pieces."""
CALL_INPUTS: Final = MappingProxyType(
    {
        "function_call": ("arguments", "function_call_arguments"),
        "custom_tool_call": ("input", "custom_tool_call_input"),
    }
)
"""The calls that clients carry out: the field that comes in pieces, and the name of its events."""


class ResponsesArranger(Arranger):
    """Takes the response from the last event of a stream; writes all events that lead to one."""

    def collect(self, body: bytes) -> JsonObject:
        """Return the response of the event that ends the stream, which repeats everything told before."""
        events = read_events(body).events
        if not events:
            raise Unarrangeable("no events")
        items = 0
        for name, event in events:
            kind = event.get("type", name)
            if kind in ("error", "response.failed") or name not in (None, kind) or event.get("error"):
                raise Unarrangeable("an error, or an event of two kinds")
            items += kind == "response.output_item.done"
        last = events[-1].document
        reply = object_in(last.get("response"))
        if last.get("type") != f"response.{reply.get('status')}":
            raise Unarrangeable("the stream does not end with the response")
        if items != len(objects_in(reply.get("output"))):
            raise Unarrangeable("the response does not repeat all of the output")
        return reply

    def check(self, reply: JsonObject) -> None:
        """Look at kind and state."""
        if reply.get("object") != "response" or reply.get("status") not in ENDS or reply.get("error"):
            raise Unarrangeable("no response that ended well")
        objects_in(reply.get("output"))

    def spread(self, reply: JsonObject, form: StreamForm) -> bytes:
        """Write the events in the official order, numbered from 0."""
        unknown = {key: None for key in UNTOLD if key in reply}
        begun = reply | {"status": "in_progress", "output": []} | unknown
        told: list[tuple[str, JsonObject]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
        for index, item in enumerate(reply["output"]):
            told += [(kind, {"output_index": index} | fields) for kind, fields in _spread_item(item)]
        told.append((reply["status"], {"response": reply}))
        return b"".join(
            write_document({"type": f"response.{kind}", "sequence_number": number} | fields, f"response.{kind}")
            for number, (kind, fields) in enumerate(told)
        )


def _spread_item(item: JsonObject) -> Told:
    spread = SPREADERS.get(str(item.get("type")))
    if spread is None:
        raise Unarrangeable("an item whose events are not known here")
    place = {"item_id": text_in(item.get("id"))}
    for kind, fields in spread(item):
        yield kind, fields if kind.startswith("output_item.") else place | fields


def _in_progress(item: JsonObject, without: JsonObject) -> JsonObject:
    state = {"status": "in_progress"} if "status" in item else {}
    return item | state | without


def _spread_message(item: JsonObject) -> Told:
    yield "output_item.added", {"item": _in_progress(item, {"content": []})}
    yield from _spread_parts(item)
    yield "output_item.done", {"item": item}


def _spread_parts(item: JsonObject) -> Told:
    for index, part in enumerate(objects_in(item.get("content"))):
        place = {"content_index": index}
        for kind, fields in _spread_part(part):
            yield kind, place | fields


def _spread_part(part: JsonObject) -> Told:
    kind = str(part.get("type"))
    if kind not in PART_TEXTS:
        raise Unarrangeable("a part of an unknown kind")
    key = PART_TEXTS[kind]
    text = text_in(part.get(key))
    lists: JsonObject = {name: [] for name in ("annotations", "logprobs") if part.get(name)}
    logprobs = {"logprobs": part.get("logprobs") or []} if kind == "output_text" else {}
    yield "content_part.added", {"part": part | lists | {key: ""}}
    for at, piece in enumerate(pieces_of(text)):
        yield f"{kind}.delta", {"delta": piece} | (logprobs if at == 0 else {name: [] for name in logprobs})
    for at, annotation in enumerate(objects_in(part.get("annotations") or [])):
        yield f"{kind}.annotation.added", {"annotation_index": at, "annotation": annotation}
    yield f"{kind}.done", {key: text} | logprobs
    yield "content_part.done", {"part": part}


def _spread_reasoning(item: JsonObject) -> Told:
    content: JsonObject = {"content": []} if item.get("content") else {}
    yield "output_item.added", {"item": _in_progress(item, {"summary": []} | content)}
    for index, part in enumerate(objects_in(item.get("summary"))):
        place = {"summary_index": index}
        if part.get("type") != "summary_text":
            raise Unarrangeable("a part of an unknown kind")
        text = text_in(part.get("text"))
        yield "reasoning_summary_part.added", place | {"part": part | {"text": ""}}
        for piece in pieces_of(text):
            yield "reasoning_summary_text.delta", place | {"delta": piece}
        yield "reasoning_summary_text.done", place | {"text": text}
        yield "reasoning_summary_part.done", place | {"part": part}
    if content:
        yield from _spread_parts(item)
    yield "output_item.done", {"item": item}


def _spread_call(item: JsonObject) -> Told:
    key, event = CALL_INPUTS[item["type"]]
    text = text_in(item.get(key))
    yield "output_item.added", {"item": _in_progress(item, {key: ""})}
    for piece in pieces_of(text):
        yield f"{event}.delta", {"delta": piece}
    name = {"name": item["name"]} if item["type"] == "function_call" and "name" in item else {}
    yield f"{event}.done", {key: text} | name
    yield "output_item.done", {"item": item}


SPREADERS: Final[MappingProxyType[str, Callable[[JsonObject], Told]]] = MappingProxyType(
    {
        "message": _spread_message,
        "reasoning": _spread_reasoning,
        "function_call": _spread_call,
        "custom_tool_call": _spread_call,
    }
)
"""By type of item. Hosted tools have events of their own that the finished response does not tell, so they are none."""
