"""One HTTP/1.1 response as it comes off the wire: its head, and how its body is framed; no I/O."""

import re
from typing import Protocol

import httptools

from proxy.errors import UpstreamError, UpstreamProtocol
from proxy.exchange import ResponseHead

MAX_HEADERS = 256
"""Fields of one head; more are refused, however small they are."""

_PLAIN_OK = b"HTTP/1.1 200 OK\r\n"
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_TELLING_LENGTHS = frozenset(
    map(len, (b"Connection", b"Content-Type", b"Content-Length", b"Content-Encoding", b"Transfer-Encoding"))
)
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


class ResponseParser:
    """Callbacks for httptools while it reads one response; a new one for each, so nothing is left over.

    Only chunked bodies need the parser. `on_body` is the `append` of `parts`, so that a chunk costs no Python call.
    """

    __slots__ = (
        "_begun",
        "_sealed",
        "content_type",
        "fault",
        "headers",
        "is_chunked",
        "is_complete",
        "is_encoded",
        "keeps_alive",
        "length",
        "on_body",
        "parts",
        "request_id",
        "status",
    )

    def __init__(self, status: int, keeps_alive: bool) -> None:
        self.parts: list[bytes] = []
        """Body bytes since the caller last cleared it."""
        self.on_body = self.parts.append
        self.status = status
        self.keeps_alive = keeps_alive
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.is_chunked = False
        self.content_type = b""
        self.request_id = b""
        self.is_encoded = False
        self.fault = ""
        """Why this response cannot be trusted, in a few words; empty if it can."""
        self.is_complete = False
        self._begun = False
        self._sealed = False

    # -- called by httptools; hooks we do not need are left undefined, because each call costs ------------------------

    def on_message_begin(self) -> None:
        if self._begun:
            self.fault = "bytes after its end"
        self._begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._sealed:
            return  # a trailer: it could not be forwarded where a header is meant
        self.headers.append((name, value))
        if len(name) in _TELLING_LENGTHS:
            self._read_telling(name.lower(), value)

    def on_message_complete(self) -> None:
        self.is_complete = True

    # -- ours ----------------------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """End the head: what the parser calls a header from here on is a trailer."""
        self._sealed = True
        self.is_complete = False

    def _read_telling(self, name: bytes, value: bytes) -> None:
        if name == b"content-type":
            self.content_type = value
        elif name == b"x-request-id" or name == b"request-id":
            self.request_id = value
        elif name == b"content-encoding":
            self.is_encoded = value.strip().lower() != b"identity"
        elif name == b"content-length":
            if self.length is not None or self.is_chunked:
                self.fault = "a second length"
            self.length = int(value)  # digits only: httptools has looked
        elif name == b"transfer-encoding":
            if self.is_chunked or self.length is not None:
                self.fault = "a second length"
            elif value.strip().lower() != b"chunked":
                self.fault = "a transfer coding that was not asked for"
            self.is_chunked = True
        elif name == b"connection" and b"close" in value.lower():
            self.keeps_alive = False


def parse_head(block: bytes, provider: str) -> tuple[ResponseParser, httptools.HttpResponseParser]:
    """Read a whole head.

    Args:
        block: from the status line to the empty line, both included.
    Returns:
        What was found; and the parser, to be fed the body if it is chunked.
    Raises:
        UpstreamProtocol: it is not a head we accept.
    """
    if block.startswith(_PLAIN_OK):
        response = ResponseParser(200, True)
    else:
        line = _STATUS_LINE.match(block)
        if line is None:
            raise _not_a_status_line(block, provider)
        response = ResponseParser(int(line[2]), line[1] == b"1")
    if response.status == 101:
        raise UpstreamProtocol(f"{provider}: status 101, but no upgrade was asked for", provider=provider)
    if len(block) > MAX_HEADERS * 4 and block.count(b"\n") > MAX_HEADERS + 2:
        raise UpstreamProtocol(f"{provider}: more than {MAX_HEADERS} response headers", provider=provider)
    parser = httptools.HttpResponseParser(response)
    try:
        parser.feed_data(block)
    except httptools.HttpParserError as exc:
        raise UpstreamProtocol(f"{provider}: bad response head: {exc}", provider=provider) from exc
    if response.is_chunked and not response.keeps_alive and block.startswith(b"HTTP/1.0"):
        response.fault = "chunks in HTTP/1.0"
    if response.fault:
        raise UpstreamProtocol(f"{provider}: response head with {response.fault}", provider=provider)
    response.seal()
    return response, parser


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
