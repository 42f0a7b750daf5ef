"""A sink that turns a provider's reply into the client's format on its way."""

from collections.abc import Callable
from typing import Final, Protocol

from proxy.errors import ProxyError, UpstreamProtocol
from proxy.sink import Sink
from proxy.upstream.relay import Filtering

MAX_BODY_BYTES: Final = 32 << 20
"""Largest whole reply that is translated."""


class Translation(Protocol):
    """Turns the bytes of one reply into another format; raises UpstreamError for what it cannot read."""

    content_type: bytes
    is_streaming: bool

    def open(self) -> bytes:
        """Return what a stream begins with."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Turn the next bytes of a stream."""
        ...

    def end(self, body: bytes) -> bytes:
        """Return the rest of a stream, or the whole reply made from `body`."""
        ...


class TranslatedSink:
    """Stands between the relay and the client's sink.

    The client's side begins with the first output there is in its format: what the relay lets through may still turn
    out to be nothing that can be translated, and then another provider is asked.

    Args:
        told: gives header lines of our own, each with its CRLF.
        on_start: called once, when the client's response begins.
    """

    def __init__(
        self,
        sink: Sink,
        translation: Translation,
        told: Callable[[], bytes],
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._sink = sink
        self._translation = translation
        self._told = told
        self._on_start = on_start
        self._body = bytearray()
        self._status = 200
        self._filtering: Filtering | None = None
        self.is_started = False
        """The client's response has begun."""

    @property
    def content_type(self) -> bytes:
        """Of what the client gets."""
        return self._translation.content_type

    def filter_by(self, filtering: Filtering) -> None:
        """Have plugins' filters see the events of the stream, in the client's format, before the client does."""
        self._filtering = filtering

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Take note of the status; the client's side begins with the first translated bytes.

        Raises:
            UpstreamProtocol: such a status has no reply in it.
        """
        if status >= 300 or not has_body:
            raise UpstreamProtocol(f"the provider's reply has status {status} and cannot be translated")
        self._status = status

    def write(self, data: bytes) -> bool:
        """Translate body bytes of a stream, or collect those of a whole reply."""
        if self._translation.is_streaming:
            translated = self._translation.feed(data)
            return self._sink.write(self._filtered(self._opened() + translated)) if translated else True
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            raise UpstreamProtocol(f"the reply is larger than {MAX_BODY_BYTES} bytes and cannot be translated")
        return True

    def finish(self) -> None:
        """End the client's response."""
        rest = self._translation.end(bytes(self._body))
        if self._translation.is_streaming:
            rest = self._filtered(self._opened() + rest)
            if self._filtering is not None:
                rest += self._filtering.end()
        else:
            self._start(len(rest))
        self._sink.write(rest)
        self._sink.finish()

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Translate a whole reply.

        Raises:
            UpstreamProtocol: it cannot be translated.
        """
        self.start(status, headers, len(body), True)
        is_ready = self.write(body)
        self.finish()
        return is_ready

    def fail(self, error: ProxyError) -> None:
        """Pass an error on."""
        self._sink.fail(error)

    def abort(self) -> None:
        """Drop the client's connection."""
        self._sink.abort()

    async def drain(self) -> None:
        """Wait for the client."""
        await self._sink.drain()

    def _filtered(self, data: bytes) -> bytes:
        return data if self._filtering is None else self._filtering.feed(data)

    def _opened(self) -> bytes:
        """Begin the client's stream, unless that is done; return what opens it."""
        if self.is_started:
            return b""
        opening = self._translation.open()
        self._start(None)
        return opening

    def _start(self, length: int | None) -> None:
        headers = b"Content-Type: %b\r\n%b" % (self._translation.content_type, self._told())
        self._sink.start(self._status, headers, length, True)
        self.is_started = True
        if self._on_start is not None:
            self._on_start()
