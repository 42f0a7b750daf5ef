"""What makes two requests the same question: their key, and the parts that it is made of."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from plugins.cache.settings import CacheConfig
from plugins.cache.wishes import NONE, Wishes, read_wishes
from proxy.exchange import Candidate, Exchange, Operation, Request

MANNER_FIELDS: Final = frozenset({"stream", "stream_options"})
"""They say how an answer is sent, not which."""

MODEL_FIELD: Final = "model"
"""Counts as what it leads to: an alias that comes to mean another model is another question."""

MEANT_HEADERS: Final = (
    *("anthropic-version", "anthropic-beta", "openai-beta", "openai-organization", "openai-project"),
    "x-goog-user-project",
)
"""What vendors read besides the body and the credential."""

STATEFUL_FIELDS: Final = frozenset(
    {"previous_response_id", "conversation", "background", "cachedContent", "cached_content", "container"}
)
"""Their answers depend on what the vendor holds, which no key can contain."""

WHOLE: Final = "whole"
ARRAY: Final = "array"
SHARED: Final = "shared"
PERSONAL: Final = "personal"
"""Shapes that begin so speak of the exchange they were made for: even where they are alike they are written anew."""

BLANK: Final = blake2b(digest_size=16, person=b"cache 1")

MOST_REMEMBERED_BYTES: Final = 4 << 10
"""What is longer is put together anew each time: clients may make it as long as they like, on many connections."""


class Question(NamedTuple):
    """What one request asks.

    Args:
        key: of 16 bytes; the answer is kept under it.
        shape: how the answer is to come: `whole`, or which kind of stream.
        partition: whose answers it may get.
        about: what counts besides the body, as `Questions.labels`.
    """

    key: bytes
    shape: str
    partition: str
    wishes: Wishes
    about: tuple[bytes, ...]


class _Around(NamedTuple):
    """What counts besides the body, for requests of a connection that differ in nothing else.

    Args:
        asked: by whom, where and for what. What that leads to stays the same while the revision does.
    """

    asked: tuple[object, ...]
    partition: str
    about: tuple[bytes, ...]
    written: bytes


class _HeaderPart:
    """What a connection's headers say, and what surrounded its last question: the next one is mostly alike."""

    __slots__ = ("around", "of_headers", "reader", "unread", "wishes")

    def __init__(self, reader: "Questions", wishes: Wishes, unread: str, of_headers: tuple[bytes, ...]) -> None:
        self.reader = reader
        self.wishes = wishes
        self.unread = unread
        self.of_headers = of_headers
        self.around: _Around | None = None


class Questions:
    """Tells questions apart under one configuration."""

    def __init__(self, config: CacheConfig) -> None:
        names = dict.fromkeys([*MEANT_HEADERS, *(name.lower() for name in config.headers)])
        self.dropped = MANNER_FIELDS | {MODEL_FIELD, *config.ignore}
        self.labels = ("(caller)", "(path)", "(model)", "(query)", "(salt)", *(f"(header {name})" for name in names))
        self._headers = tuple(name.encode("ascii") for name in names)
        self._is_shared = config.partition == "shared"
        self._heeds_clients = config.client_control

    def read(self, exchange: Exchange, targets: Callable[[Exchange], Sequence[Candidate]]) -> Question:
        """Read what an exchange asks.

        Args:
            targets: lists who could answer, aliases resolved; asked only where the last question of the connection was
                about something else.
        Raises:
            ProxyError: nobody could answer.
        """
        request = exchange.request
        known: _HeaderPart | None = request.memo.get("cache")
        if known is None or known.reader is not self:
            known = request.memo["cache"] = self._read_headers(request)
        around = known.around
        asked = (
            request.model,
            request.operation,
            request.query,
            exchange.caller,
            exchange.identity,
            exchange.named_provider,
            exchange.revision,
        )
        if around is None or around.asked != asked:
            around = self._around(asked, exchange, known, targets(exchange))
            is_kept = asked[0] is not None and len(around.written) <= MOST_REMEMBERED_BYTES
            known.around = around if is_kept else None  # a default model is filled in by who lists the targets
        fields = (request.document or {}).copy()  # and not only what counts: few fields do not
        for name in self.dropped:
            fields.pop(name, None)
        content = around.written + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        digest = BLANK.copy()  # to make it with its parameters takes half as long again
        digest.update(content)
        return Question(digest.digest(), shape_of(request), around.partition, known.wishes, around.about)

    def _around(
        self, asked: tuple[object, ...], exchange: Exchange, known: "_HeaderPart", targets: Sequence[Candidate]
    ) -> _Around:
        """Put together what counts besides the body."""
        operation, query = exchange.request.operation, exchange.request.query
        partition = SHARED if self._is_shared else exchange.caller_id
        if known.unread and not self._is_shared and exchange.identity is None:
            partition = f"{partition} {known.unread}"
        # names may hold any character, and `repr` leaves no doubt where one ends; it has no NUL either
        names = repr([(one.provider, one.place, one.model) for one in targets])
        about = (
            partition.encode("utf-8", "surrogatepass"),
            (_whole_path(operation) if operation.name == "stream_generate" else operation.path).encode(),
            names.encode(),
            _asked(query) if query else b"",
            *known.of_headers,
        )
        written = b"\0".join((*about, b""))  # no part has a NUL, so that none runs into the next
        return _Around(asked, partition, about, written)

    def _read_headers(self, request: Request) -> "_HeaderPart":
        """Read what counts of the headers: wishes, a credential that the core does not know, the rest."""
        wishes = read_wishes(request.fields) if self._heeds_clients else NONE
        found: dict[bytes, list[bytes]] = {name: [] for name in self._headers}
        for name, value in request.headers:
            if (values := found.get(name.lower())) is not None:
                values.append(value)
        of_headers = (wishes.salt, *map(b"\n".join, found.values()))  # no value has a line end
        return _HeaderPart(self, wishes, _unread_credential(request.fields), of_headers)

    def parts(self, about: Sequence[bytes], document: Mapping[str, Any]) -> dict[str, bytes]:  # Any: JSON
        """Take a question apart: the fields of its body by name and, in brackets, what counts besides."""
        found = {label: content for label, content in zip(self.labels, about, strict=False) if content}
        for name, content in document.items():
            if name not in self.dropped:
                found[name] = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        return found


def shape_of(request: Request) -> str:
    """Tell how the answer is to come: `whole`, or which kind of stream."""
    if not request.is_streaming:
        return WHOLE if request.operation.format != "native" else f"{PERSONAL} {WHOLE}"
    match request.operation.format:
        case "openai":
            options = (request.document or {}).get("stream_options")
            has_usage = isinstance(options, dict) and options.get("include_usage") is True
            return "events with usage" if has_usage else "events"
        case "gemini":
            return "events" if b"alt=sse" in request.query else ARRAY
        case "native":
            return f"{PERSONAL} events"
        case _:
            return "events"


def is_same(kept: str, wanted: str) -> bool:
    """Tell whether an answer of one shape can be given, byte by byte, where another is asked for."""
    return kept == wanted and not wanted.startswith(PERSONAL)


def why_stateful(document: Mapping[str, Any]) -> str | None:  # Any: JSON
    """Name the field by which the answer depends on more than the request; None if there is none."""
    if STATEFUL_FIELDS.isdisjoint(document):
        return None
    return next((name for name in sorted(STATEFUL_FIELDS) if document.get(name)), None)


def _unread_credential(fields: Mapping[bytes, bytes]) -> str:
    """Digest a credential of a scheme that `Exchange.caller` does not know, such as Basic; empty if there is none."""
    text = fields.get(b"authorization", b"")
    if not text or text[:7].lower() == b"bearer ":
        return ""
    return blake2b(text, digest_size=16, person=b"cache caller").hexdigest()


def _whole_path(operation: Operation) -> str:
    """Give the path for the same question without a stream; Gemini has two."""
    return operation.path.replace(":streamGenerateContent", ":generateContent")


def _asked(query: bytes) -> bytes:
    """Drop the credential and the manner from a query; the rest counts as it stands."""
    return b"&".join([part for part in query.split(b"&") if not part.startswith(b"alt=") and not _is_key(part)])


def _is_key(part: bytes) -> bool:
    """Tell whether a part of a query is Gemini's credential, however its name is written."""
    name = part.partition(b"=")[0]
    return name == b"key" or (b"%" in name and unquote_to_bytes(name) == b"key")
