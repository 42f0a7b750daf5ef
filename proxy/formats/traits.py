"""What decides whether a reply may be used again: whether it calls tools."""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from proxy.exchange import JsonObject, Operation
from proxy.formats.arranging.base import Unarrangeable
from proxy.formats.arranging.material import load, read_events
from proxy.formats.fields import Json, as_list, as_object, as_text

CHAT_MARKS: Final = (b'"tool_calls"', b'"function_call"')
RESPONSE_MARKS: Final = (b'_call"', b'"mcp_approval_request"')
ANTHROPIC_MARKS: Final = (b'tool_use"',)
GEMINI_CALLS: Final = ("functionCall", "toolCall", "executableCode")
GEMINI_MARKS: Final = tuple(f'"{key}"'.encode() for key in GEMINI_CALLS)
OLLAMA_MARKS: Final = (b'"tool_calls"',)
ALL_MARKS: Final = (*CHAT_MARKS, *RESPONSE_MARKS, *ANTHROPIC_MARKS, *GEMINI_MARKS)
ESCAPED_NAME: Final = re.compile(rb"\\u00[4-7][0-9A-Fa-f]")
"""A letter or underscore written as an escape: a mark may hide behind it."""


def has_tool_calls(operation: Operation, body: bytes, is_stream: bool) -> bool:
    """Tell whether a reply calls a tool or function, the client's or one that the provider runs itself.

    Nothing is parsed unless a call's name stands somewhere in the bytes. When in doubt the answer is yes: a body that
    cannot be read, or one of an operation whose replies are not known here.

    Args:
        body: the whole body, decompressed.
        is_stream: it is a stream of events or lines.
    """
    marks, find_call = CALLS.get((operation.format, operation.name), (ALL_MARKS, _is_unknown))
    for mark in marks:  # a generator in `any` costs three times as much
        if mark in body:
            break
    else:
        if b"\\u00" not in body or not ESCAPED_NAME.search(body):
            return False
    try:
        return any(find_call(as_object(document)) for document in _documents(operation, body, is_stream))
    except (Unarrangeable, RecursionError):
        return True


def _documents(operation: Operation, body: bytes, is_stream: bool) -> Iterator[Json]:
    if is_stream and operation.format == "ollama":
        yield from map(load, filter(bytes.strip, body.splitlines()))
    elif is_stream and body.lstrip()[:1] not in (b"{", b"["):
        yield from (event.document for event in read_events(body).events)
    else:
        document = load(body)
        yield from document if isinstance(document, list) else [document]


def _is_unknown(document: JsonObject) -> bool:
    return True


def _calls_in_chat(document: JsonObject) -> bool:
    for choice in map(as_object, as_list(document.get("choices"))):
        if choice.get("finish_reason") in ("tool_calls", "function_call"):
            return True
        messages = (as_object(choice.get("message")), as_object(choice.get("delta")))
        if any(message.get("tool_calls") or message.get("function_call") for message in messages):
            return True
    return False


def _calls_in_response(document: JsonObject) -> bool:
    output = as_list(as_object(document.get("response")).get("output"))
    items = [*as_list(document.get("output")), *output, document.get("item")]
    kinds = [as_text(as_object(item).get("type")) or "" for item in items]
    return any(kind.endswith("_call") or kind == "mcp_approval_request" for kind in kinds)


def _calls_in_message(document: JsonObject) -> bool:
    blocks = [*as_list(document.get("content")), document.get("content_block")]
    kinds = [as_text(as_object(block).get("type")) or "" for block in blocks]
    reasons = (document.get("stop_reason"), as_object(document.get("delta")).get("stop_reason"))
    return any(kind.endswith("tool_use") for kind in kinds) or "tool_use" in reasons


def _calls_in_candidates(document: JsonObject) -> bool:
    candidates = map(as_object, as_list(document.get("candidates")))
    parts = [part for one in candidates for part in as_list(as_object(one.get("content")).get("parts"))]
    return any(key in as_object(part) for part in parts for key in GEMINI_CALLS)


def _calls_in_line(document: JsonObject) -> bool:
    return bool(document.get("tool_calls") or as_object(document.get("message")).get("tool_calls"))


CALLS: Final[Mapping[tuple[str, str], tuple[tuple[bytes, ...], Callable[[JsonObject], bool]]]] = MappingProxyType(
    {
        ("openai", "chat"): (CHAT_MARKS, _calls_in_chat),
        ("openai", "responses"): (RESPONSE_MARKS, _calls_in_response),
        ("anthropic", "chat"): (ANTHROPIC_MARKS, _calls_in_message),
        ("gemini", "generate"): (GEMINI_MARKS, _calls_in_candidates),
        ("gemini", "stream_generate"): (GEMINI_MARKS, _calls_in_candidates),
        ("ollama", "chat"): (OLLAMA_MARKS, _calls_in_line),
        ("ollama", "generate"): (OLLAMA_MARKS, _calls_in_line),
    }
)
"""By format and operation: what stands in the bytes if there is a call, and the test of one document or event."""
