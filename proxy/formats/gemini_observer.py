"""Watching Gemini replies pass by, and what a whole one says about itself."""

from typing import Any, Final

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_list, as_object, as_text, known_usage, one_line, total
from proxy.formats.observing import EVENT_ENDS, TAIL_BYTES, Readings, StreamObserver, last_object
from proxy.usage import Usage

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
    return usage, as_text(document.get("modelVersion")), one_line(error) if error else None


class GenerateObserver(StreamObserver):
    """Watches events of `:streamGenerateContent`; complete when every candidate ended or the prompt was blocked.

    Every event tells the usage so far, so the newest is kept and read only when someone asks.
    """

    usage_key = "usageMetadata"

    def __init__(self) -> None:
        super().__init__()
        self._latest = b""
        self._usage: Usage | None = None
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._next_index = (b'"index":1', b'"index": 1')

    @property
    def usage(self) -> Usage | None:
        """The usage so far."""
        if self._latest:
            self.observe_usage(last_object(self._latest[-TAIL_BYTES:], self.usage_key) or {})
        return self._usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._usage = usage
        self._latest = b""

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes."""
        if self._is_settled and not self._held and data.endswith(EVENT_ENDS) and self.is_dull(data):
            self.pass_over(data)
            return
        self.take(data)

    def pass_over(self, data: bytes) -> None:
        """Keep what may hold the newest usage."""
        if data.find(b'"usageMetadata"') >= 0:
            self._latest = data

    def is_dull(self, data: bytes) -> bool:
        """Tell whether no event ends a candidate, begins another, or blocks the prompt."""
        compact, spaced = self._next_index
        return (
            data.find(b'"finishReason"') < 0
            and data.find(b'"error"') < 0
            and data.find(b'"blockReason"') < 0
            and data.find(b"[DONE]") < 0
            and data.find(compact) < 0
            and data.find(spaced) < 0
        )

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body, or one element of the array that it is without `alt=sse`."""
        return read_whole(document)

    def observe_end_marker(self) -> None:
        """Take in `[DONE]`, which Gemini does not send but some servers of its format do."""
        self.is_complete = True
        self.has_output = self.has_output or self.error is None

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in usage; the last one counts."""
        self.usage = read_usage(usage) or self._usage

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""
        error = document.get("error")
        if error:
            if not self.is_complete:
                self.error = self.error or one_line(error)
            return
        self.served_model = as_text(document.get("modelVersion")) or self.served_model
        if "usageMetadata" in document:
            self.observe_usage(as_object(document["usageMetadata"]))
        candidates = as_list(document.get("candidates"))
        for position, candidate in enumerate(candidates):
            self._observe_candidate(position, as_object(candidate))
        is_blocked = bool(as_object(document.get("promptFeedback")).get("blockReason"))
        if is_blocked or not (candidates or "usageMetadata" in document):
            self.has_output = True
        self.is_complete = self.is_complete or is_blocked
        if candidates:
            self.is_complete = bool(self._seen) and self._seen <= self._finished
        self._is_settled = self.has_output and not self._finished

    def _observe_candidate(self, position: int, candidate: JsonObject) -> None:
        index = as_count(candidate.get("index"))
        index = position if index is None else index
        if len(self._seen) < MAX_CANDIDATES:
            self._seen.add(index)
            following = len(self._seen)
            self._next_index = (b'"index":%d' % following, b'"index": %d' % following)
        if candidate.get("finishReason"):
            self.has_output = True
            if index in self._seen:
                self._finished.add(index)
        if as_list(as_object(candidate.get("content")).get("parts")):
            self.has_output = True
