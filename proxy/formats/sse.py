"""Streams cut into whole events (server-sent events) and whole lines (NDJSON), every byte kept.

Source: WHATWG HTML, 9.2.5 and 9.2.6 (lines end with CRLF, LF or CR; a blank line ends an event).
"""

import re
from typing import Final

from proxy.errors import UpstreamProtocol

LIMIT_BYTES: Final = 16 * 1024 * 1024
"""Largest event or line; pictures arrive whole in one."""

BLANK_LINE: Final = re.compile(rb"\n(?:\r\n?|\n)|\r\r\n?")
BOM: Final = b"\xef\xbb\xbf"


class EventSplitter:
    """Gives out whole events, terminators included; joined they are what was fed."""

    __slots__ = ("_held", "_limit_bytes", "_searched")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._held = bytearray()
        self._searched = 0
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that the next bytes complete.

        Raises:
            UpstreamProtocol: an event is larger than the limit.
        """
        if not self._held and data.endswith(b"\n\n") and b"\r" not in data and data.find(b"\n\n") == len(data) - 2:
            return [data]
        self._held += data
        events: list[bytes] = []
        begin = 0
        for match in BLANK_LINE.finditer(self._held, self._searched):
            end = match.end()
            if end == len(self._held) and self._held[-1] == 0x0D:
                break  # the line feed of this CRLF may still come
            events.append(bytes(self._held[begin:end]))
            begin = end
        del self._held[:begin]
        self._searched = max(0, len(self._held) - 3)
        if len(self._held) > self._limit_bytes:
            raise UpstreamProtocol(f"an event of the stream is larger than {self._limit_bytes} bytes")
        return events

    def rest(self) -> bytes:
        """Return and forget what is held back: an event without its blank line, at the end of the stream."""
        held = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return held


class LineSplitter:
    """Gives out whole lines with their line feed; joined they are what was fed."""

    __slots__ = ("_held", "_limit_bytes")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._held = bytearray()
        self._limit_bytes = limit_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that the next bytes complete.

        Raises:
            UpstreamProtocol: a line is larger than the limit.
        """
        lines: list[bytes] = []
        cut = data.rfind(b"\n") + 1
        if cut:
            lines = bytes(self._held + data[:cut]).split(b"\n")[:-1]
            self._held.clear()
        self._held += data[cut:]
        if len(self._held) > self._limit_bytes:
            raise UpstreamProtocol(f"a line of the stream is larger than {self._limit_bytes} bytes")
        return [line + b"\n" for line in lines]

    def rest(self) -> bytes:
        """Return and forget what is held back: a last line without its line feed."""
        held = bytes(self._held)
        self._held.clear()
        return held


def parse_event(event: bytes) -> tuple[str | None, bytes]:
    """Read one event.

    Args:
        event: one event, its blank line included or not.
    Returns:
        Its name, None if it has none, and its data: several `data:` lines joined with line feeds, empty if it has
        none (a comment, say).
    """
    if event.startswith(b"data: ") and b"\r" not in event:
        line = event.rstrip(b"\n")
        if b"\n" not in line:
            return None, line[6:]
    name = None
    data: list[bytes] = []
    for line in event.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return name, b"\n".join(data)


def write_event(data: bytes, name: str | None = None) -> bytes:
    """Write one event; `data` must hold no line ends, as JSON written compactly does not."""
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
