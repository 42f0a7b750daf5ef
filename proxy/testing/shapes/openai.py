"""OpenAI: chat completions, completions, embeddings, models and errors."""

import base64
import struct

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes.base import CREATED_S, StreamShape, data_event

CHAT_ID = "chatcmpl-fake1"
DONE = b"data: [DONE]\n\n"
ERROR_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def usage(answer: Answer) -> JsonObject:
    """Usage as chat and completions report it."""
    spent = answer.usage
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.total_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cache_read_tokens or 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": spent.reasoning_tokens or 0, "audio_tokens": 0},
    }


def chat(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole chat completion."""
    message: JsonObject = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    finish = "stop"
    if (call := answer.tool_call) is not None:
        finish = "tool_calls"
        function = {"name": call.name, "arguments": call.arguments}
        message |= {"content": None, "tool_calls": [{"id": call.call_id, "type": "function", "function": function}]}
    return {
        "id": CHAT_ID,
        "object": "chat.completion",
        "created": CREATED_S,
        "model": document["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage(answer),
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def chat_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A chat completion in chunks; the usage chunk only if it was asked for."""
    wants_usage = bool((document.get("stream_options") or {}).get("include_usage"))

    def chunk(delta: JsonObject, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _chunk(document, [choice], {"usage": None} if wants_usage else {})

    first: JsonObject = {"role": "assistant", "content": "", "refusal": None}
    texts = tuple(chunk({"content": text}) for text in answer.texts)
    if (call := answer.tool_call) is not None:
        first["content"] = None
        opening = {"name": call.name, "arguments": ""}
        half = len(call.arguments) // 2
        texts = (
            chunk({"tool_calls": [{"index": 0, "id": call.call_id, "type": "function", "function": opening}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": call.arguments[:half]}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": call.arguments[half:]}}]}),
        )
    end: tuple[bytes, ...] = (chunk({}, "tool_calls" if call else "stop"),)
    if wants_usage:
        end += (_chunk(document, [], {"usage": usage(answer)}),)
    return StreamShape((chunk(first),), texts, (*end, DONE))


def completion(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole legacy completion."""
    return _completion(document, answer.text, "stop") | {"usage": usage(answer)}


def completion_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A legacy completion in chunks."""
    texts = tuple(data_event(_completion(document, text, None)) for text in answer.texts)
    return StreamShape((), texts, (data_event(_completion(document, "", "stop")), DONE))


def embeddings(answer: Answer, document: JsonObject) -> JsonObject:
    """One vector of three numbers an input, base64 of little-endian float32 if that was asked for."""
    given = document["input"]
    count = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    vectors: list[list[float]] = [[0.5, -0.25, float(at)] for at in range(count)]
    encoded: list[object] = list(vectors)
    if document.get("encoding_format") == "base64":
        encoded = [base64.b64encode(struct.pack("<3f", *vector)).decode() for vector in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(encoded)],
        "model": document["model"],
        "usage": {"prompt_tokens": answer.usage.input_tokens, "total_tokens": answer.usage.input_tokens},
    }


def models(names: tuple[str, ...]) -> JsonObject:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": CREATED_S, "owned_by": "fake"} for name in names]
    return {"object": "list", "data": data}


def error(status: int, message: str) -> JsonObject:
    """An error body."""
    kind, code = ERROR_TYPES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _chunk(document: JsonObject, choices: list[JsonObject], extra: JsonObject) -> bytes:
    head = {"id": CHAT_ID, "object": "chat.completion.chunk", "created": CREATED_S, "model": document["model"]}
    return data_event({**head, "system_fingerprint": "fp_fake", "choices": choices, **extra})


def _completion(document: JsonObject, text: str, finish: str | None) -> JsonObject:
    return {
        "id": "cmpl-fake1",
        "object": "text_completion",
        "created": CREATED_S,
        "model": document["model"],
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}],
    }
