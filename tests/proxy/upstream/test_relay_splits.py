"""A stream reaches the client byte for byte however its bytes are split, and never ends cleanly when it was cut."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.formats.openai_observers import ChatObserver
from proxy.upstream.relay import SSE_BOUNDARIES, Passage, Relay
from tests.proxy.upstream.recording import RecordingSink, receive

LINE_ENDS = (b"\n", b"\r\n", b"\r")


def chat_stream(end: bytes) -> bytes:
    events = [
        b": ping",
        b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
        'data: {"choices":[{"index":0,"delta":{"content":"Grüße 🎉"},"finish_reason":null}]}'.encode(),
        b'event: odd\ndata: {"choices":[],\ndata: "x":1}'.replace(b"\n", end),
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        b"data: [DONE]",
    ]
    return b"".join(event + end + end for event in events)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(marks)]


def relay_pieces(parts: list[bytes], end: Callable[[Relay], None]) -> tuple[RecordingSink, Relay]:
    async def go() -> tuple[RecordingSink, Relay]:
        sink = RecordingSink()
        passage = Passage(b"", ChatObserver(), is_held=True, boundaries=SSE_BOUNDARIES)
        relay = Relay(sink, lambda head: passage)
        receive(relay, *parts)
        end(relay)
        return sink, relay

    return asyncio.run(go())


@given(st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 10_000), max_size=40))
def test_stream_split_anywhere_reaches_the_client_byte_for_byte(end: bytes, cuts: list[int]) -> None:
    stream = chat_stream(end)

    sink, relay = relay_pieces(pieces(stream, cuts), Relay.on_end)

    assert sink.body == stream
    assert (sink.is_finished, relay.error) == (True, None)


@pytest.mark.parametrize("end", LINE_ENDS)
def test_stream_split_at_every_byte_reaches_the_client_byte_for_byte(end: bytes) -> None:
    stream = chat_stream(end)

    sink, _ = relay_pieces([stream[i : i + 1] for i in range(len(stream))], Relay.on_end)

    assert sink.body == stream


@given(st.sampled_from(LINE_ENDS), st.integers(0, 10_000), st.lists(st.integers(0, 10_000), max_size=20))
def test_stream_cut_anywhere_shows_whole_events_and_never_a_clean_end(end: bytes, size: int, cuts: list[int]) -> None:
    stream = chat_stream(end)
    came = stream[: size % (len(stream) - len(b"data: [DONE]" + end + end))]

    def fail(relay: Relay) -> None:
        relay.on_failure(UpstreamError("cut"))

    sink, relay = relay_pieces(pieces(came, cuts) if came else [], fail)

    assert came.startswith(sink.body)
    assert not sink.body or sink.body.endswith(SSE_BOUNDARIES)
    assert (sink.is_finished, relay.error is None) == (False, False)
