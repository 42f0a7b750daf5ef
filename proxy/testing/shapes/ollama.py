"""Ollama: chat, generate, tags and errors; a stream is one JSON object a line."""

import orjson

from proxy.exchange import JsonObject
from proxy.testing.answers import Answer
from proxy.testing.shapes.base import CREATED_AT, StreamShape

NDJSON = "application/x-ndjson"


def chat(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole chat reply."""
    message: JsonObject = {"role": "assistant", "content": answer.text}
    if (call := answer.tool_call) is not None:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": call.input}}]
    return {**_head(document), "message": message, **_counters(answer)}


def chat_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A chat reply in lines; a tool call arrives whole in one."""
    messages: list[JsonObject] = [{"role": "assistant", "content": text} for text in answer.texts]
    if (call := answer.tool_call) is not None:
        function = {"name": call.name, "arguments": call.input}
        messages = [{"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]
    texts = tuple(_line({**_head(document), "message": message, "done": False}) for message in messages)
    last = {"role": "assistant", "content": ""}
    end = _line({**_head(document), "message": last, **_counters(answer)})
    return StreamShape((), texts, (end,), NDJSON, is_sse=False)


def generate(answer: Answer, document: JsonObject) -> JsonObject:
    """A whole completion."""
    return {**_head(document), "response": answer.text, **_counters(answer)}


def generate_stream(answer: Answer, document: JsonObject) -> StreamShape:
    """A completion in lines."""
    texts = tuple(_line({**_head(document), "response": text, "done": False}) for text in answer.texts)
    end = _line({**_head(document), "response": "", **_counters(answer)})
    return StreamShape((), texts, (end,), NDJSON, is_sse=False)


def tags(names: tuple[str, ...]) -> JsonObject:
    """The list of models."""
    details = {"format": "gguf", "family": "fake", "parameter_size": "1B", "quantization_level": "Q4_0"}
    common: JsonObject = {"modified_at": CREATED_AT, "size": 1_000_000, "digest": "fake", "details": details}
    return {"models": [{"name": name, "model": name, **common} for name in names]}


def error(status: int, message: str) -> JsonObject:
    """An error body, and the last line of a stream that fails."""
    return {"error": message}


def line_error(message: str) -> bytes:
    """The last line of a stream that fails."""
    return _line(error(500, message))


def _line(document: JsonObject) -> bytes:
    return orjson.dumps(document) + b"\n"


def _head(document: JsonObject) -> JsonObject:
    return {"model": document["model"], "created_at": CREATED_AT}


def _counters(answer: Answer) -> JsonObject:
    """Durations are nanoseconds."""
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": answer.usage.input_tokens,
        "prompt_eval_duration": 1_000_000,
        "eval_count": answer.usage.output_tokens,
        "eval_duration": 3_000_000,
    }
