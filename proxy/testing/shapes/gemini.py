"""Gemini: generateContent, its stream, models and errors."""

import orjson

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes.base import CREATED_AT, StreamShape, data_event

ERROR_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def generate(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole response; a tool call too finishes with STOP."""
    part: JsonObject = {"text": answer.text}
    if (call := answer.tool_call) is not None:
        part = {"functionCall": {"name": call.name, "args": call.input}}
    return _response(answer, document, part, "STOP")


def stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A response in nameless events without an end marker: the last text carries the finish reason."""
    documents = _pieces(answer, document)
    events = tuple(map(data_event, documents))
    return StreamShape((), events[:-1], events[-1:], "text/event-stream")


def array_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """The same without `alt=sse`: a JSON array, one element a write."""
    documents = [orjson.dumps(piece) for piece in _pieces(answer, document)]
    events = tuple((b"[" if at == 0 else b",\r\n") + piece for at, piece in enumerate(documents))
    return StreamShape((), events[:-1], (events[-1], b"]"), "application/json; charset=UTF-8", is_sse=False)


def count_tokens(answer: Answer, document: JsonObject) -> JsonObject:
    """The size of a prompt."""
    return {"totalTokens": answer.usage.input_tokens}


def models(names: tuple[str, ...]) -> JsonObject:
    """The list of models."""
    methods = ["generateContent", "countTokens"]
    return {
        "models": [
            {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods} for name in names
        ]
    }


def error(status: int, message: str) -> JsonObject:
    """An error body, and the last event of a stream that fails."""
    name = ERROR_STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": name}}


def _pieces(answer: Answer, document: JsonObject) -> list[JsonObject]:
    if answer.tool_call is not None:
        return [generate(answer, document)]
    texts = answer.texts or ("",)
    last = len(texts) - 1
    return [
        _response(answer, document, {"text": text}, "STOP" if at == last else None) for at, text in enumerate(texts)
    ]


def _response(answer: Answer, document: JsonObject, part: JsonObject, finish: str | None) -> JsonObject:
    candidate: JsonObject = {"content": {"role": "model", "parts": [part]}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    spent = answer.usage
    thoughts = spent.reasoning_tokens or 0
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": spent.input_tokens,
            "candidatesTokenCount": (spent.output_tokens or 0) - thoughts,
            "totalTokenCount": spent.total_tokens,
            **({"thoughtsTokenCount": thoughts} if thoughts else {}),
            **({"cachedContentTokenCount": spent.cache_read_tokens} if spent.cache_read_tokens else {}),
        },
        "modelVersion": document["model"],
        "responseId": "fake1",
        "createTime": CREATED_AT,
    }
