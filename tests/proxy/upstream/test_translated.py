"""A reply on its way through a translation."""

import pytest

from proxy.errors import ProxyError, UpstreamProtocol, UpstreamRejected
from proxy.formats.sse import LineSplitter
from proxy.upstream.relay import Filtering
from proxy.upstream.translated import MAX_BODY_BYTES, TranslatedSink
from tests.proxy.upstream.recording import RecordingSink

HEADERS = b"Content-Type: theirs\r\nX-Theirs: 1\r\n"
TOLD = b"X-Provider: a\r\n"


class Shouting:
    """A translation into upper case."""

    content_type = b"text/loud"

    def __init__(self, is_streaming: bool) -> None:
        self.is_streaming = is_streaming

    def open(self) -> bytes:
        return b"OPEN "

    def feed(self, data: bytes) -> bytes:
        if data == b"bad":
            raise UpstreamRejected("an error within the stream")
        return data.upper().replace(b"SKIP", b"")

    def end(self, body: bytes) -> bytes:
        if body == b"bad":
            raise UpstreamRejected("an error in the body", status=400)
        return b" END" if self.is_streaming else body.upper()


def test_stream_is_opened_translated_and_ended() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)

    sink.start(200, HEADERS, None, True)
    sink.write(b"one")
    sink.write(b"two")
    sink.finish()

    assert (client.status, client.headers, client.length) == (200, b"Content-Type: text/loud\r\n" + TOLD, None)
    assert client.body == b"OPEN ONETWO END"
    assert client.is_finished


def test_piece_that_means_nothing_in_the_other_format_is_not_written() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)
    sink.start(200, HEADERS, None, True)

    sink.write(b"one")

    assert sink.write(b"skip")
    assert client.writes == [b"OPEN ONE"]


def test_nothing_begins_before_the_first_output() -> None:
    client, begun = RecordingSink(), list[bool]()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD, lambda: begun.append(client.is_started))

    sink.start(200, HEADERS, None, True)
    sink.write(b"skip")

    assert (sink.is_started, client.is_started, begun) == (False, False, [])

    sink.write(b"one")
    sink.write(b"two")

    assert (sink.is_started, client.body, begun) == (True, b"OPEN ONETWO", [True])


def test_stream_without_output_is_whole_once_it_has_ended_well() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)

    sink.start(200, HEADERS, None, True)
    sink.write(b"skip")
    sink.finish()

    assert (client.length, client.body, client.is_finished) == (None, b"OPEN  END", True)


def test_slow_client_is_felt_through_the_translation() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)
    sink.start(200, HEADERS, None, True)

    client.keeps_up = False

    assert not sink.write(b"one")


async def test_drain_waits_for_the_client() -> None:
    client = RecordingSink()
    client.catch_up()

    await TranslatedSink(client, Shouting(True), lambda: TOLD).drain()


def test_whole_reply_starts_at_its_end_with_its_new_length() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(False), lambda: TOLD)

    sink.start(200, HEADERS, 6, True)
    sink.write(b"one")
    sink.write(b"two")
    was_started = client.is_started
    sink.finish()

    assert not was_started
    assert (client.length, client.body, client.is_finished) == (6, b"ONETWO", True)
    assert client.headers == b"Content-Type: text/loud\r\n" + TOLD


def test_whole_reply_that_is_an_error_leaves_the_client_untouched() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(False), lambda: TOLD)
    sink.start(200, HEADERS, 3, True)
    sink.write(b"bad")

    with pytest.raises(UpstreamRejected):
        sink.finish()
    assert not client.is_started


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("status", [204, 302, 304])
def test_status_that_means_nothing_in_the_other_format_leaves_the_client_untouched(
    status: int, is_streaming: bool
) -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(is_streaming), lambda: TOLD)

    with pytest.raises(UpstreamProtocol):
        sink.start(status, HEADERS, None, status == 302)
    assert not client.is_started


def test_error_within_a_stream_is_raised_to_the_relay() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)
    sink.start(200, HEADERS, None, True)

    with pytest.raises(UpstreamRejected):
        sink.write(b"bad")
    assert not client.is_started


def test_reply_too_large_to_translate_is_refused() -> None:
    client = RecordingSink()
    sink = TranslatedSink(client, Shouting(False), lambda: TOLD)
    sink.start(200, HEADERS, None, True)
    sink.write(b"x" * MAX_BODY_BYTES)

    with pytest.raises(UpstreamProtocol):
        sink.write(b"x")
    assert not client.is_started


def test_failure_is_passed_on_to_the_client() -> None:
    client = RecordingSink()
    error = ProxyError("no")

    TranslatedSink(client, Shouting(True), lambda: TOLD).fail(error)

    assert client.error is error


class Counting:
    """A filter that numbers the events, and has a last word."""

    def __init__(self) -> None:
        self.events: list[bytes] = []

    def event(self, event: bytes) -> bytes:
        self.events.append(event)
        return b"%d:%b" % (len(self.events), event)

    def end(self) -> bytes:
        return b"LAST"


def test_filters_see_whole_events_as_the_client_gets_them() -> None:
    client, counting = RecordingSink(), Counting()
    sink = TranslatedSink(client, Shouting(True), lambda: TOLD)
    sink.filter_by(Filtering(counting, LineSplitter()))
    sink.start(200, HEADERS, None, True)

    sink.write(b"one\ntw")
    sink.write(b"o\n")
    sink.finish()

    assert counting.events == [b"OPEN ONE\n", b"TWO\n"]
    assert client.body == b"1:OPEN ONE\n2:TWO\nLAST"
    assert client.is_finished
