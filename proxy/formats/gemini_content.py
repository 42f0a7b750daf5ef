"""Gemini's generateContent: requests, replies and streams to and from the neutral model."""

from types import MappingProxyType
from typing import Any, Final

from proxy.errors import UpstreamProtocol
from proxy.exchange import JsonObject
from proxy.formats.base import StreamWriter
from proxy.formats.fields import as_count, as_list, as_number, as_object, as_strings, as_text
from proxy.formats.gemini_observer import GenerateObserver, read_usage, write_usage
from proxy.formats.json_body import dump
from proxy.formats.neutral import CONTENT_FILTER, LENGTH, STOP, TOOL_CALLS, ChatRequest, Completion, Message, ReplyFacts
from proxy.formats.openai_chat import parse_reply
from proxy.formats.reading import TextReader, list_of, object_of, settled, text_of_content
from proxy.formats.sse import EventSplitter, parse_event, write_event
from proxy.usage import Usage

FINISH_REASONS: Final = MappingProxyType(
    {
        "STOP": STOP,
        "MAX_TOKENS": LENGTH,
        **dict.fromkeys(("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"), CONTENT_FILTER),
        **dict.fromkeys(
            ("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"), CONTENT_FILTER
        ),
        "MODEL_ARMOR": CONTENT_FILTER,
    }
)
WRITTEN_REASONS: Final = MappingProxyType({LENGTH: "MAX_TOKENS", CONTENT_FILTER: "SAFETY"})


def text_of(content: Any) -> str:  # Any: JSON from elsewhere
    """Join the text parts of a content (or of a list of contents), thoughts left out."""
    parts = as_list(content) if isinstance(content, list) else as_list(as_object(content).get("parts"))
    texts = (as_text(part.get("text")) for part in map(as_object, parts) if not part.get("thought"))
    return content if isinstance(content, str) else "".join(text for text in texts if text)


def read_content(document: JsonObject) -> ChatRequest:
    """Read a request of `:generateContent` or `:countTokens`; names in snake_case are taken too."""
    document = as_object(document.get("generateContentRequest")) or document
    contents = document.get("contents")
    messages = []
    for content in map(as_object, contents if isinstance(contents, list) else [contents]):
        role = "assistant" if content.get("role") == "model" else "user"
        messages.append(Message(role, text_of(content)))
    if isinstance(contents, str):
        messages = [Message("user", contents)]
    system = document.get("systemInstruction", document.get("system_instruction"))
    config = as_object(document.get("generationConfig", document.get("generation_config")))
    return ChatRequest(
        messages,
        text_of(system) or None,
        max_output_tokens=read_max_tokens(document),
        temperature=as_number(config.get("temperature")),
        top_p=as_number(config.get("topP", config.get("top_p"))),
        stop=as_strings(config.get("stopSequences", config.get("stop_sequences"))),
    )


def read_max_tokens(document: JsonObject) -> int | None:
    """Read the limit on output."""
    config = as_object(document.get("generationConfig", document.get("generation_config")))
    return as_count(config.get("maxOutputTokens", config.get("max_output_tokens")))


def write_content(chat: ChatRequest) -> JsonObject:
    """Write a request; consecutive turns of one role become one, as Gemini wants them to alternate."""
    contents: list[JsonObject] = []
    for role, text in chat.messages:
        name = "model" if role == "assistant" else "user"
        if contents and contents[-1]["role"] == name:
            contents[-1]["parts"].append({"text": text})
        else:
            contents.append({"role": name, "parts": [{"text": text}]})
    config = {
        "maxOutputTokens": chat.max_output_tokens,
        "temperature": chat.temperature,
        "topP": chat.top_p,
        "stopSequences": chat.stop or None,
    }
    document: JsonObject = {"contents": contents}
    if chat.system:
        document["systemInstruction"] = {"parts": [{"text": chat.system}]}
    given = {key: value for key, value in config.items() if value is not None}
    return document | ({"generationConfig": given} if given else {})


def _take(document: JsonObject, result: Completion) -> str:
    """Take one response object into the result; return the text in it."""
    result.id = as_text(document.get("responseId")) or result.id
    result.model = as_text(document.get("modelVersion")) or result.model
    result.usage = read_usage(document.get("usageMetadata")) or result.usage
    candidates = as_list(document.get("candidates"))
    if as_object(document.get("promptFeedback")).get("blockReason") and not candidates:
        result.finish_reason = CONTENT_FILTER
    first = as_object(candidates[0]) if candidates else {}
    if first.get("index"):
        return ""
    reason = as_text(first.get("finishReason"))
    content = as_object(first.get("content"))
    if any("functionCall" in as_object(part) for part in as_list(content.get("parts"))):
        result.finish_reason = TOOL_CALLS
    elif reason is not None and result.finish_reason != TOOL_CALLS:
        result.finish_reason = FINISH_REASONS.get(reason, "")
    return text_of(content)


def read_content_reply(body: bytes) -> Completion:
    """Read a whole reply; of several candidates, the first."""
    document = parse_reply(body)
    candidates = list_of(document.get("candidates") or [], "candidates")
    if not candidates and not as_text(as_object(document.get("promptFeedback")).get("blockReason")):
        raise UpstreamProtocol("the provider's reply has no candidates")
    if candidates:
        content = object_of(candidates[0], "the first of candidates").get("content")
        parts = object_of({} if content is None else content, "content").get("parts")
        text_of_content(parts if parts is None else list_of(parts, "parts"), "parts")
    result = Completion("", "", "", finish_reason="")
    result.text = _take(document, result)
    return settled(result)


def _response(completion: Completion, text: str, finish_reason: str | None, usage: Usage | None) -> JsonObject:
    candidate: JsonObject = {"content": {"role": "model", "parts": [{"text": text}] if text else []}, "index": 0}
    if finish_reason is not None:
        candidate["finishReason"] = WRITTEN_REASONS.get(finish_reason, "STOP")
    metadata = {"usageMetadata": write_usage(usage)} if usage is not None else {}
    return {"candidates": [candidate], **metadata, "modelVersion": completion.model, "responseId": completion.id}


def write_content_reply(completion: Completion) -> bytes:
    """Write a whole reply."""
    return dump(_response(completion, completion.text, completion.finish_reason, completion.usage))


class GenerateWriter(StreamWriter):
    """Writes response objects as events without names; there is no preamble and no end marker."""

    def __init__(self, opening: Completion) -> None:
        self._opening = opening

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def delta(self, text: str) -> bytes:
        """Return one event."""
        return write_event(dump(_response(self._opening, text, None, None)))

    def finish(self, completion: Completion, facts: ReplyFacts | None = None) -> bytes:
        """Return the event with finish reason and usage."""
        return write_event(dump(_response(self._opening, "", completion.finish_reason, completion.usage)))


class GenerateReader(TextReader):
    """Reads the text of the first candidate."""

    def __init__(self) -> None:
        super().__init__(EventSplitter())
        self._observer = GenerateObserver()

    def is_complete(self) -> bool:
        """Tell whether every candidate ended."""
        return self._observer.is_complete

    def read(self, event: bytes) -> list[str]:
        """Take in one event."""
        _, data = parse_event(event)
        if not data.strip() or data.strip() == b"[DONE]":
            return []
        document = parse_reply(data)
        self._observer.observe(None, document)
        text = _take(document, self.result)
        return [text] if text else []
