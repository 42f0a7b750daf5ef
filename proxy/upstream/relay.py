"""Between a provider's response and the client: looks, holds back until the first real output, and passes bytes on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.errors import PluginFailed, ProxyError, Refused, UpstreamCut, UpstreamError, UpstreamRejected
from proxy.sink import ResponseHead, ResponseObserver, Sink, StreamFilter

MAX_HELD_BYTES: Final = 64 << 10
"""How much is held back: of a preamble, of a refused reply, of an event that has not ended."""

SSE_BOUNDARIES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
LINE_BOUNDARIES: Final = (b"\n",)
ENDING: Final = (UpstreamError, Refused, PluginFailed)
"""What ends a response in the middle: the provider's failure, or a plugin's filter that lets no more of it through."""
ANY_BOUNDARY: Final = (b"",)
"""Of what is no stream of events: it may be cut anywhere."""


class FlowControl(Protocol):
    """The part of an upstream connection that the relay needs."""

    def pause_reading(self) -> None:
        """Stop reading, because the client is behind."""
        ...

    def resume_reading(self) -> None:
        """Go on."""
        ...

    def abort(self) -> None:
        """Drop the connection at once; no further call of the receiver."""
        ...


class Splitter(Protocol):
    """Cuts a stream into whole events, terminators included."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; return the events they complete."""
        ...


class Filtering:
    """A stream filter with the splitter that gives it whole events."""

    __slots__ = ("_filter", "_splitter")

    def __init__(self, stream_filter: StreamFilter, splitter: Splitter) -> None:
        self._filter = stream_filter
        self._splitter = splitter

    def feed(self, data: bytes) -> bytes:
        """Pass on what the filter makes of the events that `data` completes."""
        return b"".join([self._filter.event(event) for event in self._splitter.feed(data)])

    def end(self) -> bytes:
        """Pass on what the filter still held."""
        return self._filter.end()


@dataclass(slots=True)
class Passage:
    """How a response is let through to the client, decided from its head.

    Args:
        headers: lines of end-to-end headers for the client, each with its CRLF, without framing.
        observer: reads usage and completeness; None for responses nobody understands.
        is_held: hold back until the observer has seen real output (streams) or the first body bytes are there.
        boundaries: ends of an event; a partial event is held back, so that an error event can follow a cut.
        filtering: plugins' filters for this stream.
        on_start: called once, when the client's response begins.
    """

    headers: bytes
    observer: ResponseObserver | None = None
    is_held: bool = False
    boundaries: tuple[bytes, ...] = ANY_BOUNDARY
    filtering: Filtering | None = None
    on_start: Callable[[], None] | None = None


class Relay:
    """Receiver of one upstream response.

    Bytes go to the sink inside the socket's own callback; the exchange's task sleeps until the response has ended
    or the client falls behind.

    Args:
        sink: the client's side.
        decide: told the head; None keeps the response from the client and collects up to 64 KiB of its body.
        release: asked, with what came of it, when a kept response turns out to be larger than that: how it goes to
            the client after all; None cuts it there.
    """

    # What most responses never change is an attribute of the class, so that making a relay is cheap.
    _passage: Passage | None = None
    _observer: ResponseObserver | None = None
    _boundaries: tuple[bytes, ...] = ANY_BOUNDARY
    _filtering: Filtering | None = None
    _connection: FlowControl | None = None
    _held = b""
    _waiter: asyncio.Future[None] | None = None
    _is_begun = False
    _is_let_through = False
    """The sink was told to start; one that translates begins the client's response later, or never."""
    _is_flowing = False
    _is_paused = False
    is_over = False
    """Nothing more comes from the provider."""
    is_refused = False
    """The response came and was kept from the client."""
    head: ResponseHead | None = None
    error: ProxyError | None = None
    refused_body = b""
    is_refusal_cut = False
    """There was more of the refused reply than is kept."""

    def __init__(
        self,
        sink: Sink,
        decide: Callable[[ResponseHead], Passage | None],
        release: Callable[[ResponseHead, bytes], Passage | None] | None = None,
    ) -> None:
        self._sink = sink
        self._decide = decide
        self._release = release
        self._parts: list[bytes] = []

    # -- called by the connection ---------------------------------------------------------------------------------

    def on_head(self, head: ResponseHead) -> None:
        """Take the head of the final response."""
        self.head = head
        passage = self._passage = self._decide(head)
        if passage is None:
            self.is_refused = True
        else:
            self._observer = passage.observer
            self._boundaries = passage.boundaries
            self._filtering = passage.filtering

    def on_data(self, data: bytes) -> None:
        """Take the body bytes of one read; those that come with the head wait for `on_read` or the end."""
        if not self._is_flowing:
            self._parts.append(data)
            if self._is_begun:
                self.on_read()
            return
        observer = self._observer
        if observer is not None:
            observer.feed(data)
        try:
            if self._held or not data.endswith(self._boundaries):
                self._pass(data, is_end=False)
            elif not self._sink.write(data):
                self._pause()
        except ENDING as error:
            self._break_off(error)

    def on_read(self) -> None:
        """Hand on what came with the head."""
        self._is_begun = True
        try:
            if self._passage is None:
                self._collect()
            else:
                self._pass(self._take(), is_end=False)
        except ENDING as error:
            self._break_off(error)

    def on_end(self) -> None:
        """Take the end of the body, as HTTP frames it."""
        self.is_over = True
        try:
            if self._passage is None:
                self._collect()
            if self._passage is not None:
                self._end()
        except ENDING as error:
            self.error = error
        self._wake()

    def on_failure(self, error: UpstreamError) -> None:
        """Take the news that nothing more will come.

        A response that failed in the read that brought its head has begun nothing at the client: another provider
        may still answer.
        """
        self.is_over = True
        self.error = error
        self._wake()

    # -- called by the pipeline -----------------------------------------------------------------------------------

    async def run(self, connection: FlowControl, write_timeout_s: float) -> None:
        """Sleep until the response is over; drops the connection if the caller is cancelled.

        Raises:
            UpstreamError: the response broke off; `sink.is_started` tells whether the client has seen any of it.
            Refused, PluginFailed: a filter ended it.
            ConnectionError: the client left or took nothing for `write_timeout_s`.
        """
        self._connection = connection
        try:
            while not self.is_over or self._is_paused:
                if self._is_paused:
                    await self._drain(write_timeout_s)
                    continue
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        finally:
            if not self.is_over:
                connection.abort()
        if self.error is not None:
            raise self.error

    async def _drain(self, write_timeout_s: float) -> None:
        try:
            async with asyncio.timeout(write_timeout_s):
                await self._sink.drain()
        except TimeoutError:
            raise ConnectionResetError(f"the client took nothing for {write_timeout_s:g} s") from None
        self._is_paused = False
        if not self.is_over and self._connection is not None:
            self._connection.resume_reading()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if data and self._observer is not None:
            self._observer.feed(data)
        return data

    def _collect(self) -> None:
        self.refused_body += self._take()
        if len(self.refused_body) <= MAX_HELD_BYTES:
            return
        head, release = self.head, self._release
        if release is not None and head is not None and (passage := release(head, self.refused_body)) is not None:
            self._passage, self.is_refused = passage, False
            data, self.refused_body = self.refused_body, b""
            self._pass(data, is_end=False)
            return
        self.refused_body = self.refused_body[:MAX_HELD_BYTES]
        self.is_refusal_cut = True
        if not self.is_over:
            self.is_over = True
            if self._connection is not None:
                self._connection.abort()
            self._wake()

    def _pass(self, data: bytes, *, is_end: bool) -> None:
        """Hand body bytes on, as far as they may go yet."""
        if self._filtering is not None:
            data = self._filtering.feed(data)
            if is_end:
                data += self._filtering.end()
        if self._held:
            data, self._held = self._held + data, b""
        sink = self._sink
        if not self._is_let_through:
            if not is_end and self._must_wait(data):
                self._held = data
                return
            self._start()
            self._held = b""  # read for each event, and an attribute of the class is read more slowly
            self._is_flowing = self._filtering is None
        if not is_end and not data.endswith(self._boundaries):
            data = self._whole_events(data)
        if not sink.write(data):
            self._pause()

    def _pause(self) -> None:
        """Let the exchange's task wait for the client."""
        if not self._is_paused:
            self._is_paused = True
            if not self.is_over and self._connection is not None:
                self._connection.pause_reading()
            self._wake()

    def _break_off(self, error: ProxyError) -> None:
        self.is_over = True
        self.error = error
        if self._connection is not None:
            self._connection.abort()
        self._wake()

    def _start(self) -> None:
        head, passage = self.head, self._passage
        if head is None or passage is None:
            raise RuntimeError("a response is passed on only after its head")
        length = None if self._filtering is not None else head.content_length
        self._sink.start(head.status, passage.headers, length, head.has_body)
        self._is_let_through = True
        if passage.on_start is not None:
            passage.on_start()

    def _must_wait(self, data: bytes) -> bool:
        passage = self._passage
        if passage is None or not passage.is_held or len(data) > MAX_HELD_BYTES:
            return False
        observer = self._observer
        if self._boundaries is ANY_BOUNDARY or observer is None:
            return not data
        if observer.error is not None and not observer.has_output:  # nothing else is to be expected of it
            raise _began_with(observer.error)
        return not observer.has_output

    def _whole_events(self, data: bytes) -> bytes:
        """Split off the event that has not ended yet, unless it is larger than we hold."""
        end = 0
        for mark in self._boundaries:
            if (position := data.rfind(mark)) >= 0:
                end = max(end, position + len(mark))
        if len(data) - end > MAX_HELD_BYTES:
            return data
        self._held = data[end:]
        return data[:end]

    def _end(self) -> None:
        data, observer = self._take(), self._observer
        if observer is not None:
            observer.finish()
            if observer.error is not None and not self._sink.is_started:
                self.error = _began_with(observer.error)
                return
            if not observer.is_complete and (reason := self._why_cut()) is not None:
                if data and (self._is_let_through or self._boundaries is not ANY_BOUNDARY):
                    self._pass(data, is_end=False)
                self.error = UpstreamCut(reason)
                return
        head, passage = self.head, self._passage
        if (
            not self._is_let_through
            and data
            and not self._held
            and head is not None
            and passage is not None
            and head.content_length is not None
            and head.has_body
            and self._filtering is None
        ):
            self._pass_whole(head, passage, data)
            return
        if data or self._held or self._filtering is not None or not self._is_let_through:
            self._pass(data, is_end=True)
        self._sink.finish()

    def _pass_whole(self, head: ResponseHead, passage: Passage, data: bytes) -> None:
        """Hand a response on that is whole before any of it was."""
        is_ready = self._sink.whole(head.status, passage.headers, data)
        if passage.on_start is not None:
            passage.on_start()
        if not is_ready:
            self._pause()

    def _why_cut(self) -> str | None:
        """Say why a body without its proper end was cut; None where HTTP says that it is whole, whatever is in it."""
        if self._boundaries is not ANY_BOUNDARY:
            return "the stream ended without its end event"
        head = self.head
        if head is not None and head.content_length is None and not head.is_chunked:
            return "the connection ended in the middle of the reply"
        return None


def _began_with(error: str) -> UpstreamRejected:
    return UpstreamRejected(f"the response began with an error: {error}", vendor_text=error)
