"""The fields of a response's head: which go on to the client, which tell how it is framed, which end here."""

from typing import Final

from proxy.sink import ResponseHead
from proxy.upstream.headers import HOP_BY_HOP, TOKEN

MAX_KNOWN_NAMES: Final = 1024

MAX_LENGTH_DIGITS: Final = 18
"""Of Content-Length; what is longer is no length, but an attempt at an overflow."""

(
    PASSES,
    DROPPED,
    COOKIE,
    CONNECTION,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    REQUEST_ID,
    LIMIT,
) = range(10)

MEANINGS: Final = {
    **dict.fromkeys(HOP_BY_HOP, DROPPED),
    b"alt-svc": DROPPED,
    b"strict-transport-security": DROPPED,
    b"x-accel-buffering": DROPPED,
    b"set-cookie": COOKIE,
    b"set-cookie2": COOKIE,
    b"connection": CONNECTION,
    b"content-type": CONTENT_TYPE,
    b"content-encoding": CONTENT_ENCODING,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"x-request-id": REQUEST_ID,
    b"request-id": REQUEST_ID,
}
DROPPED_PREFIXES: Final = (b"proxy-", b"access-control-")
"""Which web pages may call is this proxy's decision."""
LIMIT_PREFIXES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit")
"""What is left of the provider's rate limits."""


class ResponseFields:
    """Sorts the fields of one provider's responses; remembers what each name means, so a field costs one lookup."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}

    def sort(self, lines: list[bytes], head: ResponseHead) -> None:
        """Take the fields of a head in: those for the client stay as they are, the others are understood here.

        Args:
            lines: without their CRLF and free of control characters.
        Raises:
            ValueError: with what is wrong, in a few words.
        Source:
            RFC 9112, 5 (no folding, no space before the colon), 6.1 and 6.2 (one length, no coding but `chunked`).
        """
        known, kept = self._known, head.lines
        listed = b""
        for line in lines:
            name = line[: line.index(b":")]
            meaning = known.get(name)
            if meaning is None:
                meaning = self._judge(name)
            if meaning == PASSES:
                kept.append(line)
            elif meaning == CONNECTION:
                listed += b"," + line[len(name) + 1 :].strip(b" \t").lower()
            elif meaning != DROPPED:
                _understand(meaning, line, line[len(name) + 1 :].strip(b" \t"), head)
        if listed and listed != b",keep-alive":
            _heed_connection(listed, head)

    def _judge(self, name: bytes) -> int:
        lower = name.lower()
        if not name or name.translate(None, TOKEN):
            raise ValueError("a name that is no token")
        meaning = MEANINGS.get(lower, PASSES)
        if lower.startswith(DROPPED_PREFIXES):
            meaning = DROPPED
        elif lower.startswith(LIMIT_PREFIXES):
            meaning = LIMIT
        if len(self._known) >= MAX_KNOWN_NAMES:  # somebody makes names up
            self._known.clear()
        self._known[name] = meaning
        return meaning


def _understand(meaning: int, line: bytes, value: bytes, head: ResponseHead) -> None:
    if meaning == CONTENT_TYPE:
        head.content_type = value
        head.lines.append(line)
    elif meaning == CONTENT_LENGTH:
        if head.content_length is not None or head.is_chunked:
            raise ValueError("a second length")
        if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
            raise ValueError("a length that is no number")
        head.content_length = int(value)
    elif meaning == TRANSFER_ENCODING:
        if head.content_length is not None or head.is_chunked:
            raise ValueError("a second length")
        if value.lower() != b"chunked":
            raise ValueError("a transfer coding that was not asked for")
        head.is_chunked = True
    elif meaning == REQUEST_ID:
        head.request_id = value
    elif meaning == LIMIT:
        head.limit_lines = [*head.limit_lines, line]
        head.lines.append(line)
    elif meaning == CONTENT_ENCODING:
        head.is_encoded = value.lower() != b"identity"
        head.lines.append(line)
    else:
        head.cookie_lines = [*head.cookie_lines, line]


def _heed_connection(listed: bytes, head: ResponseHead) -> None:
    """Drop what the Connection header lists, and note whether the connection ends (RFC 9110, 7.6.1)."""
    if b"close" in listed:
        head.keeps_alive = False
    names = {name.strip(b" \t") for name in listed.split(b",")} - HOP_BY_HOP - {b"", b"close"}
    if names:
        head.lines = [line for line in head.lines if line[: line.index(b":")].lower() not in names]
        head.cookie_lines = [line for line in head.cookie_lines if line[: line.index(b":")].lower() not in names]
