"""Watching Anthropic streams pass by, and what a whole message says about itself."""

from typing import Any, Final

from proxy.exchange import JsonObject
from proxy.formats.fields import as_count, as_object, as_text, known_usage, one_line, total
from proxy.formats.observing import Readings, StreamObserver
from proxy.usage import Usage

USAGE_COUNTS: Final = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def read_usage(usage: Any) -> Usage | None:  # Any: JSON from elsewhere
    """Read `usage`: Anthropic's `input_tokens` leaves out both cache counts, ours includes them."""
    if not isinstance(usage, dict):
        return None
    plain, output, written, read = (as_count(usage.get(key)) for key in USAGE_COUNTS)
    return known_usage(
        Usage(
            input_tokens=None if plain is None else total(plain, written, read),
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=as_count(as_object(usage.get("output_tokens_details")).get("thinking_tokens")),
        )
    )


def write_usage(usage: Usage) -> JsonObject:
    """Write `usage`; what is not known counts as 0, as the SDK requires numbers."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    return {
        "input_tokens": max(0, (usage.input_tokens or 0) - read - written),
        "output_tokens": usage.output_tokens or 0,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }


def read_whole(document: JsonObject) -> Readings:
    """Read what a whole reply says about itself; a token count is the input's."""
    usage = read_usage(document.get("usage"))
    counted = as_count(document.get("input_tokens"))
    if usage is None and counted is not None:
        usage = Usage(input_tokens=counted)
    error = document.get("error")
    return usage, as_text(document.get("model")), one_line(error) if error else None


class MessagesObserver(StreamObserver):
    """Watches events of `/v1/messages`; complete at `message_stop`."""

    def __init__(self) -> None:
        super().__init__()
        self._usage_fields: JsonObject = {}

    def is_dull(self, data: bytes) -> bool:
        """Tell whether there are only content blocks and pings."""
        return data.find(b"message_") < 0 and data.find(b'"error"') < 0

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body."""
        return read_whole(document)

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in usage: counts are cumulative, so each that is given replaces the earlier one."""
        for key in (*USAGE_COUNTS, "output_tokens_details"):
            if usage.get(key) is not None:
                self._usage_fields[key] = usage[key]
        self.usage = read_usage(self._usage_fields)

    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""
        kind = as_text(document.get("type")) or name
        if kind == "message_start":
            message = as_object(document.get("message"))
            self.served_model = as_text(message.get("model")) or self.served_model
            self.observe_usage(as_object(message.get("usage")))
        elif kind == "message_delta":
            self.observe_usage(as_object(document.get("usage")))
            self.has_output = True
        elif kind == "message_stop":
            self.is_complete = self.has_output = True
        elif kind == "error":
            if not self.is_complete:
                self.error = self.error or one_line(document.get("error"))
        elif kind == "content_block_start":
            self.has_output |= as_object(document.get("content_block")).get("type") not in ("text", "thinking")
        elif kind not in ("ping", "content_block_stop"):
            self.has_output = True
        self._is_settled = self.has_output
