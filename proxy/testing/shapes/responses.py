"""OpenAI's Responses API: a whole response, and the sequence of named events of a stream."""

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes.base import CREATED_S, StreamShape, named_event

RESPONSE_ID = "resp_fake1"
ITEM_ID = "msg_fake1"


def response(answer: Answer, document: JsonObject) -> JsonObject:
    """A completed response."""
    spent = answer.usage
    return _response(document, "completed", [_item(answer, "completed")]) | {
        "usage": {
            "input_tokens": spent.input_tokens,
            "input_tokens_details": {"cached_tokens": spent.cache_read_tokens or 0},
            "output_tokens": spent.output_tokens,
            "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens or 0},
            "total_tokens": spent.total_tokens,
        }
    }


def stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A response in events; `sequence_number` rises by one from 0."""
    started = _response(document, "in_progress", [])
    empty = _item(answer, "in_progress")
    before: list[JsonObject] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
    ]
    where: JsonObject = {"item_id": empty["id"], "output_index": 0}
    if (call := answer.tool_call) is not None:
        name = "response.function_call_arguments"
        texts: list[JsonObject] = [{"type": f"{name}.delta", **where, "delta": call.arguments}]
        end: list[JsonObject] = [{"type": f"{name}.done", **where, "arguments": call.arguments, "name": call.name}]
    else:
        where["content_index"] = 0
        before.append({"type": "response.content_part.added", **where, "part": _part("")})
        texts = [
            {"type": "response.output_text.delta", **where, "delta": text, "logprobs": []} for text in answer.texts
        ]
        end = [
            {"type": "response.output_text.done", **where, "text": answer.text, "logprobs": []},
            {"type": "response.content_part.done", **where, "part": _part(answer.text)},
        ]
    end += [
        {"type": "response.output_item.done", "output_index": 0, "item": _item(answer, "completed")},
        {"type": "response.completed", "response": response(answer, document)},
    ]
    numbered = tuple(named_event({**event, "sequence_number": at}) for at, event in enumerate([*before, *texts, *end]))
    first, last = len(before), len(before) + len(texts)
    return StreamShape(numbered[:first], numbered[first:last], numbered[last:])


def error_event(message: str) -> JsonObject:
    """The error event of a stream."""
    return {"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 0}


def _response(document: JsonObject, status: str, output: list[JsonObject]) -> JsonObject:
    return {
        "id": RESPONSE_ID,
        "object": "response",
        "created_at": CREATED_S,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": document.get("instructions"),
        "metadata": {},
        "model": document["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": document.get("tools") or [],
        "top_p": 1.0,
    }


def _item(answer: Answer, status: str) -> JsonObject:
    is_whole = status == "completed"
    if (call := answer.tool_call) is not None:
        return {
            "type": "function_call",
            "id": "fc_fake1",
            "call_id": call.call_id,
            "name": call.name,
            "arguments": call.arguments if is_whole else "",
            "status": status,
        }
    content = [_part(answer.text)] if is_whole else []
    return {"type": "message", "id": ITEM_ID, "role": "assistant", "status": status, "content": content}


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
