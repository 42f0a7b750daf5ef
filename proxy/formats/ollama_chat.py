"""Ollama's chat and generate: requests, replies and streams to and from the neutral model."""

from datetime import UTC, datetime
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.base import StreamWriter
from proxy.formats.fields import as_count, as_list, as_number, as_object, as_strings, as_text, join_text
from proxy.formats.json_body import dump
from proxy.formats.neutral import LENGTH, STOP, TOOL_CALLS, ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.ollama_observer import read_usage
from proxy.formats.openai_chat import parse_reply, split_system
from proxy.formats.reading import TextReader, has_objects, object_of, settled, text_of_content
from proxy.formats.sse import LineSplitter

LAST_SECOND_S: Final = 253_402_300_799
"""Of the year 9999: what providers call the time of a reply may be later than any calendar."""


def read_request(document: JsonObject, is_chat: bool) -> ChatRequest:
    """Read a request of `/api/chat`, or of `/api/generate`."""
    if is_chat:
        items = map(as_object, as_list(document.get("messages")))
        messages = [Message(as_text(item.get("role")) or "user", join_text(item.get("content"))) for item in items]
        turns, system = split_system(messages)
    else:
        turns = [Message("user", as_text(document.get("prompt")) or "")]
        system = as_text(document.get("system"))
    options = as_object(document.get("options"))
    return ChatRequest(
        turns,
        system,
        model=as_text(document.get("model")),
        max_output_tokens=as_count(options.get("num_predict")),
        temperature=as_number(options.get("temperature")),
        top_p=as_number(options.get("top_p")),
        stop=as_strings(options.get("stop")),
        is_streaming=document.get("stream") is not False,
    )


def write_request(chat: ChatRequest) -> JsonObject:
    """Write a request of `/api/chat`; `stream` is always said, as Ollama's default differs from everyone's."""
    messages = [Message("system", chat.system)] if chat.system else []
    options = {
        "num_predict": chat.max_output_tokens,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "stop": chat.stop or None,
    }
    given = {key: value for key, value in options.items() if value is not None}
    return {
        "model": chat.model,
        "messages": [{"role": role, "content": text} for role, text in [*messages, *chat.messages]],
        "stream": chat.is_streaming,
        **({"options": given} if given else {}),
    }


def _take(document: JsonObject, result: Completion) -> str:
    """Take one object into the result; return the text in it."""
    result.model = as_text(document.get("model")) or result.model
    message = as_object(document.get("message"))
    if has_objects(message.get("tool_calls")):
        result.finish_reason = TOOL_CALLS
    elif document.get("done") is True and result.finish_reason != TOOL_CALLS:
        result.finish_reason = LENGTH if document.get("done_reason") == "length" else STOP
    result.usage = read_usage(document) or result.usage
    return as_text(message.get("content")) or as_text(document.get("response")) or ""


def read_reply(body: bytes) -> Completion:
    """Read a whole reply."""
    document = parse_reply(body)
    if as_text(document.get("response")) is None:
        text_of_content(object_of(document.get("message"), "message").get("content"), "content")
    result = Completion("", "", "", finish_reason="")
    result.text = _take(document, result)
    return settled(result)


def timestamp(time_s: int) -> str:
    """Write a time as Ollama does (RFC 3339)."""
    return datetime.fromtimestamp(min(time_s, LAST_SECOND_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(completion: Completion, text: str, is_chat: bool) -> JsonObject:
    content = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    return {"model": completion.model, "created_at": timestamp(completion.created_s), **content, "done": False}


def write_last(completion: Completion, text: str, is_chat: bool, duration_ms: float) -> bytes:
    """Write the object that ends a reply: the whole one, or the last line of a stream."""
    line = _line(completion, text, is_chat)
    duration_ns = int(duration_ms * 1_000_000)
    ends: JsonObject = {
        "done": True,
        "done_reason": "length" if completion.finish_reason == LENGTH else "stop",
        "total_duration": duration_ns,
        "load_duration": 0,
        "prompt_eval_count": completion.usage.input_tokens,
        "prompt_eval_duration": 0,
        "eval_count": completion.usage.output_tokens,
        "eval_duration": duration_ns,
    }
    return dump(line | {key: value for key, value in ends.items() if value is not None})


class LinesWriter(StreamWriter):
    """Writes one line for each piece of text, and a last one with the counters."""

    def __init__(self, opening: Completion, is_chat: bool) -> None:
        self._opening = opening
        self._is_chat = is_chat

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def delta(self, text: str) -> bytes:
        """Return one line."""
        return dump(_line(self._opening, text, self._is_chat)) + b"\n"

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the last line, its content empty."""
        duration_ms = (facts.latency_ms if facts else None) or 0.0
        return write_last(completion, "", self._is_chat, duration_ms) + b"\n"


class LinesReader(TextReader):
    """Reads the text of the lines."""

    def __init__(self) -> None:
        super().__init__(LineSplitter())
        self._is_done = False

    def is_complete(self) -> bool:
        """Tell whether the last line came."""
        return self._is_done

    def read(self, event: bytes) -> list[str]:
        """Take in one line."""
        if not event.strip():
            return []
        document = parse_reply(event)
        self._is_done = self._is_done or document.get("done") is True
        text = _take(document, self.result)
        return [text] if text else []
