"""Splitters give back every byte, at the right places, and hold no more than their limit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamProtocol
from proxy.formats.sse import EventSplitter, LineSplitter, parse_event, write_event

STREAM = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"\n\n", b"a"]) | st.binary(max_size=3)).map(
    b"".join
)


def split_events(data: bytes, cuts: list[int]) -> list[bytes]:
    splitter = EventSplitter()
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    events = [event for begin, end in pairwise(ends) for event in splitter.feed(data[begin:end])]
    return [*events, splitter.rest()]


@given(STREAM, st.lists(st.integers(0, 60)))
def test_events_are_the_same_bytes_however_they_come(data: bytes, cuts: list[int]) -> None:
    events = split_events(data, cuts)

    assert b"".join(events) == data
    assert events == split_events(data, list(range(len(data))))


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n"])
def test_event_is_given_out_with_its_last_byte(end: bytes) -> None:
    splitter = EventSplitter()

    assert splitter.feed(b"data: a" + end[:-1]) == []
    assert splitter.feed(end[-1:]) == [b"data: a" + end]


def test_one_crlf_ends_no_event() -> None:
    assert EventSplitter().feed(b"event: a\r\ndata: b\r\n") == []


@given(st.lists(st.binary(max_size=4) | st.just(b"\n")))
def test_lines_are_the_same_bytes_however_they_come(pieces: list[bytes]) -> None:
    splitter = LineSplitter()

    lines = [line for piece in pieces for line in splitter.feed(piece)]

    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert b"".join(lines) + splitter.rest() == b"".join(pieces)


@pytest.mark.parametrize("splitter", [EventSplitter(limit_bytes=100), LineSplitter(limit_bytes=100)])
def test_what_never_ends_is_refused(splitter: EventSplitter | LineSplitter) -> None:
    for _ in range(10):
        splitter.feed(b"x" * 10)

    with pytest.raises(UpstreamProtocol, match="larger than 100 bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"data: a\n\n", (None, b"a")),
        (b"data:a\r\n\r\n", (None, b"a")),
        (b"data:  a\n", (None, b" a")),
        (b"event: x\ndata: a\ndata: b\n\n", ("x", b"a\nb")),
        (b"data: a\rdata: b\r\r", (None, b"a\nb")),
        (b": comment\n\n", (None, b"")),
        (b"\xef\xbb\xbfdata: a\n\n", (None, b"a")),
        (b"id: 1\nretry: 3\n\n", (None, b"")),
        (b"event: \xff\ndata\n\n", ("\ufffd", b"")),
        (b"", (None, b"")),
    ],
)
def test_event_is_parsed(event: bytes, expected: tuple[str | None, bytes]) -> None:
    assert parse_event(event) == expected


def test_written_event_is_read_back() -> None:
    assert parse_event(write_event(b"{}", "done")) == ("done", b"{}")
