"""OpenAI's chat and legacy completions: requests, replies and streams to and from the neutral model."""

from typing import Final

import orjson

from proxy.errors import UpstreamProtocol, UpstreamRejected
from proxy.exchange import JsonObject
from proxy.formats.base import StreamWriter
from proxy.formats.fields import (
    as_count,
    as_list,
    as_number,
    as_object,
    as_strings,
    as_text,
    join_text,
    one_line,
)
from proxy.formats.json_body import dump
from proxy.formats.neutral import FINISH_REASONS, TOOL_CALLS, ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.openai_usage import read_usage, write_chat_usage
from proxy.formats.reading import TextReader, has_objects, list_of, object_of, settled, text_of_content
from proxy.formats.sse import EventSplitter, parse_event, write_event
from proxy.usage import Usage

DONE: Final = b"data: [DONE]\n\n"
SYSTEM_ROLES: Final = ("system", "developer")


def parse_reply(body: bytes) -> JsonObject:
    """Parse a provider's whole reply. Raises UpstreamProtocol or, for an error in it, UpstreamRejected."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamProtocol(f"the provider's reply is not JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise UpstreamProtocol("the provider's reply is no JSON object")
    if document.get("error"):
        raise UpstreamRejected(one_line(document["error"]))
    return document


def split_system(messages: list[Message], system: str | None = None) -> tuple[list[Message], str | None]:
    """Take the leading system turns off the messages; their texts, after `system`, are joined with blank lines."""
    texts = [system] if system else []
    begin = 0
    while begin < len(messages) and messages[begin].role == "system":
        texts.append(messages[begin].text)
        begin += 1
    return messages[begin:], "\n\n".join(texts) if texts else None


def read_chat(document: JsonObject) -> ChatRequest:
    """Read a request of `/chat/completions`."""
    messages = []
    for item in as_list(document.get("messages")):
        message = as_object(item)
        role = as_text(message.get("role")) or "user"
        role = "system" if role in SYSTEM_ROLES else "tool" if role == "function" else role
        messages.append(Message(role, join_text(message.get("content"))))
    turns, system = split_system(messages)
    return _read_common(document, ChatRequest(turns, system))


def read_completions(document: JsonObject) -> ChatRequest:
    """Read a request of `/completions`: the prompt is one user turn."""
    return _read_common(document, ChatRequest([Message("user", join_text(document.get("prompt"), "\n"))]))


def _read_common(document: JsonObject, chat: ChatRequest) -> ChatRequest:
    chat.model = as_text(document.get("model"))
    chat.max_output_tokens = read_max_tokens(document)
    chat.temperature = as_number(document.get("temperature"))
    chat.top_p = as_number(document.get("top_p"))
    chat.stop = as_strings(document.get("stop"))
    chat.is_streaming = document.get("stream") is True
    chat.include_usage = as_object(document.get("stream_options")).get("include_usage") is True
    return chat


def read_max_tokens(document: JsonObject) -> int | None:
    """Read the limit on output: the newer name goes before the deprecated one."""
    newer, older = document.get("max_completion_tokens"), document.get("max_tokens")
    if newer is older is None:  # as in most requests
        return None
    newer = as_count(newer)
    return as_count(older) if newer is None else newer


def write_chat(chat: ChatRequest) -> JsonObject:
    """Write a request of `/chat/completions`; of a stream, usage is asked for."""
    messages = [Message("system", chat.system)] if chat.system else []
    document: JsonObject = {
        "model": chat.model,
        "messages": [{"role": role, "content": text} for role, text in [*messages, *chat.messages]],
        "max_completion_tokens": chat.max_output_tokens,
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "stop": chat.stop or None,
    }
    if chat.is_streaming:
        document |= {"stream": True, "stream_options": {"include_usage": True}}
    return {key: value for key, value in document.items() if value is not None}


def read_chat_reply(body: bytes) -> Completion:
    """Read a reply of `/chat/completions` or `/completions`; of several choices, the first."""
    document = parse_reply(body)
    choices = list_of(document.get("choices"), "choices")
    if not choices:
        raise UpstreamProtocol("the provider's reply has no choices")
    choice = object_of(choices[0], "the first of choices")
    text, message = as_text(choice.get("text")), as_object(choice.get("message"))
    if text is None:
        text = text_of_content(object_of(choice.get("message"), "message").get("content"), "content")
    completion = Completion(
        id=as_text(document.get("id")) or "",
        model=as_text(document.get("model")) or "",
        text=text,
        finish_reason=_finish_reason(choice, message),
        usage=read_usage(document.get("usage")) or Usage(),
        created_s=as_count(document.get("created")) or 0,
    )
    return settled(completion)


def _finish_reason(choice: JsonObject, message: JsonObject) -> str:
    """Read why a choice ended; empty if it does not say so in a way that is known."""
    reason = as_text(choice.get("finish_reason"))
    if reason in FINISH_REASONS:
        return reason
    return TOOL_CALLS if has_objects(message.get("tool_calls")) or message.get("function_call") else ""


def prefixed(prefix: str, id_: str) -> str:
    """Give an id the prefix that the format's own ids have."""
    return id_ if id_.startswith(prefix) else prefix + id_


def _envelope(completion: Completion, is_chat: bool, kind: str) -> JsonObject:
    return {
        "id": prefixed("chatcmpl-" if is_chat else "cmpl-", completion.id),
        "object": kind,
        "created": completion.created_s,
        "model": completion.model,
    }


def write_chat_reply(completion: Completion, is_chat: bool) -> bytes:
    """Write a whole reply of `/chat/completions`, or of `/completions`."""
    choice: JsonObject = {"index": 0}
    if is_chat:
        choice["message"] = {"role": "assistant", "content": completion.text, "refusal": None}
    else:
        choice["text"] = completion.text
    choice |= {"logprobs": None, "finish_reason": completion.finish_reason}
    document = _envelope(completion, is_chat, "chat.completion" if is_chat else "text_completion")
    return dump(document | {"choices": [choice], "usage": write_chat_usage(completion.usage)})


class ChatWriter(StreamWriter):
    """Writes chunks: the role, the text, the finish reason, usage if asked for, `[DONE]`."""

    def __init__(self, opening: Completion, is_chat: bool, include_usage: bool) -> None:
        self._is_chat = is_chat
        self._include_usage = include_usage
        self._envelope = _envelope(opening, is_chat, "chat.completion.chunk" if is_chat else "text_completion")

    def start(self) -> bytes:
        """Return the chunk with the role; legacy completions have none."""
        return self._chunk({"role": "assistant", "content": ""}) if self._is_chat else b""

    def delta(self, text: str) -> bytes:
        """Return one chunk."""
        return self._chunk({"content": text} if self._is_chat else text)

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the finish reason, the usage chunk (its choices empty) if asked for, and `[DONE]`."""
        last = self._chunk({} if self._is_chat else "", completion.finish_reason)
        if self._include_usage:
            last += write_event(dump(self._envelope | {"choices": [], "usage": write_chat_usage(completion.usage)}))
        return last + DONE

    def _chunk(self, delta: JsonObject | str, finish_reason: str | None = None) -> bytes:
        choice = {
            "index": 0,
            "delta" if self._is_chat else "text": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        usage = {"usage": None} if self._include_usage else {}
        return write_event(dump(self._envelope | {"choices": [choice]} | usage))


class ChatReader(TextReader):
    """Reads chunks of the first choice."""

    def __init__(self) -> None:
        super().__init__(EventSplitter())
        self._is_done = False

    def is_complete(self) -> bool:
        """Tell whether `[DONE]` or a finish reason came."""
        return self._is_done

    def read(self, event: bytes) -> list[str]:
        """Take in one chunk."""
        _, data = parse_event(event)
        if data.strip() == b"[DONE]":
            self._is_done = True
            return []
        if not data.strip():
            return []
        document, result = parse_reply(data), self.result
        result.id = result.id or as_text(document.get("id")) or ""
        result.model = result.model or as_text(document.get("model")) or ""
        result.created_s = result.created_s or as_count(document.get("created")) or 0
        result.usage = read_usage(document.get("usage")) or result.usage
        texts = []
        for choice in map(as_object, as_list(document.get("choices"))):
            if not choice.get("index"):
                delta = as_object(choice.get("delta"))
                texts.append(join_text(delta.get("content")) or join_text(choice.get("text")))
                self._is_done = self._is_done or bool(choice.get("finish_reason"))
                result.finish_reason = _finish_reason(choice, delta) or result.finish_reason
        return [text for text in texts if text]
