"""What a response is written to and read by on its way: sinks, observers, filters, and its head."""

from collections.abc import Sequence
from typing import Protocol

from proxy.errors import ProxyError
from proxy.usage import Usage


class ResponseHead:
    """Status and header fields of a provider's response, sorted by whom they are for.

    What most responses do not set is an attribute of the class, so that making one is cheap.

    Args:
        lines: fields for the client, in the order and case of the wire, without CRLF, as `parse_head` checked them.
        content_length: None: chunked, or until the connection closes. Also the length a HEAD reply speaks of.
    """

    has_body = True
    """False for HEAD, 204 and 304."""
    is_chunked = False
    keeps_alive = True
    """The provider lets another request follow on the connection."""
    content_type = b""
    """As sent, parameters included; empty if there is none."""
    is_encoded = False
    """The body is compressed (Content-Encoding)."""
    request_id = b""
    """The provider's own id of the request; empty if it gives none."""
    limit_lines: Sequence[bytes] = ()
    """Those of `lines` that tell what is left of the provider's rate limits."""
    cookie_lines: Sequence[bytes] = ()
    """`Set-Cookie`, for raw paths only, where it is the caller's own session."""

    def __init__(self, status: int, lines: list[bytes], content_length: int | None = None) -> None:
        self.status = status
        self.lines = lines
        self.content_length = content_length

    def header(self, name: bytes) -> bytes | None:
        """Find the first field of this name, given in lower case, among those for the client."""
        for line in self.lines:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip(b" \t")
        return None


class Sink(Protocol):
    """What a response is written to: the client's connection (later also a flight with several readers).

    `write` and its kin never block and are called on the loop. After `start` the status is out and no other
    provider can be asked.
    """

    is_started: bool

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Begin; sent with the first bytes.

        Args:
            headers: lines of end-to-end headers, each with its CRLF, from `write_headers` or a checked response.
            length: of the body; None frames it as chunks.
        """
        ...

    def write(self, data: bytes) -> bool:
        """Send body bytes; False when the reader is behind: stop, and `await drain()` before the next."""
        ...

    def finish(self) -> None:
        """End the response cleanly; exactly once, and never after `fail`."""
        ...

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Send a response that is all there: `start`, `write` and `finish` in one, for the hot path.

        Args:
            body: at least a byte.
        Returns:
            False when the reader is behind; its connection waits for that before it takes another request.
        """
        ...

    def fail(self, error: ProxyError) -> None:
        """Tell the client of an error, instead of `finish`.

        Before `start`: an error response in the client's format. After it: an error event, if the response is a
        stream of events, and then a close that nobody can take for the end of a whole response.
        """
        ...

    def abort(self) -> None:
        """Drop the connection: the reader takes nothing any more."""
        ...

    async def drain(self) -> None:
        """Wait until the reader has caught up. Raises ConnectionError if it left."""
        ...


class ResponseObserver(Protocol):
    """Reads what a response says about itself while its bytes pass by unchanged."""

    has_output: bool
    """The first real output was seen; until then the response may still be dropped for another provider's."""
    is_complete: bool
    """The response is whole by the rules of its format; decided by the time of `finish`."""
    error: str | None
    """The provider's own error inside a response with status 200, in one line."""
    usage: Usage | None
    served_model: str | None

    def feed(self, data: bytes) -> None:
        """Look at the next body bytes, split anywhere; cheap, never raises."""
        ...

    def finish(self) -> None:
        """The body ended as HTTP frames it."""
        ...


class StreamFilter(Protocol):
    """What `stream_filter` returns: sees every event of a stream before the client does."""

    def event(self, event: bytes) -> bytes:
        """Return the event (its terminator included) to send instead; empty to drop it."""
        ...

    def end(self) -> bytes:
        """Return what is still held back, at the clean end of the stream."""
        ...
