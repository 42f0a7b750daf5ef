"""Watching OpenAI streams pass by: chat and legacy completions, and the responses API."""

import re
from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_list, as_object, as_text, one_line
from proxy.formats.observing import EVENT_ENDS, Readings, StreamObserver
from proxy.formats.openai_usage import read_usage, read_whole

MAX_CHOICES: Final = 1024
"""Choices whose ends are told apart."""
MAX_LESSONS: Final = 4
TEXT_KEY: Final = re.compile(rb'"(?:content|text|reasoning_content|reasoning)": ?"')
OUTPUT_KEYS: Final = ("content", "reasoning_content", "reasoning", "reasoning_details", "tool_calls", "refusal")
OUTPUT_KEYS_RARE: Final = ("function_call", "audio", "annotations")
RESPONSE_PREAMBLE: Final = frozenset(
    {
        "response.created",
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)


class ChatObserver(StreamObserver):
    """Watches chunks of `/chat/completions` and `/completions`; complete at `[DONE]` or when every choice ended."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._is_done = False
        self._next_index = (b'"index":1', b'"index": 1')
        self._prefix = b"\0"  # no event begins so
        self._suffix = b""
        self._lessons = MAX_LESSONS

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes.

        The chunks of a stream differ only in a short text without quotes: where all before and after it is as in an
        earlier dull chunk, this one is dull too. That takes a third of the time of the searches in `is_dull`.
        """
        prefix, suffix = self._prefix, self._suffix
        if (
            data.startswith(prefix)
            and data.endswith(suffix)
            and data.find(b'"', len(prefix)) == len(data) - len(suffix)
            and not self._held
        ):
            return
        if self._is_settled and not self._held and data.endswith(EVENT_ENDS) and self.is_dull(data):
            if self._lessons:
                self._learn(data)
            return
        self.take(data)

    def _learn(self, data: bytes) -> None:
        """Note what surrounds the text; some servers vary more than that, so the tries are few."""
        self._lessons -= 1
        key = TEXT_KEY.search(data)
        end = data.find(b'"', key.end()) if key else -1
        if key and end > 0 and data[end - 1 : end] != b"\\" and data.find(b"\n\n") + 2 in (1, len(data)):
            self._prefix, self._suffix = data[: key.end()], data[end:]

    def is_dull(self, data: bytes) -> bool:
        """Tell whether nothing here ends a choice, begins another, or tells usage."""
        reasons = data.count(b'finish_reason"')
        if reasons != data.count(b'finish_reason":null') and reasons != data.count(b'finish_reason": null'):
            return False
        if data.find(b'"usage"') >= 0:
            usages = data.count(b'"usage"')
            if usages != data.count(b'"usage":null') and usages != data.count(b'"usage": null'):
                return False
        compact, spaced = self._next_index
        return (
            data.find(b'"error"') < 0 and data.find(b"[DONE]") < 0 and data.find(compact) < 0 and data.find(spaced) < 0
        )

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body."""
        return read_whole(document)

    def observe_end_marker(self) -> None:
        """Take in `[DONE]`."""
        self._is_done = self.is_complete = True
        self.has_output = self.has_output or self.error is None

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in usage; the last one counts."""
        self.usage = read_usage(usage) or self.usage

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one chunk."""
        error = document.get("error")
        if error and not self.is_complete:
            self.error = self.error or one_line(error)
            self._is_settled = False
            return
        self.served_model = self.served_model or as_text(document.get("model"))
        if document.get("usage"):
            self.observe_usage(as_object(document["usage"]))
        choices = document.get("choices")
        if not isinstance(choices, list):
            self.has_output = True
        for position, choice in enumerate(as_list(choices)):
            self._observe_choice(position, as_object(choice))
        self.is_complete = self._is_done or (bool(self._seen) and self._seen <= self._finished)
        self._is_settled = self.has_output and not self._finished

    def _observe_choice(self, position: int, choice: JsonObject) -> None:
        index = as_count(choice.get("index"))
        index = position if index is None else index
        if len(self._seen) < MAX_CHOICES:
            self._seen.add(index)
            following = len(self._seen)
            self._next_index = (b'"index":%d' % following, b'"index": %d' % following)
        if choice.get("finish_reason"):
            self.has_output = True
            if index in self._seen:
                self._finished.add(index)
        if not self.has_output:
            delta = as_object(choice.get("delta"))
            self.has_output = bool(choice.get("text")) or any(delta.get(key) for key in OUTPUT_KEYS + OUTPUT_KEYS_RARE)


class ResponsesObserver(StreamObserver):
    """Watches events of `/responses`; complete at its terminal events, or at `[DONE]`."""

    def is_dull(self, data: bytes) -> bool:
        """Tell whether no event carries the response object or an error."""
        return data.find(b'"response"') < 0 and data.find(b'"error"') < 0 and data.find(b"[DONE]") < 0

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body."""
        return read_whole(document)

    def observe_end_marker(self) -> None:
        """Take in `[DONE]`, which the specification does not have."""
        self.is_complete = True
        self.has_output = self.has_output or self.error is None

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in usage."""
        self.usage = read_usage(usage) or self.usage

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""
        kind = as_text(document.get("type")) or name or ""
        response = as_object(document.get("response"))
        self.served_model = as_text(response.get("model")) or self.served_model
        self.observe_usage(as_object(response.get("usage")))
        if kind in ("response.completed", "response.incomplete"):
            self.is_complete = self.has_output = True
        elif kind == "response.failed":
            self._fail(response.get("error"))
            self.is_complete = True
        elif kind == "error" or document.get("error"):
            self._fail(document.get("error") or document)
        elif kind == "response.output_item.added":
            self.has_output |= as_object(document.get("item")).get("type") not in ("message", "reasoning")
        elif kind not in RESPONSE_PREAMBLE:
            self.has_output = True
        self._is_settled = self.has_output

    def _fail(self, error: object) -> None:
        if not self.is_complete:
            self.error = self.error or one_line(error)
