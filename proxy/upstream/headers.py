"""Which headers pass from client to provider, and how a request head is written; pure rules on raw bytes."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.errors import ClientError
from proxy.exchange import RawHeaders, write_headers

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade", b"http2-settings")
)
"""RFC 9110, 7.6.1; names that begin with `proxy-` as well."""

_FRAMING: Final = frozenset((b"host", b"content-length"))
_CLIENT_ONLY: Final = frozenset(
    (
        b"authorization",
        b"x-api-key",
        b"x-goog-api-key",
        b"api-key",
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"x-real-ip",
        b"via",
        b"expect",
        b"accept-encoding",
    )
)
_DROPPED_PREFIXES: Final = (b"proxy-", b"x-forwarded-")

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Characters of a field name (RFC 9110, 5.6.2)."""
_NOT_IN_TARGET: Final = bytes(range(0x21)) + b"\x7f"
_CONTROLS: Final = bytes(set(range(0x20)) - {0x09}) + b"\x7f"
_USUAL_CONNECTION: Final = frozenset((b",keep-alive", b",close"))
_KNOWN_NAMES: Final = 1024

_PASS, _DROP, _CONNECTION, _BAD = range(4)

LAST_CHUNK: Final = b"0\r\n\r\n"


class RequestHeaders:
    """Drops what must not reach a provider; remembers its judgement of each name, so a header costs one lookup.

    Args:
        own_names: further names in lower case that a client's request never carries to a provider: what is the
            proxy's own business, and headers that the proxy itself sends there.
    """

    def __init__(self, own_names: Iterable[bytes] = ()) -> None:
        self._dropped = HOP_BY_HOP | _FRAMING | _CLIENT_ONLY | set(own_names)
        self._known: dict[bytes, int] = {}

    def choose(self, headers: RawHeaders, own: RawHeaders = ()) -> list[tuple[bytes, bytes]]:
        """Choose what of a client's headers goes to a provider.

        Args:
            own: ours, added after the client's were chosen: nothing a client sends can remove them; a client's
                header of the same name gives way.
        Raises:
            ClientError: a header that could become two.
        """
        kept = self._apply(headers)
        if own:
            names = {name.lower() for name, _ in own}
            kept = [header for header in kept if header[0].lower() not in names]
            kept += own
        return kept

    def _apply(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        known = self._known
        kept = []
        listed = b""
        for header in headers:
            verdict = known.get(header[0])
            if verdict is None:
                verdict = self._judge(header[0])
            if verdict == _PASS:
                kept.append(header)
            elif verdict == _CONNECTION:
                listed += b"," + header[1]
            elif verdict == _BAD:
                raise ClientError(f"bad header name {header[0][:40]!r}")
        values = b"".join([value for _, value in kept])
        if len(values.translate(None, _CONTROLS)) != len(values):  # four times as fast as a regular expression
            name = next(name for name, value in kept if value.translate(None, _CONTROLS) != value)
            raise ClientError(f"control character in the value of header {name[:40]!r}")
        return _without(kept, listed) if listed and listed.lower() not in _USUAL_CONNECTION else kept

    def _judge(self, name: bytes) -> int:
        lower = name.lower().replace(b"_", b"-")  # CGI-like servers take the one for the other
        if not name or name.translate(None, TOKEN):
            verdict = _BAD
        elif lower == b"connection":
            verdict = _CONNECTION
        elif lower in self._dropped or lower.startswith(_DROPPED_PREFIXES):
            verdict = _DROP
        else:
            verdict = _PASS
        if len(self._known) >= _KNOWN_NAMES:  # somebody makes names up
            self._known.clear()
        self._known[name] = verdict
        return verdict


def _without(headers: list[tuple[bytes, bytes]], listed: bytes) -> list[tuple[bytes, bytes]]:
    """Drop what the Connection header lists, too."""
    names = {name.strip(b" \t") for name in listed.lower().split(b",")} - HOP_BY_HOP - {b"", b"close"}
    return [header for header in headers if header[0].lower() not in names] if names else headers


def strip_query_key(query: bytes) -> bytes:
    """Remove `key=…` (Gemini's credential) from a query, however its name is escaped; the rest stays verbatim."""
    if b"key" not in query and b"%" not in query:
        return query
    return b"&".join(
        [part for part in query.split(b"&") if unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" ")) != b"key"]
    )


def write_request_headers(headers: RawHeaders) -> bytes:
    """Write the lines of a request's headers, each with its CRLF.

    Raises:
        ClientError: one would break out of its line, as a key out of a query can (`?key=a%0d%0a…`).
    """
    try:
        return write_headers(headers)
    except ValueError as error:
        raise ClientError(f"request head: {error}") from None


def begin_head(method: bytes, target: bytes, host: bytes, headers: bytes) -> bytes:
    """Write a request head up to its framing, which `frame_head` adds.

    Args:
        method: a token; aiohttp's parser has looked.
        target: path and query as they go on the wire.
        host: from the configuration.
        headers: lines, each with its CRLF; without Host and framing.
    Raises:
        ClientError: the target would break out of its line.
    """
    if len(target.translate(None, _NOT_IN_TARGET)) != len(target) or not target:
        raise ClientError("space or control character in the path or query")
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, target, host, headers)


def frame_head(head: bytes, length: int | None, *, is_chunked: bool = False) -> bytes:
    """End a request head with what tells how long the body is.

    Args:
        length: of the body; None sends no Content-Length.
        is_chunked: the body comes in chunks; then `length` is None.
    """
    if length is not None:
        return b"%bContent-Length: %d\r\n\r\n" % (head, length)
    return head + (b"Transfer-Encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")


def frame_chunk(data: bytes) -> bytes:
    """Frame body bytes as one chunk; empty data gives none, because an empty chunk is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
