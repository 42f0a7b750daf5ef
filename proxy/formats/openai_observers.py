"""Watching OpenAI streams pass by: chat and legacy completions, and the responses API."""

from typing import Final

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_list, as_object, as_text, one_line
from proxy.formats.observing import EVENT_ENDS, Readings, StreamObserver
from proxy.formats.openai_usage import read_usage, read_whole

MAX_CHOICES: Final = 1024
"""Choices whose ends are told apart."""
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

    __slots__ = ("_finished", "_is_done", "_next_index", "_seen")

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._is_done = False
        self._next_index = b'"index":1'

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes. The usual chunk, one whole event of plain text, costs five searches."""
        if (
            self._is_settled
            and not self._held
            and data.endswith(EVENT_ENDS)
            and data.count(b'finish_reason":null') == data.count(b'finish_reason"')
            and b'"usage"' not in data
            and b'"error"' not in data
            and b"[DONE]" not in data
            and self._next_index not in data
        ):
            return
        self.take(data)

    def is_dull(self, data: bytes) -> bool:
        """Tell whether nothing here ends a choice or tells usage; also knows the nulls that `feed` leaves to it."""
        reasons = data.count(b'finish_reason"')
        usages = data.count(b'"usage"')
        return (
            reasons == data.count(b'finish_reason":null') + data.count(b'finish_reason": null')
            and usages == data.count(b'"usage":null') + data.count(b'"usage": null')
            and b'"error"' not in data
            and b"[DONE]" not in data
            and self._next_index not in data
            and self._next_index.replace(b":", b": ") not in data
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
            self._next_index = b'"index":%d' % (len(self._seen))
        if choice.get("finish_reason"):
            self.has_output = True
            if index in self._seen:
                self._finished.add(index)
        if not self.has_output:
            delta = as_object(choice.get("delta"))
            self.has_output = bool(choice.get("text")) or any(delta.get(key) for key in OUTPUT_KEYS + OUTPUT_KEYS_RARE)


class ResponsesObserver(StreamObserver):
    """Watches events of `/responses`; complete at its terminal events, or at `[DONE]`."""

    __slots__ = ()

    def is_dull(self, data: bytes) -> bool:
        """Tell whether no event carries the response object or an error."""
        return b'"response"' not in data and b'"error"' not in data and b"[DONE]" not in data

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
