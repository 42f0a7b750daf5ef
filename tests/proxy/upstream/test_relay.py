"""What the relay lets through to the client, what it holds back, and how it ends."""

import asyncio

import pytest

from proxy.errors import (
    PluginFailed,
    ProxyError,
    Refused,
    UpstreamCut,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamReset,
)
from proxy.formats.observing import JsonObserver
from proxy.formats.openai_usage import read_whole
from proxy.formats.sse import EventSplitter
from proxy.sink import ResponseHead
from proxy.upstream.relay import LINE_BOUNDARIES, MAX_HELD_BYTES, SSE_BOUNDARIES, Filtering, Passage, Relay
from tests.proxy.upstream.recording import HEAD, RecordingConnection, RecordingSink, Watcher, receive

HEADERS = b"Content-Type: text/event-stream\r\n"
PREAMBLE = b"data: role\n\n"
OUTPUT = b"data: out\n\n"
DONE = b"data: [DONE]\n\n"
CHUNKED = ResponseHead(200, [])
CHUNKED.is_chunked = True


def stream_relay(sink: RecordingSink, boundaries: tuple[bytes, ...] = SSE_BOUNDARIES) -> Relay:
    passage = Passage(HEADERS, Watcher(), is_held=True, boundaries=boundaries)
    return Relay(sink, lambda head: passage)


def plain_relay(sink: RecordingSink) -> Relay:
    return Relay(sink, lambda head: Passage(HEADERS))


async def conclude(relay: Relay) -> RecordingConnection:
    """Run a relay whose response is over already."""
    connection = RecordingConnection()
    await relay.run(connection, 60)
    return connection


# -- holding back ---------------------------------------------------------------------------------------------------


async def test_preamble_starts_nothing_before_the_first_output() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, PREAMBLE)

    assert not sink.is_started


async def test_failure_after_the_preamble_leaves_the_client_untouched() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, PREAMBLE)
    relay.on_failure(UpstreamReset("gone"))

    with pytest.raises(UpstreamReset):
        await conclude(relay)
    assert (sink.is_started, sink.writes, sink.is_finished) == (False, [], False)


@pytest.mark.parametrize("is_stream", [True, False], ids=["events", "json"])
async def test_response_that_breaks_in_its_very_first_read_leaves_the_client_untouched(is_stream: bool) -> None:
    sink = RecordingSink()
    relay = stream_relay(sink) if is_stream else plain_relay(sink)

    relay.on_head(HEAD)
    relay.on_data(OUTPUT)
    relay.on_failure(UpstreamProtocol("bad chunk"))

    with pytest.raises(UpstreamProtocol):
        await conclude(relay)
    assert (sink.is_started, sink.writes) == (False, [])


async def test_preamble_leaves_with_the_first_output_in_one_write() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, PREAMBLE, OUTPUT)

    assert (sink.status, sink.headers, sink.length) == (200, HEADERS, None)
    assert sink.writes == [PREAMBLE + OUTPUT]


async def test_response_that_nobody_holds_starts_with_its_head() -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)

    relay.on_head(HEAD)
    relay.on_read()

    assert sink.is_started


async def test_json_reply_starts_with_its_first_body_bytes() -> None:
    sink = RecordingSink()
    relay = Relay(sink, lambda head: Passage(HEADERS, Watcher(), is_held=True))

    relay.on_head(HEAD)
    relay.on_read()
    was_started = sink.is_started
    receive(relay, b"{", head=None)

    assert (was_started, sink.is_started) == (False, True)


async def test_preamble_larger_than_the_limit_is_held_no_longer() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)
    ping = b": ping\n\n" * (MAX_HELD_BYTES // 8)

    receive(relay, ping)
    was_started = sink.is_started
    receive(relay, b": ping\n\n", head=None)

    assert (was_started, sink.is_started) == (False, True)
    assert sink.body == ping + b": ping\n\n"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_only_whole_events_are_passed(end: bytes) -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, b"data: out" + end + b"data: ha")
    before = sink.body
    receive(relay, b"lf" + end, head=None)

    assert before == b"data: out" + end
    assert sink.body == b"data: out" + end + b"data: half" + end


async def test_only_whole_lines_of_ndjson_are_passed() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink, LINE_BOUNDARIES)

    receive(relay, b'{"out":1}\n{"out"')

    assert sink.body == b'{"out":1}\n'


async def test_partial_event_is_dropped_when_the_response_breaks_off() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, OUTPUT, b"data: half an ev")
    relay.on_failure(UpstreamCut("cut"))

    with pytest.raises(UpstreamCut):
        await conclude(relay)
    assert sink.body == OUTPUT
    assert not sink.is_finished


async def test_event_larger_than_the_limit_flows_before_its_end() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)
    large = b"data: " + b"x" * MAX_HELD_BYTES

    receive(relay, OUTPUT, large)

    assert sink.body == OUTPUT + large


# -- ends -----------------------------------------------------------------------------------------------------------


async def test_complete_stream_is_finished() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, PREAMBLE, OUTPUT, DONE)
    relay.on_end()
    connection = await conclude(relay)

    assert sink.body == PREAMBLE + OUTPUT + DONE
    assert sink.is_finished
    assert connection.calls == []


async def test_bytes_without_a_last_blank_line_are_passed_at_a_complete_end() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, OUTPUT)
    relay.on_data(b"data: [DONE]")
    relay.on_end()
    await conclude(relay)

    assert sink.body == OUTPUT + b"data: [DONE]"
    assert sink.is_finished


async def test_stream_that_http_ends_cleanly_without_its_end_event_is_a_cut() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, OUTPUT, b"data: half")
    relay.on_end()

    with pytest.raises(UpstreamCut):
        await conclude(relay)
    assert sink.body == OUTPUT
    assert not sink.is_finished


async def test_stream_that_ends_within_its_preamble_leaves_the_client_untouched() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, PREAMBLE)
    relay.on_end()

    with pytest.raises(UpstreamCut):
        await conclude(relay)
    assert not sink.is_started


async def test_stream_that_begins_with_an_error_can_still_go_to_another_provider() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, b"data: oops\n\n", DONE)
    relay.on_end()

    with pytest.raises(UpstreamRejected, match="oops"):
        await conclude(relay)
    assert not sink.is_started


async def test_failure_still_delivers_the_whole_events_that_came_with_it() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    receive(relay, OUTPUT)
    relay.on_data(b"data: second\n\ndata: thi")
    relay.on_failure(UpstreamReset("reset"))

    with pytest.raises(UpstreamReset):
        await conclude(relay)
    assert sink.body == OUTPUT + b"data: second\n\n"


async def test_body_of_a_plain_response_is_passed_as_far_as_it_came() -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)

    receive(relay, b"half", head=ResponseHead(200, [], 8))
    relay.on_failure(UpstreamCut("cut"))

    with pytest.raises(UpstreamCut):
        await conclude(relay)
    assert (sink.length, sink.body, sink.is_finished) == (8, b"half", False)


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_response_without_body_keeps_its_length_and_ends(status: int) -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)

    head = ResponseHead(status, [], 1000)
    head.has_body = False
    relay.on_head(head)
    relay.on_end()
    await conclude(relay)

    assert (sink.status, sink.length, sink.has_body, sink.body, sink.is_finished) == (status, 1000, False, b"", True)


@pytest.mark.parametrize("is_begun", [False, True])
async def test_json_that_only_the_connection_ends_is_cut_in_its_middle(is_begun: bool) -> None:
    sink, observer = RecordingSink(), JsonObserver(read_whole)
    relay = Relay(sink, lambda head: Passage(HEADERS, observer, is_held=True))
    relay.on_head(ResponseHead(200, []))
    relay.on_data(b'{"choices":[')

    if is_begun:
        relay.on_read()
        relay.on_data(b'{"ind')
    relay.on_end()

    with pytest.raises(UpstreamCut):
        await conclude(relay)
    assert (sink.is_started, sink.is_finished) == (is_begun, False)
    assert sink.body == (b'{"choices":[{"ind' if is_begun else b"")


@pytest.mark.parametrize("head", [ResponseHead(200, [], 12), CHUNKED], ids=["length", "chunks"])
async def test_json_that_http_says_is_whole_is_passed_as_it_is(head: ResponseHead) -> None:
    sink = RecordingSink()
    relay = Relay(sink, lambda head: Passage(HEADERS, JsonObserver(read_whole), is_held=True))

    relay.on_head(head)
    relay.on_data(b'{"choices":[')
    relay.on_end()
    await conclude(relay)

    assert (sink.body, sink.is_finished) == (b'{"choices":[', True)


async def test_failure_before_the_head_is_raised() -> None:
    sink = RecordingSink()
    relay = stream_relay(sink)

    relay.on_failure(UpstreamReset("reset"))

    with pytest.raises(UpstreamReset):
        await conclude(relay)
    assert (relay.is_refused, sink.is_started) == (False, False)


# -- refused responses ----------------------------------------------------------------------------------------------


async def test_refused_response_is_collected_and_kept_from_the_client() -> None:
    sink = RecordingSink()
    relay = Relay(sink, lambda head: None)

    receive(relay, b'{"error":', b'"no"}', head=ResponseHead(401, []))
    relay.on_end()
    await conclude(relay)

    assert (relay.is_refused, relay.refused_body) == (True, b'{"error":"no"}')
    assert not sink.is_started


async def test_refused_response_is_dropped_at_64_kib() -> None:
    relay = Relay(RecordingSink(), lambda head: None)
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)

    receive(relay, b"x" * MAX_HELD_BYTES, b"y", head=ResponseHead(500, []))
    await running

    assert relay.refused_body == b"x" * MAX_HELD_BYTES
    assert connection.calls == ["abort"]


async def test_refused_response_that_ends_with_a_large_read_is_cut_to_64_kib() -> None:
    relay = Relay(RecordingSink(), lambda head: None)

    relay.on_head(ResponseHead(500, []))
    relay.on_data(b"x" * 300_000)
    relay.on_end()
    await conclude(relay)

    assert len(relay.refused_body) == MAX_HELD_BYTES


# -- the client falls behind or leaves ------------------------------------------------------------------------------


async def test_slow_client_pauses_the_provider_until_it_has_caught_up() -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)

    sink.keeps_up = False
    receive(relay, b"one", b"two")
    await asyncio.sleep(0)
    while_behind = list(connection.calls)
    sink.catch_up()
    for _ in range(5):
        await asyncio.sleep(0)
    relay.on_end()
    await running

    assert while_behind == ["pause"]
    assert connection.calls == ["pause", "resume"]
    assert (sink.body, sink.is_finished) == (b"onetwo", True)


async def test_whole_reply_ends_only_when_its_client_has_caught_up() -> None:
    sink = RecordingSink()
    sink.keeps_up = False
    relay = plain_relay(sink)
    head = ResponseHead(200, [], 2)

    relay.on_head(head)
    relay.on_data(b"{}")
    relay.on_end()
    running = asyncio.ensure_future(relay.run(RecordingConnection(), 60))
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not running.done()
    sink.catch_up()
    await running

    assert (is_waiting, sink.body, sink.is_finished, sink.length) == (True, b"{}", True, 2)


async def test_whole_reply_to_a_client_that_takes_nothing_is_given_up() -> None:
    sink = RecordingSink()
    sink.keeps_up = False
    relay = plain_relay(sink)

    relay.on_head(ResponseHead(200, [], 2))
    relay.on_data(b"{}")
    relay.on_end()

    with pytest.raises(ConnectionResetError):
        await relay.run(RecordingConnection(), 0.01)


async def test_end_of_the_response_is_waited_for_while_the_client_is_behind() -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)

    sink.keeps_up = False
    receive(relay, b"one")
    relay.on_end()
    for _ in range(5):
        await asyncio.sleep(0)
    was_done = running.done()
    sink.catch_up()
    await running

    assert not was_done
    assert connection.calls == ["pause"]


async def test_client_that_takes_nothing_for_the_write_timeout_is_given_up() -> None:
    sink = RecordingSink()
    relay = plain_relay(sink)
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 0.001))
    await asyncio.sleep(0)

    sink.keeps_up = False
    receive(relay, b"one")

    with pytest.raises(ConnectionResetError, match="took nothing"):
        await running
    assert connection.calls == ["pause", "abort"]


async def test_cancelled_run_aborts_the_connection() -> None:
    relay = stream_relay(RecordingSink())
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)
    receive(relay, OUTPUT)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert connection.calls == ["abort"]


# -- filters --------------------------------------------------------------------------------------------------------


class Shouting:
    """A filter in upper case that keeps one thing for the end."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.error: ProxyError | None = None

    def event(self, event: bytes) -> bytes:
        if self.error is not None:
            raise self.error
        self.events.append(event)
        return event.upper()

    def end(self) -> bytes:
        return b": bye\n\n"


def filtered_relay(sink: RecordingSink, shouting: Shouting, splitter: EventSplitter) -> Relay:
    passage = Passage(
        HEADERS, Watcher(), is_held=True, boundaries=SSE_BOUNDARIES, filtering=Filtering(shouting, splitter)
    )
    return Relay(sink, lambda head: passage)


async def test_filter_sees_whole_events_and_has_the_last_word() -> None:
    sink, shouting = RecordingSink(), Shouting()
    relay = filtered_relay(sink, shouting, EventSplitter())

    receive(relay, b"data: o", b"ut\n\ndata: [DO", head=ResponseHead(200, [], 99))
    relay.on_data(b"NE]\n\n")
    relay.on_end()
    await conclude(relay)

    assert shouting.events == [OUTPUT, DONE]
    assert sink.body == b"DATA: OUT\n\nDATA: [DONE]\n\n: bye\n\n"
    assert sink.length is None


@pytest.mark.parametrize("error", [Refused("enough", code="enough", status=429), PluginFailed("guard failed")])
async def test_filter_can_end_a_stream_of_which_the_client_has_seen_some(error: ProxyError) -> None:
    sink, shouting = RecordingSink(), Shouting()
    relay = filtered_relay(sink, shouting, EventSplitter())
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)
    receive(relay, OUTPUT)

    shouting.error = error
    relay.on_data(OUTPUT)

    with pytest.raises(type(error)) as caught:
        await running
    assert caught.value is error
    assert connection.calls == ["abort"]
    assert (sink.body, sink.is_finished) == (b"DATA: OUT\n\n", False)


async def test_event_too_large_for_a_filter_breaks_the_stream_off() -> None:
    sink = RecordingSink()
    relay = filtered_relay(sink, Shouting(), EventSplitter(limit_bytes=100))
    connection = RecordingConnection()
    running = asyncio.ensure_future(relay.run(connection, 60))
    await asyncio.sleep(0)

    receive(relay, OUTPUT, b"data: " + b"x" * 200)

    with pytest.raises(UpstreamProtocol):
        await running
    assert connection.calls == ["abort"]
    assert not sink.is_finished
