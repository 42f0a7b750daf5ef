"""The shared part of watching responses: whole JSON bodies, and streams of events whose dull ones are not parsed."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final

import orjson

from proxy.exchange import JsonObject
from proxy.formats.fields import Json
from proxy.formats.sse import parse_event
from proxy.usage import Usage

WHOLE_LIMIT_BYTES: Final = 256 * 1024
"""Larger JSON bodies are not parsed; their usage is looked for near the end."""
EVENT_LIMIT_BYTES: Final = 1024 * 1024
"""Larger events of a stream are not parsed; only their end is looked at."""
TAIL_BYTES: Final = 16 * 1024
EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n")


Readings = tuple[Usage | None, str | None, str | None]
"""What a whole reply says about itself: usage, the model that served it, and the provider's error in one line."""

ReadWhole = Callable[[JsonObject], Readings]


class Observed:
    """The fields of a `ResponseObserver`; the class holds their first values, so that making one is cheap."""

    has_output = False
    is_complete = False
    error: str | None = None
    usage: Usage | None = None
    served_model: str | None = None


class JsonObserver(Observed):
    """Watches a reply that is one JSON body, parsed when it has ended.

    Args:
        read: what such a reply says about itself.
        usage_key: the key whose object holds the usage, sought near the end of a body too large to parse.
    """

    _size_bytes = 0

    def __init__(self, read: ReadWhole, usage_key: str = "usage") -> None:
        self._read = read
        self._usage_key = usage_key
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Keep the bytes for `finish`, or the last of them when the body is large."""
        if not data:
            return
        self.has_output = True
        self._parts.append(data)
        self._size_bytes += len(data)
        if self._size_bytes > WHOLE_LIMIT_BYTES and sum(map(len, self._parts)) > 4 * TAIL_BYTES:
            self._parts = [b"".join(self._parts)[-TAIL_BYTES:]]

    def finish(self) -> None:
        """Parse the body: what does not parse although it began as JSON is incomplete."""
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        if self._size_bytes > WHOLE_LIMIT_BYTES:
            self.is_complete = True
            usage = last_object(body[-TAIL_BYTES:], self._usage_key)
            if usage is not None:
                self.usage = self._read({self._usage_key: usage})[0]
            return
        if not body.startswith((b"{", b"[")) and body.lstrip()[:1] not in (b"{", b"["):
            self.is_complete = bool(body)  # compressed, or not JSON: as HTTP frames it
            return
        try:
            document: Json = orjson.loads(body)
            self.is_complete = True
        except orjson.JSONDecodeError:
            document, self.is_complete = _parse_loosely(body)
        if isinstance(document, dict):
            self.usage, self.served_model, self.error = self._read(document)
            return
        for part in document if isinstance(document, list) else [document]:
            if isinstance(part, dict):
                part_usage, served_model, error = self._read(part)
                self.usage = part_usage or self.usage
                self.served_model = served_model or self.served_model
                self.error = error or self.error


def _parse_loosely(body: bytes) -> tuple[Json, bool]:
    """Return the document and whether it is whole; this slower parser takes NaN, which some servers send."""
    try:
        return json.loads(body), True
    except ValueError:
        return None, False
    except RecursionError:
        return None, True


def last_object(tail: bytes, key: str) -> JsonObject | None:
    """Find the last object under a key in a piece of JSON that begins anywhere."""
    text = tail.decode("utf-8", "replace")
    for match in reversed(list(re.finditer(rf'"{key}"\s*:\s*(?={{)', text))[-8:]):
        try:
            found, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None


class StreamObserver(Observed, ABC):
    """Watches a stream: cuts it into events, and parses those that may say something.

    A subclass begins `feed` with its own test for bytes that cannot matter, which must hold for several events
    exactly if it holds for each: then the result is the same however the stream is split.
    """

    usage_key: ClassVar[str] = "usage"
    _headless = False
    _is_begun = False
    _is_settled = False
    """Output was seen and nothing is pending, so dull events may be passed over."""
    _whole: JsonObserver | None = None

    def __init__(self) -> None:
        self._held = bytearray()

    @abstractmethod
    def is_dull(self, data: bytes) -> bool:
        """Tell whether no event in these bytes can say anything once the stream is settled."""

    @abstractmethod
    def observe(self, name: str | None, document: JsonObject) -> None:
        """Take in one event."""

    def read_whole(self, document: JsonObject) -> Readings:
        """Read a reply that came as one JSON body although a stream was expected."""
        return None, None, None

    def observe_end_marker(self) -> None:
        """Take in `[DONE]`."""

    def pass_over(self, data: bytes) -> None:
        """Take note of dull events without parsing them."""

    def observe_usage(self, usage: JsonObject) -> None:
        """Take in the usage found at the end of an event too large to parse."""

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes."""
        if self._is_settled and not self._held and data.endswith(EVENT_ENDS) and self.is_dull(data):
            return
        self.take(data)

    def take(self, data: bytes) -> None:
        """Cut off whole events and look at each; hold back the rest."""
        if self._whole is not None:
            self._whole.feed(data)
            return
        held = self._held
        if not self._is_begun:
            data = data.lstrip()
            self._is_begun = bool(data)
            if self._begins_whole(data):
                self._whole = JsonObserver(self.read_whole, self.usage_key)
                self.has_output = True
                self._whole.feed(data)
                return
        start = max(0, len(held) - 3)
        held += data
        cut = self._last_end(held, start)
        if cut:
            block = bytes(held[:cut])
            del held[:cut]
            self._observe_block(block)
        if len(held) > EVENT_LIMIT_BYTES:
            del held[:-TAIL_BYTES]
            self._headless = True
            self.has_output = True

    def finish(self) -> None:
        """Take in an event that lacks its end."""
        if self._whole is not None:
            whole = self._whole
            whole.finish()
            self.is_complete, self.usage = whole.is_complete, whole.usage
            self.error, self.served_model = whole.error, whole.served_model
        elif self._held:
            block = bytes(self._held)
            self._held.clear()
            self._observe_block(block)

    def _begins_whole(self, data: bytes) -> bool:
        return data[:1] in (b"{", b"[")

    def _last_end(self, held: bytearray, start: int) -> int:
        cut = held.rfind(b"\n\n", start) + 2
        if b"\r" in held:
            cut = max(cut, held.rfind(b"\n\r\n", start) + 3 if b"\n\r\n" in held else 0, held.rfind(b"\r\r", start) + 2)
        return cut if cut > 1 and cut > start else 0

    def _split(self, block: bytes) -> list[bytes]:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return block.split(b"\n\n")

    def _parse(self, event: bytes) -> tuple[str | None, bytes]:
        return parse_event(event)

    def _observe_block(self, block: bytes) -> None:
        if self._is_settled and not self._headless and self.is_dull(block) and len(block) <= EVENT_LIMIT_BYTES:
            self.pass_over(block)
            return
        for event in self._split(block):
            if self._headless or len(event) > EVENT_LIMIT_BYTES:
                self._headless = False
                self.has_output = True
                usage = last_object(event[-TAIL_BYTES:], self.usage_key)
                if usage is not None:
                    self.observe_usage(usage)
            elif self._is_settled and self.is_dull(event):
                self.pass_over(event)
            else:
                self._observe_event(event)

    def _observe_event(self, event: bytes) -> None:
        name, data = self._parse(event)
        if not data or data.isspace():
            return
        if data.strip() == b"[DONE]":
            self.observe_end_marker()
            return
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            document = None
        if isinstance(document, dict):
            self.observe(name, document)
        else:
            self.has_output = True
