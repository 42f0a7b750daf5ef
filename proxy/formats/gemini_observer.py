"""Watching Gemini replies pass by, and what a whole one says about itself."""

from typing import Any, Final

from proxy.exchange import JsonObject, Usage
from proxy.formats.fields import as_count, as_list, as_object, as_text, known_usage, one_line, total
from proxy.formats.observing import Readings, StreamObserver

MAX_CANDIDATES: Final = 1024
"""Candidates whose ends are told apart."""


def read_usage(usage: Any) -> Usage | None:  # Any: JSON from elsewhere
    """Read `usageMetadata`: thoughts are not in `candidatesTokenCount`, cached content is in `promptTokenCount`."""
    if not isinstance(usage, dict):
        return None
    thoughts = as_count(usage.get("thoughtsTokenCount"))
    candidates = as_count(usage.get("candidatesTokenCount"))
    prompt = as_count(usage.get("promptTokenCount"))
    return known_usage(
        Usage(
            input_tokens=None if prompt is None else total(prompt, as_count(usage.get("toolUsePromptTokenCount"))),
            output_tokens=total(candidates, thoughts),
            cache_read_tokens=as_count(usage.get("cachedContentTokenCount")),
            reasoning_tokens=thoughts,
        )
    )


def write_usage(usage: Usage) -> JsonObject:
    """Write `usageMetadata`."""
    thoughts = usage.reasoning_tokens or 0
    metadata: JsonObject = {
        "promptTokenCount": usage.input_tokens or 0,
        "candidatesTokenCount": max(0, (usage.output_tokens or 0) - thoughts),
        "totalTokenCount": (usage.input_tokens or 0) + (usage.output_tokens or 0),
    }
    if thoughts:
        metadata["thoughtsTokenCount"] = thoughts
    if usage.cache_read_tokens:
        metadata["cachedContentTokenCount"] = usage.cache_read_tokens
    return metadata


def read_whole(document: JsonObject) -> Readings:
    """Read what a whole reply says about itself; `totalTokens` of a token count is the input's."""
    usage = read_usage(document.get("usageMetadata"))
    counted = as_count(document.get("totalTokens"))
    if usage is None and counted is not None:
        usage = Usage(input_tokens=counted)
    error = document.get("error")
    return Readings(usage, as_text(document.get("modelVersion")), one_line(error) if error else None)


class GenerateObserver(StreamObserver):
    """Watches events of `:streamGenerateContent`; complete when every candidate ended or the prompt was blocked.

    Every event is parsed: each carries the usage so far, and there are few, of some twenty tokens each.
    """

    __slots__ = ("_finished", "_seen")
    usage_key = "usageMetadata"

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    def is_dull(self, data: bytes) -> bool:
        """No event is."""
        return False

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body, or one element of the array that it is without `alt=sse`."""
        return read_whole(document)

    def observe_end_marker(self) -> None:
        """Take in `[DONE]`, which Gemini does not send but some servers of its format do."""
        self.is_complete = True
        self.has_output = self.has_output or self.error is None

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in usage; the last one counts."""
        self.usage = read_usage(usage) or self.usage

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""
        error = document.get("error")
        if error:
            if not self.is_complete:
                self.error = self.error or one_line(error)
            return
        self.served_model = as_text(document.get("modelVersion")) or self.served_model
        self.observe_usage(as_object(document.get("usageMetadata")))
        candidates = as_list(document.get("candidates"))
        for position, candidate in enumerate(candidates):
            self._observe_candidate(position, as_object(candidate))
        is_blocked = bool(as_object(document.get("promptFeedback")).get("blockReason"))
        if is_blocked or not (candidates or "usageMetadata" in document):
            self.has_output = True
        self.is_complete = self.is_complete or is_blocked
        if candidates:
            self.is_complete = bool(self._seen) and self._seen <= self._finished

    def _observe_candidate(self, position: int, candidate: JsonObject) -> None:
        index = as_count(candidate.get("index"))
        index = position if index is None else index
        if len(self._seen) < MAX_CANDIDATES:
            self._seen.add(index)
        if candidate.get("finishReason"):
            self.has_output = True
            if index in self._seen:
                self._finished.add(index)
        if as_list(as_object(candidate.get("content")).get("parts")):
            self.has_output = True
