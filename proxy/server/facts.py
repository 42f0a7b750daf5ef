"""What a connection's request headers say, kept while they stay the same: clients repeat them request after request."""

import re
from typing import Any, Final

from proxy.errors import ClientError
from proxy.exchange import WrittenHeads

CONTENT_LENGTH: Final = b"content-length"
LISTS: Final = (b"cache-control", b"x-forwarded-for")
"""Headers of which plugins read the whole list, however it is cut into lines."""

WELL_FORMED_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class HeaderFacts:
    """What was read from one set of headers; Content-Length aside, which differs with each body.

    Args:
        raw: the headers as aiohttp's parser gives them.
    Raises:
        ClientError: Host is repeated, so that two servers could read two hosts.
    """

    __slots__ = (
        "_after",
        "_before",
        "_last",
        "_size",
        "caller",
        "fields",
        "headers",
        "is_admitted",
        "memo",
        "request_id",
        "size_bytes",
        "trace_id",
        "written_heads",
    )

    def __init__(self, raw: tuple[tuple[bytes, bytes], ...]) -> None:
        self.fields = {name.lower(): value for name, value in raw}
        """By lower-case name; of repeated ones the last."""
        if len(self.fields) != len(raw):
            self._look_at_repeated(raw)
        at = next((index for index, (name, _) in enumerate(raw) if name.lower() == CONTENT_LENGTH), len(raw))
        self._last = raw
        self._size = len(raw)
        self._before = raw[:at]
        self._after = raw[at + 1 :]
        self.headers = self._before + self._after
        """Without Content-Length, in the order and case of the wire."""
        self.caller = caller_key(self.fields)
        self.is_admitted: object = None
        """The guard that let these headers pass; another one must look again."""
        self.written_heads: WrittenHeads = {}
        self.memo: dict[object, Any] = {}  # Any: see Request.memo
        self.request_id = _well_formed(self.fields.get(b"x-request-id"))
        self.trace_id = _well_formed(self.fields.get(b"x-trace-id"))
        self.size_bytes = sum(len(name) + len(value) for name, value in raw)

    def _look_at_repeated(self, raw: tuple[tuple[bytes, bytes], ...]) -> None:
        """Refuse what must not be repeated; join what is one list however it is cut (RFC 9110, 5.3)."""
        if sum(name.lower() == b"host" for name, _ in raw) > 1:
            raise ClientError("the Host header is repeated")
        for listed in LISTS:
            if listed in self.fields:
                self.fields[listed] = b", ".join(value for name, value in raw if name.lower() == listed)

    def fit(self, raw: tuple[tuple[bytes, bytes], ...]) -> bool:
        """Tell whether a request's headers are the same but for the value of Content-Length, which is taken over."""
        if raw == self._last:
            return True
        at = len(self._before)
        if len(raw) != self._size or raw[:at] != self._before or raw[at + 1 :] != self._after:
            return False
        if at == self._size:
            return True
        if raw[at][0].lower() != CONTENT_LENGTH:
            return False
        self._last = raw
        self.fields[CONTENT_LENGTH] = raw[at][1]  # an older length would frame this body wrong for the provider
        return True


def _well_formed(identity: bytes | None) -> str | None:
    return identity.decode("ascii") if identity and WELL_FORMED_ID.fullmatch(identity) else None


def caller_key(fields: dict[bytes, bytes]) -> str | None:
    """Find the key a client shows in a header, in any of the four where SDKs put it."""
    authorization = fields.get(b"authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(b" ")
        if scheme.lower() == b"bearer" and value:
            return value.strip().decode("latin-1")
    value = fields.get(b"x-api-key") or fields.get(b"x-goog-api-key") or fields.get(b"api-key") or b""
    return value.decode("latin-1") if value else None
