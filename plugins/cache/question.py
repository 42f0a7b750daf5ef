"""What makes two requests the same question: the key, and the digests that tell which part of it differs."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from plugins.cache.settings import CacheConfig
from plugins.cache.wishes import Wishes
from proxy.exchange import Candidate, Exchange, Request

MANNER_FIELDS: Final = frozenset({"stream", "stream_options"})
"""They say how an answer is sent, not which."""

MODEL_FIELD: Final = "model"
"""Counts as what it leads to: an alias that comes to mean another model is another question."""

MEANT_HEADERS: Final = (
    *("anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"),
    "x-goog-user-project",
)
"""What vendors read besides the body and the credential."""

STATEFUL_FIELDS: Final = ("previous_response_id", "conversation", "background", "cachedContent", "container")
"""Their answers depend on what the vendor holds, which no key can contain."""

WHOLE: Final = "whole"
SHARED: Final = "shared"
PERSONAL: Final = "personal"
"""Shapes that begin so speak of the exchange they were made for: even where they are alike they are written anew."""

DIGEST_BYTES: Final = 4


class Question(NamedTuple):
    """What one request asks.

    Args:
        key: of 16 bytes; the answer is kept under it.
        shape: how the answer is to come: `whole`, or which kind of stream.
        targets: who could answer, aliases resolved.
    """

    key: bytes
    shape: str
    wishes: Wishes
    targets: Sequence[Candidate]


class Questions:
    """Tells questions apart under one configuration."""

    def __init__(self, config: CacheConfig) -> None:
        names = dict.fromkeys([*MEANT_HEADERS, *(name.lower() for name in config.headers)])
        self._dropped = MANNER_FIELDS | {MODEL_FIELD, *config.ignore}
        self._headers = tuple(name.encode("ascii") for name in names)
        self._labels = ("(caller)", "(path)", "(model)", "(salt)", "(query)", *(f"(header {name})" for name in names))
        self._is_shared = config.partition == "shared"

    def partition(self, exchange: Exchange) -> str:
        """Name whose answers an exchange may get."""
        return SHARED if self._is_shared else exchange.caller_id

    def key(self, exchange: Exchange, targets: Sequence[Candidate], salt: bytes) -> bytes:
        """Give the 16 bytes under which the answer is kept.

        Args:
            targets: who could answer, aliases resolved.
            salt: the client's own; other salts are other questions.
        """
        surroundings = b"\0".join(self._surroundings(exchange, targets, salt))
        kept = self._fields(exchange.request)
        content = b"%b\0%b" % (surroundings, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS))
        return blake2b(content, digest_size=16, person=b"cache 1").digest()

    def digests(self, exchange: Exchange, targets: Sequence[Candidate], salt: bytes) -> dict[str, int]:
        """Give 32 bits of each part of a question: the body's fields and, in brackets, what surrounds it."""
        around = zip(self._labels, self._surroundings(exchange, targets, salt), strict=True)
        found = {label: crc32(content) for label, content in around if content}
        for name, content in self._fields(exchange.request).items():
            found[name] = crc32(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))
        return found

    def _fields(self, request: Request) -> dict[str, object]:
        dropped = self._dropped
        return {name: content for name, content in (request.document or {}).items() if name not in dropped}

    def _surroundings(self, exchange: Exchange, targets: Sequence[Candidate], salt: bytes) -> list[bytes]:
        """List what counts besides the body, as `_labels`; none of it has a NUL, so that none runs into the next."""
        request = exchange.request
        fields = request.fields
        return [
            self.partition(exchange).encode("utf-8", "surrogatepass"),
            operation_name(request).encode(),
            _names(targets),
            salt,
            _query(request.query) if request.query else b"",
            *[fields.get(name, b"") for name in self._headers],
        ]


def pack(digests: dict[str, int]) -> bytes:
    """Write digests small: an entry keeps them."""
    return b"".join(
        name.encode("utf-8", "surrogatepass").replace(b"\0", b"") + b"\0" + digest.to_bytes(DIGEST_BYTES)
        for name, digest in digests.items()
    )


def unpack(packed: bytes) -> dict[str, int]:
    """Read what `pack` wrote; what is damaged gives fewer of them."""
    found = {}
    at = 0
    while (end := packed.find(b"\0", at)) >= 0:
        name = packed[at:end].decode("utf-8", "replace")
        at = end + 1 + DIGEST_BYTES
        found[name] = int.from_bytes(packed[end + 1 : at])
    return found


def operation_name(request: Request) -> str:
    """Name what is asked for; Gemini's two paths for one question are one."""
    operation = request.operation
    name = "generate" if operation.name == "stream_generate" else operation.name
    return f"{operation.format}.{name}"


def shape_of(request: Request) -> str:
    """Tell how the answer is to come: `whole`, or which kind of stream."""
    if request.operation.format == "native":
        return f"{PERSONAL} events" if request.is_streaming else f"{PERSONAL} {WHOLE}"
    if not request.is_streaming:
        return WHOLE
    if request.operation.format == "openai":
        options = (request.document or {}).get("stream_options")
        has_usage = isinstance(options, dict) and options.get("include_usage") is True
        return "events with usage" if has_usage else "events"
    if request.operation.format == "gemini" and b"alt=sse" not in request.query:
        return "array"
    return "events"


def is_same(kept: str, wanted: str) -> bool:
    """Tell whether an answer of one shape can be given, byte by byte, where another is asked for."""
    return kept == wanted and not wanted.startswith(PERSONAL)


def why_stateful(request: Request) -> str | None:
    """Name the field by which the answer depends on more than the request; None if there is none."""
    document = request.document or {}
    return next((name for name in STATEFUL_FIELDS if document.get(name)), None)


def _names(targets: Sequence[Candidate]) -> bytes:
    names = ",".join([f"{one.provider}/{one.model}" for one in targets]).encode("utf-8", "surrogatepass")
    return names.replace(b"\0", b"\xff") if b"\0" in names else names  # 0xff stands nowhere else in UTF-8


def _query(query: bytes) -> bytes:
    """Drop the credential and the manner from a query; the rest counts as it stands."""
    return b"&".join([part for part in query.split(b"&") if not part.startswith((b"key=", b"alt="))])
