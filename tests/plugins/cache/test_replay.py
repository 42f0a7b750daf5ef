"""Streams that are given out again: the bytes are those that were recorded, the pace too where it is wished."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.entry import Entry
from plugins.cache.replay import MARK, MOST, PaceRecorder, event_ends, paced
from tests.plugins.cache.entries import make_entry

SSE = b"X-A: b\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
NDJSON = b"content-type: application/x-ndjson\r\n"


def record(*parts: tuple[float, bytes], head: bytes = SSE) -> Entry:
    """An entry whose parts came at these seconds."""
    recorder = PaceRecorder()
    for elapsed_s, part in parts:
        recorder.note(len(part), elapsed_s)
    return make_entry(head=head, body=b"".join(part for _, part in parts), shape="events", pace=recorder.packed())


def test_stream_is_given_out_at_the_pace_at_which_it_came() -> None:
    entry = record((0.5, b"data: 1\n\n"), (0.75, b"data: 2\n\ndata: 3\n\n"), (1.0, b"data: [DONE]\n\n"))

    parts = list(paced(entry, cap_s=10.0))

    assert parts == [(0.5, b"data: 1\n\n"), (0.25, b"data: 2\n\ndata: 3\n\n"), (0.25, b"data: [DONE]\n\n")]


def test_no_wait_is_longer_than_the_cap() -> None:
    entry = record((30.0, b"data: 1\n\n"), (30.1, b"data: 2\n\n"), (90.0, b"data: 3\n\n"))

    assert [delay_s for delay_s, _ in paced(entry, cap_s=1.0)] == [1.0, 0.1, 1.0]


def test_without_a_cap_the_whole_body_comes_at_once() -> None:
    entry = record((0.5, b"data: 1\n\n"), (0.75, b"data: 2\n\n"))

    assert list(paced(entry, cap_s=0.0)) == [(0.0, entry.body)]


def test_event_that_came_in_pieces_goes_out_whole() -> None:
    entry = record((0.1, b"data: 1\n\nda"), (0.2, b"ta: "), (0.3, b"2\n"), (0.4, b"\n"))

    assert list(paced(entry, cap_s=1.0)) == [(0.1, b"data: 1\n\n"), (pytest.approx(0.3), b"data: 2\n\n")]


def test_lines_are_events_of_ndjson() -> None:
    entry = record((0.1, b'{"a":1}\n{"b'), (0.3, b'":2}\n'), head=NDJSON)

    assert list(paced(entry, cap_s=1.0)) == [(0.1, b'{"a":1}\n'), (pytest.approx(0.2), b'{"b":2}\n')]


def test_stream_of_another_kind_goes_out_in_the_parts_that_came() -> None:
    entry = record((0.1, b'[{"a":1}'), (0.2, b',{"b":2}]'), head=b"Content-Type: application/json\r\n")

    assert list(paced(entry, cap_s=1.0)) == [(0.1, b'[{"a":1}'), (0.1, b',{"b":2}]')]


@pytest.mark.parametrize(
    ("head", "body", "ends"),
    [
        (SSE, b"a\n\nb\r\n\r\nc\r\rd", [3, 8, 11]),
        (SSE, b"", []),
        (NDJSON, b"{}\n{}\n", [3, 6]),
        (b"CONTENT-TYPE:text/event-stream\r\n", b"a\n\n", [3]),
        (b"X-Content-Type: text/event-stream\r\n", b"a\n\n", None),
        (b"", b"a\n\n", None),
    ],
)
def test_ends_of_events_are_found_by_the_kind_of_stream(head: bytes, body: bytes, ends: list[int] | None) -> None:
    assert event_ends(head, body) == ends


def test_parts_of_one_millisecond_are_one_mark() -> None:
    recorder = PaceRecorder()

    for elapsed_s in (0.0101, 0.0102, 0.0109, 0.011):
        recorder.note(10, elapsed_s)

    assert list(MARK.iter_unpack(recorder.packed())) == [(30, 10), (40, 11)]


def test_figures_beyond_what_a_mark_holds_are_cut() -> None:
    recorder = PaceRecorder()

    recorder.note(2**40, 1e12)

    assert list(MARK.iter_unpack(recorder.packed())) == [(MOST, MOST)]


def test_clock_that_goes_back_makes_no_wait() -> None:
    recorder = PaceRecorder()

    recorder.note(5, 1.0)
    recorder.note(5, -3.0)

    assert list(MARK.iter_unpack(recorder.packed())) == [(10, 1000)]


EVENTS = st.lists(st.sampled_from([b"data: 1\n\n", b": x\r\n\r\n", b"data", b"\n", b"\r", b"a: b\n"]), max_size=12)


@given(st.lists(st.tuples(st.floats(0, 100), EVENTS.map(b"".join)), max_size=10), st.sampled_from([SSE, NDJSON, b""]))
def test_recorded_stream_comes_back_byte_for_byte(parts: list[tuple[float, bytes]], head: bytes) -> None:
    entry = record(*sorted(parts), head=head)

    given_out = list(paced(entry, cap_s=0.5))

    assert b"".join(part for _, part in given_out) == entry.body
    assert all(0 <= delay_s <= 0.5 for delay_s, _ in given_out)


@given(st.binary(max_size=60), st.binary(max_size=60), st.floats(0, 100))
def test_whatever_the_pace_says_the_body_is_whole(pace: bytes, body: bytes, cap_s: float) -> None:
    entry = make_entry(head=SSE, body=body, pace=pace, shape="events")

    given_out = list(paced(entry, cap_s))

    assert b"".join(part for _, part in given_out) == body
    assert all(0 <= delay_s <= cap_s for delay_s, _ in given_out)
