"""The head that the requests of a connection have in common: parsed once, and from then on compared."""

import re
from typing import Any, Final

from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion, RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

RawHeaders = tuple[tuple[bytes, bytes], ...]

MOST_HEAD_BYTES: Final = 8 << 10
"""Longer heads are not remembered."""

MOST_DIGITS: Final = 9
"""Of a Content-Length; a longer body does not come in one piece."""

HEAD_END: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = b"content-length"
LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})[ \t]*(?=\r\n)" % MOST_DIGITS, re.IGNORECASE)

NO_HEADERS: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())
LIMIT_BYTES: Final = 1 << 30
"""Where a body would be read no further for a while: never, for one that is there."""


class RepeatedHead:
    """What a request's head says, under the names of aiohttp's message.

    Args:
        like: the message of a request with the same head, without its headers.
        raw_headers: as the parser gives them.
    """

    __slots__ = ("_like", "method", "path", "raw_headers", "version")

    should_close = False

    def __init__(self, like: RawRequestMessage, raw_headers: RawHeaders) -> None:
        self._like = like
        self.method: str = like.method
        self.path: str = like.path
        self.version: HttpVersion = like.version
        self.raw_headers = raw_headers

    def message(self) -> RawRequestMessage:
        """Make the message that the parser would have made; only the case of header names is that of the wire."""
        fields: CIMultiDict[str] = CIMultiDict()
        for name, value in self.raw_headers:
            fields.add(name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        return self._like._replace(headers=CIMultiDictProxy(fields), raw_headers=self.raw_headers)


class KnownHead:
    """Recognises requests that have the same head, byte for byte, as one that was parsed.

    Only the digits of Content-Length may be others. Whatever differs otherwise is for the parser.

    Args:
        head: as on the wire, the blank line included.
        length: where in it the digits of its only Content-Length are.
        message: what the parser made of it.
    """

    __slots__ = ("_after", "_at", "_before", "_digits", "_like", "head", "head_bytes")

    def __init__(self, head: bytes, length: tuple[int, int], message: RawRequestMessage) -> None:
        self._at, end = length
        self._before, self._digits, self._after = head[: self._at], head[self._at : end], head[end:]
        self._like = message._replace(headers=NO_HEADERS, raw_headers=())
        self.head = RepeatedHead(self._like, message.raw_headers)
        """What the last one that was recognised says."""
        self.head_bytes = len(head)
        """Its length."""

    def size_of(self, data: bytes) -> int:
        """Tell how long a request is, head and body, if data begins with its whole head and that is known; else 0."""
        at, after = self._at, self._after
        if not data.startswith(self._before):
            return 0
        end = data.find(b"\r", at, at + MOST_DIGITS + 1)
        digits = data[at:end]
        if not digits.isdigit() or not data.startswith(after, end):
            return 0
        if digits != self._digits:
            self._take(digits)
        self.head_bytes = head_bytes = end + len(after)
        return head_bytes + int(digits)

    def _take(self, digits: bytes) -> None:
        self._digits = digits
        headers = self.head.raw_headers
        self.head = RepeatedHead(
            self._like, tuple((name, digits if name.lower() == CONTENT_LENGTH else value) for name, value in headers)
        )


def learn(data: bytes, message: RawRequestMessage) -> tuple[KnownHead | None, int]:
    """Look at a request that was parsed.

    Args:
        data: what was given to the parser between two requests; it begins with the whole head.
    Returns:
        What recognises requests like it, if it has a body and asks for nothing but an answer; and its length, head and
        body, 0 where that is in any doubt.
    """
    end = data.find(HEAD_END, 0, MOST_HEAD_BYTES) + len(HEAD_END)
    is_clear = end >= len(HEAD_END) and data.count(b"\n", 0, end) == data.count(b"\r\n", 0, end)
    if not is_clear or message.chunked or message.upgrade or message.should_close:
        return None, 0
    names = {name.lower() for name, _ in message.raw_headers}
    if CONTENT_LENGTH not in names:
        return None, end
    lengths = list(LENGTH.finditer(data, 0, end))
    if len(lengths) != 1:
        return None, 0
    size = end + int(lengths[0][1])
    if message.compression or b"expect" in names:
        return None, size
    return KnownHead(data[:end], lengths[0].span(1), message), size


class WholeBody(StreamReader):
    """A body that came in one piece. What its usual reader does not ask for is made when it is first asked for."""

    __slots__ = ("_whole",)

    def __init__(self, data: bytes, protocol: BaseProtocol) -> None:
        self._whole: bytes | None = data
        """What has not been taken; None from when the rest is made."""
        self._protocol = protocol

    def is_eof(self) -> bool:
        """Tell that nothing more will come."""
        return True

    def read_nowait(self, n: int = -1) -> bytes:
        """Take what is there."""
        data = self._whole
        if data is None or n != -1:
            return super().read_nowait(n)
        self._whole = b""
        return data

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Have it raised for who reads from now on."""
        self._make()  # else this would be made later, and the exception lost
        super().set_exception(exc, *cause)

    def _make(self) -> None:
        data, self._whole = self._whole, None
        if data is not None:
            super().__init__(self._protocol, LIMIT_BYTES)
            self.feed_data(data)
            self._eof = True  # `feed_eof` would let go of reading that a later request holds

    def __getattr__(self, name: str) -> Any:  # Any: as aiohttp has it
        """Make the rest of it: asked for what is not there yet."""
        if self._whole is None:
            raise AttributeError(f"a body has no {name}")
        self._make()
        return getattr(self, name)
