"""Replies that are kept from the client, and what becomes of those that are too large to be kept."""

import asyncio

import pytest

from proxy.errors import UpstreamError, UpstreamRejected
from proxy.sink import ResponseHead
from proxy.upstream.relay import MAX_HELD_BYTES, SSE_BOUNDARIES, Passage, Relay
from tests.proxy.upstream.recording import RecordingConnection, RecordingSink, Watcher, receive

REFUSED = ResponseHead(400, [b"Content-Type: application/json"])
HALF = b"x" * (MAX_HELD_BYTES // 2)


class LateSink(RecordingSink):
    """A client that somebody else has already."""

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        raise UpstreamError("another attempt was faster")


def refusing_relay(sink: RecordingSink, asked: list[bytes] | None = None, *, lets_through: bool = True) -> Relay:
    def release(head: ResponseHead, body: bytes) -> Passage | None:
        if asked is not None:
            asked.append(body)
        return Passage(b"X-Told: yes\r\n") if lets_through else None

    return Relay(sink, lambda head: None, release)


async def conclude(relay: Relay) -> RecordingConnection:
    connection = RecordingConnection()
    async with asyncio.timeout(5):
        await relay.run(connection, 60)
    return connection


async def test_refusal_is_kept_whole_up_to_the_limit_and_nobody_is_asked() -> None:
    sink, asked = RecordingSink(), list[bytes]()
    relay = refusing_relay(sink, asked)

    receive(relay, HALF, HALF, head=REFUSED)
    relay.on_end()
    await conclude(relay)

    assert (relay.refused_body, relay.is_refusal_cut, sink.is_started, asked) == (HALF + HALF, False, False, [])


@pytest.mark.parametrize("is_one_read", [False, True])
async def test_larger_refusal_goes_through_whole_and_ends(is_one_read: bool) -> None:
    sink, asked = RecordingSink(), list[bytes]()
    relay = refusing_relay(sink, asked)
    parts = [HALF, HALF, b"y", b"z"]

    if is_one_read:
        relay.on_head(REFUSED)
        relay.on_data(b"".join(parts))
    else:
        receive(relay, *parts, head=REFUSED)
    relay.on_end()
    await conclude(relay)

    assert (sink.status, sink.headers, sink.body) == (400, b"X-Told: yes\r\n", b"".join(parts))
    assert sink.is_finished
    assert len(asked) == 1
    assert asked[0].startswith(HALF + HALF)


async def test_larger_refusal_that_may_not_pass_is_cut_and_says_so() -> None:
    sink = RecordingSink()
    relay = refusing_relay(sink, lets_through=False)

    receive(relay, HALF, HALF, b"y", head=REFUSED)
    await conclude(relay)

    assert (len(relay.refused_body), relay.is_refused, relay.is_refusal_cut) == (MAX_HELD_BYTES, True, True)
    assert not sink.is_started


@pytest.mark.parametrize("has_ended", [False, True])
async def test_larger_refusal_for_a_client_that_somebody_else_has_ends_the_call_and_raises_nothing_at_the_socket(
    has_ended: bool,
) -> None:
    relay = refusing_relay(LateSink())

    if has_ended:
        relay.on_head(REFUSED)
        relay.on_data(HALF + HALF + b"y")
        relay.on_end()
    else:
        receive(relay, HALF, HALF, b"y", head=REFUSED)

    with pytest.raises(UpstreamError, match="another attempt was faster"):
        await conclude(relay)


async def test_stream_that_tells_an_error_before_any_output_is_broken_off_at_once() -> None:
    sink, connection = RecordingSink(), RecordingConnection()
    passage = Passage(b"", Watcher(), is_held=True, boundaries=SSE_BOUNDARIES)
    relay = Relay(sink, lambda head: passage)
    running = asyncio.create_task(relay.run(connection, 60))
    await asyncio.sleep(0)

    receive(relay, b"data: role\n\n", b"data: oops\n\n")

    async with asyncio.timeout(5):
        with pytest.raises(UpstreamRejected, match="began with an error: oops"):
            await running
    assert (connection.calls, sink.is_started) == (["abort"], False)
