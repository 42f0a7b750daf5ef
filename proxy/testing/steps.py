"""What a fake response does on the wire, step by step, and the faults that can be put into it; pure."""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

CutKind = Literal["rst", "fin"]


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection: `fin` closes it politely, `rst` resets it."""

    kind: CutKind = "rst"


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more and keep the connection open until the client leaves."""


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Send FIN and go on reading, as servers do that want their last answer to arrive; without TLS only."""


Step = bytes | Pause | Cut | Stall | HalfClose | asyncio.Event
"""Bytes are one write; an event is waited for."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How a response misbehaves; the default is not at all.

    Args:
        delay_s: silence before the first byte.
        never_answer: the request is read and nothing is sent.
        cut_after_events: so many events (a body that is no stream is one), then `cut`; 0 leaves the head alone.
        stall_after_events: so many events, then silence.
        cut_after_bytes: so many bytes of the body, then `cut`.
        cut: how a cut connection ends.
        comments: an SSE comment before every event.
        crlf: lines end with CR LF.
        cr: lines end with CR alone.
        data_lines: the JSON of every SSE event is spread over two `data:` lines.
        split_at: offsets in the body, oldest first, at which a write and a chunk end.
        split_every: the same at every multiple of so many bytes.
        drip_s: pause after each write of the body. Writes without a pause may be read as one.
        without_end: the format's own end (`[DONE]`, `message_stop`, …) is missing, the HTTP framing is whole.
        error_event: the last event is the format's error event with this message.
        close_after: the connection is closed after the response without having said so in a header.
        lingers: with `close_after`: what the client still sends is read, so that it does not reset the connection.
        bytes_before: before the head, such as an interim response.
        bytes_after: after the response, in one write with its last bytes.
    """

    delay_s: float = 0.0
    never_answer: bool = False
    cut_after_events: int | None = None
    stall_after_events: int | None = None
    cut_after_bytes: int | None = None
    cut: CutKind = "rst"
    comments: bool = False
    crlf: bool = False
    cr: bool = False
    data_lines: bool = False
    split_at: tuple[int, ...] = ()
    split_every: int | None = None
    drip_s: float = 0.0
    without_end: bool = False
    error_event: str | None = None
    close_after: bool = False
    lingers: bool = False
    bytes_before: bytes = b""
    bytes_after: bytes = b""


def frame(head: bytes, events: Iterable[Step], faults: Faults, *, is_chunked: bool) -> Iterator[Step]:
    """Lay a response out as steps.

    Args:
        head: status line and headers with the blank line.
        events: the body, one event each, with whatever else happens between them.
        faults: what goes wrong.
        is_chunked: every write of the body becomes a chunk.
    """
    if faults.delay_s:
        yield Pause(faults.delay_s)
    if faults.never_answer:
        yield Stall()
        return
    if faults.bytes_before:
        yield faults.bytes_before
    yield head
    offset = sent = 0
    for event in events:
        if not isinstance(event, bytes):
            yield event
            continue
        if (end := _early_end(sent, faults)) is not None:
            yield end
            return
        limit = faults.cut_after_bytes
        is_last = limit is not None and limit <= offset + len(event)
        for piece in _split(event[: limit - offset] if is_last and limit is not None else event, offset, faults):
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
            if faults.drip_s:
                yield Pause(faults.drip_s)
        if is_last:
            yield Cut(faults.cut)
            return
        offset += len(event)
        sent += 1
    if (end := _early_end(sent, faults)) is not None:
        yield end
        return
    if is_chunked:
        yield b"0\r\n\r\n" + faults.bytes_after
    if faults.close_after:
        yield HalfClose() if faults.lingers else Cut("fin")


def disturb(event: bytes, faults: Faults) -> bytes:
    """Put comments and other line ends into one server-sent event."""
    if faults.comments:
        event = b": keep-alive\n\n" + event
    if faults.data_lines:
        event = event.replace(b"data: {", b"data: {\ndata: ")
    return event.replace(b"\n", b"\r\n" if faults.crlf else b"\r" if faults.cr else b"\n")


def _early_end(sent: int, faults: Faults) -> Step | None:
    if faults.cut_after_events is not None and sent >= faults.cut_after_events:
        return Cut(faults.cut)
    if faults.stall_after_events is not None and sent >= faults.stall_after_events:
        return Stall()
    return None


def _split(event: bytes, offset: int, faults: Faults) -> Sequence[bytes]:
    """Split at the offsets that fall into this event, which begins at `offset` of the body."""
    if not event:
        return ()
    inside = {at - offset for at in faults.split_at if offset < at < offset + len(event)}
    if faults.split_every:
        inside |= {at for at in range(1, len(event)) if (offset + at) % faults.split_every == 0}
    edges = [0, *sorted(inside), len(event)]
    return [event[start:end] for start, end in itertools.pairwise(edges)]
