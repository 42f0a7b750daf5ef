"""Anthropic: messages, token counts, models and errors."""

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes.base import CREATED_AT, StreamShape, named_event

MESSAGE_ID = "msg_fake1"
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def usage(answer: Answer) -> JsonObject:
    """Usage; `input_tokens` excludes what was read from and written to the cache."""
    spent = answer.usage
    read, written = spent.cache_read_tokens or 0, spent.cache_write_tokens or 0
    return {
        "input_tokens": (spent.input_tokens or 0) - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": spent.output_tokens,
        "service_tier": "standard",
    }


def message(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole message."""
    stop = "end_turn"
    block: JsonObject = {"type": "text", "text": answer.text}
    if (call := answer.tool_call) is not None:
        stop = "tool_use"
        block = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": call.input}
    return _message(document) | {"content": [block], "stop_reason": stop, "usage": usage(answer)}


def message_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A message in named events, with the `ping` that the service sends after the first."""
    started = _message(document) | {"usage": usage(answer) | {"output_tokens": 1}}
    block: JsonObject = {"type": "text", "text": ""}
    deltas: list[JsonObject] = [{"type": "text_delta", "text": text} for text in answer.texts]
    if (call := answer.tool_call) is not None:
        block = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
        half = len(call.arguments) // 2
        parts = ("", call.arguments[:half], call.arguments[half:])
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    before = (
        named_event({"type": "message_start", "message": started}),
        named_event({"type": "content_block_start", "index": 0, "content_block": block}),
        named_event({"type": "ping"}),
    )
    end = (
        named_event({"type": "content_block_stop", "index": 0}),
        named_event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": answer.usage.output_tokens}}),
        named_event({"type": "message_stop"}),
    )
    texts = tuple(named_event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in deltas)
    return StreamShape(before, texts, end)


def count_tokens(answer: Answer, document: JsonObject) -> JsonObject:
    """The size of a prompt."""
    return {"input_tokens": answer.usage.input_tokens}


def models(names: tuple[str, ...]) -> JsonObject:
    """The list of models."""
    data = [{"id": name, "type": "model", "display_name": name, "created_at": CREATED_AT} for name in names]
    ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
    return {"data": data, "has_more": False, **ends}


def error(status: int, text: str) -> JsonObject:
    """An error body, and the error event of a stream."""
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_fake1"}


def _message(document: JsonObject) -> JsonObject:
    return {
        "id": MESSAGE_ID,
        "type": "message",
        "role": "assistant",
        "model": document["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
