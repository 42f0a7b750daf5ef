"""One HTTP/1.1 response as it comes off the wire: its head, and how its body is framed; no I/O."""

import re
from collections.abc import Callable
from typing import Protocol

import httptools

from proxy.errors import UpstreamError, UpstreamProtocol
from proxy.sink import ResponseHead
from proxy.upstream.response_fields import ResponseFields

MAX_HEADERS = 256
"""Fields of one head; more are refused, however small they are."""

_PLAIN_OK = b"HTTP/1.1 200 OK\r\n"
_PLAIN_OK_BYTES = len(_PLAIN_OK)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_CONTROLS = bytes(set(range(0x20)) - {0x09}) + b"\x7f"
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


class Receiver(Protocol):
    """Takes a response as it arrives. Called on the loop while the socket is read; must not block."""

    def on_head(self, head: ResponseHead) -> None:
        """Take the head of the final response; once, before all else."""
        ...

    def on_data(self, data: bytes) -> None:
        """Take the body bytes of one read, free of framing."""
        ...

    def on_read(self) -> None:
        """The read is over in which the head came, perhaps data too, and the response goes on."""
        ...

    def on_end(self) -> None:
        """The body is complete as HTTP frames it; the connection is back in its pool or closed. Last call."""
        ...

    def on_failure(self, error: UpstreamError) -> None:
        """The response failed and the connection is closed; instead of `on_end`. Last call."""
        ...


class Chunks:
    """What httptools finds while it takes one chunked body apart; a new one for each, so nothing is left over.

    `on_body` is the `append` of `parts`, so that a chunk costs no Python call. Trailers are read over: they could not
    be forwarded where a header is meant. It must not know its parser, which knows it: a cycle would wait for the
    garbage collector, one for each stream.
    """

    __slots__ = ("_is_begun", "has_excess", "is_complete", "on_body", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        """Body bytes since the caller last cleared it."""
        self.on_body = self.parts.append
        self.has_excess = False
        """Bytes came after the end."""
        self.is_complete = False
        self._is_begun = False

    # called by httptools; hooks we do not need are left undefined, because each call costs

    def on_message_begin(self) -> None:
        """Note that another message follows this one."""
        self.has_excess = self._is_begun
        self._is_begun = True

    def on_message_complete(self) -> None:
        """Note the end of the last chunk and its trailers."""
        self.is_complete = True


def parse_chunks(chunks: Chunks) -> Callable[[bytes], None]:
    """Make the function that reads on in a chunked body; it raises HttpParserError for what is no chunk."""
    feed: Callable[[bytes], None] = httptools.HttpResponseParser(chunks).feed_data
    feed(_CHUNKED_HEAD)
    return feed


def parse_head(block: bytes, fields: ResponseFields, provider: str) -> ResponseHead:
    """Read a whole head, strictly: what two programs could read in two ways is refused.

    Cut into lines here, because httptools makes one call for each header: that takes twice as long.

    Args:
        block: from the status line to the empty line, both included.
    Raises:
        UpstreamProtocol: it is not a head we accept.
    Source:
        RFC 9112, 4 (status line) and 2.2 (no bare CR or LF).
    """
    head = ResponseHead(200, [])
    if block.startswith(_PLAIN_OK):
        fields_begin = _PLAIN_OK_BYTES
    else:
        line = _STATUS_LINE.match(block)
        if line is None:
            raise _not_a_status_line(block, provider)
        head.status, head.keeps_alive, fields_begin = int(line[2]), line[1] == b"1", line.end()
        if head.status == 101:
            raise UpstreamProtocol(f"{provider}: status 101, but no upgrade was asked for", provider=provider)
    line_ends = block.count(b"\n")
    if line_ends > MAX_HEADERS + 2:  # before each becomes an object of its own
        raise UpstreamProtocol(f"{provider}: more than {MAX_HEADERS} response headers", provider=provider)
    lines = block[fields_begin:-4].split(b"\r\n") if len(block) > fields_begin + 2 else []
    try:
        if line_ends != len(lines) + 2 or len(block.translate(None, _CONTROLS)) != len(block) - 2 * line_ends:
            raise ValueError("a control character")
        fields.sort(lines, head)
        if head.is_chunked and block.startswith(b"HTTP/1.0"):
            raise ValueError("chunks in HTTP/1.0")
    except ValueError as fault:
        raise UpstreamProtocol(f"{provider}: response head with {fault}", provider=provider) from None
    return head


def check_partial_head(block: bytes | bytearray, seen: int, provider: str) -> None:
    """Refuse at once what can never become a head, rather than wait for the rest of it.

    Args:
        seen: so many bytes of it have been looked at before.
    Raises:
        UpstreamProtocol: it does not begin like HTTP/1, or has a line that ends without CR.
    """
    if not (block.startswith(b"HTTP/1.") if len(block) >= 7 else b"HTTP/1.".startswith(bytes(block))):
        raise _not_a_status_line(block, provider)
    if _BARE_LINE_FEED.search(block, max(0, seen - 1)):
        raise UpstreamProtocol(f"{provider}: a line of the response head ends without CR", provider=provider)


def _not_a_status_line(block: bytes | bytearray, provider: str) -> UpstreamProtocol:
    """Show only as much as `HTTP/1.1` is long: the message reaches clients, and the rest could repeat the key."""
    return UpstreamProtocol(f"{provider}: not an HTTP/1.1 status line: {bytes(block[:8])!r}", provider=provider)
