"""Anthropic's messages: requests, replies and streams to and from the neutral model."""

from types import MappingProxyType
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.anthropic_observer import MessagesObserver, read_usage, write_usage
from proxy.formats.base import StreamWriter
from proxy.formats.fields import as_count, as_list, as_number, as_object, as_strings, as_text, join_text
from proxy.formats.json_body import dump
from proxy.formats.neutral import (
    CONTENT_FILTER,
    LENGTH,
    STOP,
    TOOL_CALLS,
    ChatRequest,
    Completion,
    Message,
    ReplyFacts,
)
from proxy.formats.openai_chat import parse_reply, prefixed
from proxy.formats.reading import TextReader, list_of, object_of, settled, text_of_content
from proxy.formats.sse import EventSplitter, parse_event, write_event
from proxy.usage import Usage

DEFAULT_MAX_TOKENS: Final = 4096
"""Anthropic requires a limit; this is sent when the client gave none."""

FINISH_REASONS: Final = MappingProxyType(
    {
        **dict.fromkeys(("end_turn", "stop_sequence", "pause_turn"), STOP),
        "max_tokens": LENGTH,
        "model_context_window_exceeded": LENGTH,
        "tool_use": TOOL_CALLS,
        "refusal": CONTENT_FILTER,
    }
)
STOP_REASONS: Final = MappingProxyType({LENGTH: "max_tokens", TOOL_CALLS: "tool_use", CONTENT_FILTER: "refusal"})


def read_messages(document: JsonObject) -> ChatRequest:
    """Read a request of `/v1/messages` or of its token count."""
    messages = [
        Message(as_text(message.get("role")) or "user", join_text(message.get("content")))
        for message in map(as_object, as_list(document.get("messages")))
    ]
    return ChatRequest(
        messages,
        join_text(document.get("system"), "\n\n") or None,
        model=as_text(document.get("model")),
        max_output_tokens=as_count(document.get("max_tokens")),
        temperature=as_number(document.get("temperature")),
        top_p=as_number(document.get("top_p")),
        stop=as_strings(document.get("stop_sequences")),
        is_streaming=document.get("stream") is True,
    )


def write_messages(chat: ChatRequest) -> JsonObject:
    """Write a request; system turns among the others become user turns, blank stop sequences are dropped.

    The temperature is cut to Anthropic's 1; with it `top_p` is left out, as some models refuse both.
    """
    roles = {"assistant": "assistant"}
    document: JsonObject = {
        "model": chat.model,
        "max_tokens": DEFAULT_MAX_TOKENS if chat.max_output_tokens is None else chat.max_output_tokens,
        "messages": [{"role": roles.get(role, "user"), "content": text} for role, text in chat.messages],
        "system": chat.system,
        "temperature": None if chat.temperature is None else min(1.0, chat.temperature),
        "top_p": chat.top_p if chat.temperature is None else None,
        "stop_sequences": [text for text in chat.stop if text.strip()] or None,
        "stream": True if chat.is_streaming else None,
    }
    return {key: value for key, value in document.items() if value is not None}


def read_message(body: bytes) -> Completion:
    """Read a whole reply; only its text blocks count."""
    document = parse_reply(body)
    blocks = [object_of(block, "a part of content") for block in list_of(document.get("content"), "content")]
    completion = Completion(
        id=as_text(document.get("id")) or "",
        model=as_text(document.get("model")) or "",
        text=text_of_content([block for block in blocks if block.get("type") == "text"], "content"),
        finish_reason=FINISH_REASONS.get(as_text(document.get("stop_reason")) or "", ""),
        usage=read_usage(document.get("usage")) or Usage(),
    )
    if any(block.get("type") == "tool_use" for block in blocks):
        completion.finish_reason = completion.finish_reason or TOOL_CALLS
    return settled(completion)


def _message(completion: Completion) -> JsonObject:
    return {
        "id": prefixed("msg_", completion.id),
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": write_usage(completion.usage),
    }


def _stop_reason(completion: Completion) -> str:
    return STOP_REASONS.get(completion.finish_reason, "end_turn")


def write_message(completion: Completion) -> bytes:
    """Write a whole reply."""
    content = [{"type": "text", "text": completion.text}]
    return dump(_message(completion) | {"content": content, "stop_reason": _stop_reason(completion)})


class MessagesWriter(StreamWriter):
    """Writes the events of one message with one block of text."""

    def __init__(self, opening: Completion) -> None:
        self._opening = opening

    def start(self) -> bytes:
        """Return the events up to the first delta."""
        block = {"type": "text", "text": ""}
        message = self._event("message_start", {"message": _message(self._opening)})
        return message + self._event("content_block_start", {"index": 0, "content_block": block})

    def delta(self, text: str) -> bytes:
        """Return one delta."""
        return self._event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the events that close the block and the message."""
        delta = {"stop_reason": _stop_reason(completion), "stop_sequence": None}
        return b"".join(
            (
                self._event("content_block_stop", {"index": 0}),
                self._event("message_delta", {"delta": delta, "usage": write_usage(completion.usage)}),
                self._event("message_stop", {}),
            )
        )

    def _event(self, kind: str, fields: JsonObject) -> bytes:
        return write_event(dump({"type": kind} | fields), kind)


class MessagesReader(TextReader):
    """Reads the text deltas."""

    def __init__(self) -> None:
        super().__init__(EventSplitter())
        self._observer = MessagesObserver()

    def is_complete(self) -> bool:
        """Tell whether `message_stop` came."""
        return self._observer.is_complete

    def read(self, event: bytes) -> list[str]:
        """Take in one event."""
        name, data = parse_event(event)
        if not data.strip():
            return []
        document = parse_reply(data)
        observer, result = self._observer, self.result
        observer.observe(name, document)
        result.id = as_text(as_object(document.get("message")).get("id")) or result.id
        result.model = observer.served_model or ""
        result.usage = observer.usage or result.usage
        delta = as_object(document.get("delta"))
        reason = as_text(delta.get("stop_reason"))
        if reason is not None:
            result.finish_reason = FINISH_REASONS.get(reason, "")
        text = as_text(delta.get("text")) if delta.get("type") == "text_delta" else None
        return [text] if text else []
