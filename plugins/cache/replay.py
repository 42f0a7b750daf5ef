"""A recorded stream given out again: all at once, or event by event at the pace at which it came."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import Final

from plugins.cache.entry import Entry

MARK: Final = Struct("<II")
"""How many bytes there were, and when: milliseconds after the request went out."""

MOST: Final = 2**32 - 1
"""Bytes or milliseconds; what is beyond counts as this."""

_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\n")
_EVENTS: Final = re.compile(rb"^content-type:[ \t]*text/event-stream", re.IGNORECASE | re.MULTILINE)
_LINES: Final = re.compile(rb"^content-type:[ \t]*application/(?:x-)?(?:ndjson|jsonl)", re.IGNORECASE | re.MULTILINE)


class PaceRecorder:
    """Notes when the parts of a stream come, eight bytes for each; those of one millisecond are one."""

    __slots__ = ("_marks", "_seen_bytes", "_seen_ms")

    def __init__(self) -> None:
        self._marks = bytearray()
        self._seen_bytes = 0
        self._seen_ms = -1

    def note(self, length_bytes: int, elapsed_s: float) -> None:
        """Note a part.

        Args:
            elapsed_s: since the request went out, never less than at the last part.
        """
        self._seen_bytes += length_bytes
        moment_ms = max(self._seen_ms, min(int(elapsed_s * 1000), MOST), 0)
        if moment_ms == self._seen_ms:
            del self._marks[-MARK.size :]
        self._seen_ms = moment_ms
        self._marks += MARK.pack(min(self._seen_bytes, MOST), moment_ms)

    def packed(self) -> bytes:
        """Return what an entry takes as `pace`."""
        return bytes(self._marks)


def event_ends(head: bytes, body: bytes) -> list[int] | None:
    """Find where the events of a recorded stream end, in bytes from its beginning.

    Args:
        head: header lines, which say what an event is: with `text/event-stream` up to a blank line, with NDJSON a
            line.
    Returns:
        None for a stream of another kind.
    Source:
        WHATWG HTML, 9.2.5.
    """
    pattern = _BLANK_LINE if _EVENTS.search(head) else _LINE_END if _LINES.search(head) else None
    return None if pattern is None else [match.end() for match in pattern.finditer(body)]


def paced(entry: Entry, cap_s: float) -> Iterator[tuple[float, bytes]]:
    """Give out a recorded stream in parts, each with the seconds to wait before it.

    A part ends with an event if it is known what an event is, so that one that came in two pieces goes out in one.

    Args:
        cap_s: longest wait before a part, the first included; 0 gives the whole body at once.
    Returns:
        Parts that joined are the body, whatever `pace` says.
    """
    if cap_s <= 0 or len(entry.pace) < MARK.size:
        yield 0.0, entry.body
        return
    given_bytes, given_ms = 0, 0
    for end, moment_ms in _whole_events(entry):
        if end > given_bytes:
            yield min(max(moment_ms - given_ms, 0) / 1000, cap_s), entry.body[given_bytes:end]
            given_bytes, given_ms = end, moment_ms
    if given_bytes < len(entry.body):
        yield 0.0, entry.body[given_bytes:]


def _whole_events(entry: Entry) -> Iterator[tuple[int, int]]:
    """Move each mark back to the end of the last event that was whole by then."""
    ends = event_ends(entry.head, entry.body)
    for count_bytes, moment_ms in MARK.iter_unpack(entry.pace[: len(entry.pace) // MARK.size * MARK.size]):
        if ends is None:
            yield min(count_bytes, len(entry.body)), moment_ms
        elif whole := bisect_right(ends, count_bytes):
            yield ends[whole - 1], moment_ms
