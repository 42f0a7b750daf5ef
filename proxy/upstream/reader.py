"""Reads one response after another from a connection's bytes: framing by HTTP's rules, no I/O."""

from collections.abc import Callable
from typing import Final

import httptools

from proxy.errors import UpstreamProtocol
from proxy.sink import ResponseHead
from proxy.upstream.response import Chunks, Receiver, check_partial_head, parse_chunks, parse_head
from proxy.upstream.response_fields import ResponseFields

MAX_INTERIM_RESPONSES: Final = 10

NOTHING: Final = 0
"""The bytes told the receiver nothing."""
GOES_ON: Final = 1
HEAD_CAME: Final = 2
"""The head was among them, perhaps data too, and the body goes on."""
ENDED: Final = 3

_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_UNTIL_CLOSE: Final = 3


def _ignore(data: bytes) -> int:
    return NOTHING


class ResponseReader:
    """Tells a receiver head and data; the connection, which knows what they mean for the socket, tells the rest.

    Args:
        provider: name for messages.
        header_limit: largest head, and largest run of chunk framing without data, in bytes.
        fields: the provider's.
    """

    __slots__ = (
        "_chunks",
        "_fields",
        "_head",
        "_interim",
        "_is_head_request",
        "_parse",
        "_partial",
        "_phase",
        "_receiver",
        "_silent",
        "feed",
        "has_excess",
        "header_limit",
        "keeps_alive",
        "missing",
        "provider",
    )

    def __init__(self, provider: str, header_limit: int, fields: ResponseFields) -> None:
        self.provider = provider
        self._fields = fields
        self.header_limit = header_limit
        self.missing = 0
        """Body bytes that are still to come, where Content-Length tells."""
        self.feed: Callable[[bytes], int] = _ignore
        """Read on in the response that has begun.

        Returns:
            NOTHING, GOES_ON, HEAD_CAME or ENDED. The receiver may have called `stop` meanwhile.
        Raises:
            UpstreamProtocol: this is no response that can be trusted, or bytes follow its end.
        """
        self.has_excess = False
        """Bytes followed the end of a response."""
        self.keeps_alive = False
        """Whether the provider lets another request follow; known with the head."""
        self._receiver: Receiver | None = None
        self._phase = _HEAD
        self._is_head_request = False
        self._head: ResponseHead | None = None
        self._chunks: Chunks | None = None
        self._parse: Callable[[bytes], None] | None = None
        self._partial: bytearray | None = None
        self._interim = 0
        self._silent = 0

    @property
    def awaits_head(self) -> bool:
        """The final head has not come yet."""
        return self._phase == _HEAD

    @property
    def awaits_first_byte(self) -> bool:
        """Nothing of the response has come, unless whole interim ones."""
        return self._phase == _HEAD and self._partial is None

    @property
    def has_begun(self) -> bool:
        """Something of a response has come."""
        return self._phase != _HEAD or self._partial is not None or self._interim > 0

    @property
    def ends_by_close(self) -> bool:
        """The body is complete when the connection is closed in order."""
        return self._phase == _UNTIL_CLOSE

    @property
    def status(self) -> int:
        """Of the response whose head came last."""
        return 0 if self._head is None else self._head.status

    def begin(self, receiver: Receiver, is_head_request: bool) -> None:
        """Start on the next response."""
        self._receiver = receiver
        self._is_head_request = is_head_request
        self._phase = _HEAD
        self.missing = self._interim = 0
        self._partial = self._head = None
        self.keeps_alive = False
        self.feed = self._feed_head

    def stop(self) -> None:
        """Call the receiver no more."""
        self._receiver = self._chunks = self._parse = None
        self.feed = _ignore

    def _feed_length(self, data: bytes) -> int:
        missing = self.missing = self.missing - len(data)
        if missing < 0:
            raise self._excess()
        if self._receiver is not None:
            self._receiver.on_data(data)
        return GOES_ON if missing else ENDED

    def _feed_until_close(self, data: bytes) -> int:
        if self._receiver is not None:
            self._receiver.on_data(data)
        return GOES_ON

    def _feed_head(self, data: bytes) -> int:
        seen, partial = 0, self._partial
        if partial is not None:
            seen = len(partial)
            partial += data
            if partial.find(b"\r\n\r\n", max(0, seen - 3)) < 0:
                return self._await_rest(partial, seen)
            data = bytes(partial)
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                return self._await_rest(bytearray(data), seen)
            if end > self.header_limit:
                raise self._too_large_head()
            head = parse_head(data[:end], self._fields, self.provider)
            data = data[end:]
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > MAX_INTERIM_RESPONSES:
                raise self._refusal(f"more than {MAX_INTERIM_RESPONSES} interim responses")
            if not data:
                self._partial = None
                return NOTHING
        self._partial = None
        self._head = head
        return self._begin_body(head, data)

    def _await_rest(self, partial: bytearray, seen: int) -> int:
        """Keep the beginning of a head, of which so many bytes have been looked at before."""
        if len(partial) >= self.header_limit:
            raise self._too_large_head()
        check_partial_head(partial, seen, self.provider)
        self._partial = partial
        return NOTHING

    def _begin_body(self, head: ResponseHead, data: bytes) -> int:
        """Go by the framing that the head gives (RFC 9112, 6.3)."""
        receiver, status, length = self._receiver, head.status, head.content_length
        if receiver is None:
            return NOTHING
        if self._is_head_request or status == 204 or status == 304:
            head.has_body, length = False, 0
            if data:  # a body where none can be: nothing tells where it ends
                head.keeps_alive, data = False, b""
        self.keeps_alive = head.keeps_alive and (length is not None or head.is_chunked)
        if length is not None:
            missing = self.missing = length - len(data)
            if missing < 0:
                raise self._excess()
            self._phase, self.feed = _LENGTH, self._feed_length
            receiver.on_head(head)
            if data and self._receiver is not None:
                receiver.on_data(data)
            return HEAD_CAME if missing else ENDED
        if head.is_chunked:
            self._phase, self.feed = _CHUNKED, self._feed_chunks
            self._silent = 0
            self._chunks = Chunks()
            self._parse = parse_chunks(self._chunks)
        else:
            self._phase, self.feed = _UNTIL_CLOSE, self._feed_until_close
        receiver.on_head(head)
        if data and self._receiver is not None and self.feed(data) == ENDED:
            return ENDED
        return HEAD_CAME

    def _feed_chunks(self, data: bytes) -> int:
        chunks, parse, receiver = self._chunks, self._parse, self._receiver
        if chunks is None or parse is None or receiver is None:
            return NOTHING
        parts = chunks.parts
        try:
            parse(data)
        except httptools.HttpParserError as exc:
            if chunks.is_complete:
                raise self._excess() from exc
            if parts:
                receiver.on_data(b"".join(parts))
            raise self._refusal(f"bad chunk: {exc}") from exc
        is_complete = chunks.is_complete
        # The parser takes stray line ends for nothing; the true end is one empty line.
        if is_complete and (chunks.has_excess or data.endswith((b"\n\r\n\r\n", b"\n\n", b"\r"))):
            raise self._excess()
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._silent = 0
            receiver.on_data(data)
            return ENDED if is_complete else GOES_ON
        if is_complete:
            return ENDED
        self._silent += len(data)
        if self._silent > self.header_limit:
            raise self._refusal(f"more than {self.header_limit} bytes of chunk framing or trailers without data")
        return NOTHING

    def _excess(self) -> UpstreamProtocol:
        self.has_excess = True
        return self._refusal("bytes after the end of the response")

    def _too_large_head(self) -> UpstreamProtocol:
        return self._refusal(f"response head is larger than {self.header_limit} bytes")

    def _refusal(self, reason: str) -> UpstreamProtocol:
        return UpstreamProtocol(f"{self.provider}: {reason}", provider=self.provider)
