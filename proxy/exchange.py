"""One client request and all that follows from it: what hooks, providers and the relay hand to each other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from proxy.callers import Identity, digest_of
from proxy.errors import FailureKind, ProxyError
from proxy.redaction import mask_of
from proxy.usage import Price, Usage

RawHeaders = Sequence[tuple[bytes, bytes]]
"""Header fields in the order and case of the wire."""

JsonObject = dict[str, Any]  # Any: the client's JSON, of whatever shape


def write_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write header lines, each with its CRLF.

    Raises:
        ValueError: something in them would break out of its line, so that another message would be read.
    """
    lines = [b"%b: %b\r\n" % header for header in headers]
    block = b"".join(lines)
    count = len(lines)
    if block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
        raise ValueError("line end or NUL within a header")
    return block


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client's path asks for.

    Args:
        format: the wire format of the path: openai, anthropic, gemini, ollama or native.
        name: chat, completions, responses, embeddings, count_tokens, models, model, raw, … (`raw`: relayed untouched).
        method: the HTTP method it is served under.
        path: pattern of the client path; `{model}` stands for a model name, a trailing `{rest}` for anything.
        reads_body: the JSON body is needed whole, because it names the model.
        streams: the reply may be a stream of events.
    """

    format: str
    name: str
    method: str
    path: str
    reads_body: bool = True
    streams: bool = False


WrittenHeads = dict[tuple[str, str | None], tuple[object, bytes]]
"""By provider and key: what a request asked of it, and the head that was written for that; kept by who wrote it."""


class UploadBody(Protocol):
    """A request body that is streamed on rather than collected."""

    length: int | None
    """Bytes as declared by the client, None when chunked."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the parts as they arrive, once. Raises ClientError when the client sends rubbish or stops."""
        ...

    def is_client_gone(self) -> bool:
        """Tell whether the client has left; to be asked while nothing is read from it."""
        ...


class Request:
    """The client's request as the proxy understands it.

    Plugins may change it in `pre_request`: `model`, or the body through `edit`. Bytes nobody changed are relayed
    unchanged.
    """

    __slots__ = (
        "body",
        "document",
        "fields",
        "headers",
        "is_streaming",
        "max_output_tokens",
        "memo",
        "method",
        "model",
        "operation",
        "path",
        "query",
        "upload",
        "written_heads",
    )

    def __init__(
        self,
        operation: Operation,
        *,
        method: str,
        path: bytes,
        query: bytes = b"",
        headers: RawHeaders = (),
        body: bytes = b"",
        document: JsonObject | None = None,
        model: str | None = None,
        is_streaming: bool = False,
        max_output_tokens: int | None = None,
        upload: UploadBody | None = None,
        written_heads: WrittenHeads | None = None,
        fields: Mapping[bytes, bytes] | None = None,
        memo: dict[object, Any] | None = None,  # Any: private to who keeps it there
    ) -> None:
        self.operation = operation
        self.method = method
        self.path = path
        """As on the wire, percent-encoding kept, without the query."""
        self.query = query
        """As on the wire, without the `?`."""
        self.headers = headers
        """In the order and case of the wire, without Content-Length."""
        self.fields = {name.lower(): value for name, value in headers} if fields is None else fields
        """The same by lower-case name, the last of each; shared by the requests of a connection."""
        self.written_heads: WrittenHeads = {} if written_heads is None else written_heads
        """Shared by the requests of a connection whose headers are alike, so that these are written once."""
        self.memo: dict[object, Any] = {} if memo is None else memo
        """What somebody worked out from the headers alone, under a key of its own; shared as `fields` is."""
        self.body = body
        self.document = document
        """The parsed JSON body, None if there is none. Change it through `edit` only."""
        self.model = model
        """The model asked for, an alias or `provider/model` included; None where the path needs none."""
        self.is_streaming = is_streaming
        self.max_output_tokens = max_output_tokens
        self.upload = upload
        """The body, where it is streamed rather than collected; then `body` is empty."""

    def header(self, name: bytes) -> bytes | None:
        """Find the first header of this name, given in lower case."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def edit(self, **changes: object) -> None:
        """Set top-level keys of the JSON body (None removes one) and write the body anew."""
        document = {**(self.document or {}), **changes}
        self.document = {key: value for key, value in document.items() if value is not None or key not in changes}
        self.body = orjson.dumps(self.document)


class Load(Protocol):
    """What a candidate bears at the moment, as real traffic shows it; read it, keep nothing of it."""

    @property
    def in_flight(self) -> int:
        """Calls of the provider at work, all its models together."""
        ...

    def latency_s(self, is_streaming: bool, now_s: float) -> float | None:
        """Tell how long this model of the provider takes lately; None while it was not called.

        The time to the first byte for streams, the time to the last for others: a peak-sensitive moving average that
        follows a rise at once and forgets it within seconds.

        Args:
            now_s: monotonic clock.
        """
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider and the name it has for the model; lower `priority` is tried first, `weight` shares within one.

    Args:
        price: None where none is configured.
        load: None only in tests.
        place: where the provider is; another one under the same name is another candidate.
    """

    provider: str
    model: str | None
    priority: int = 0
    weight: float = 1.0
    price: Price | None = None
    load: Load | None = field(default=None, compare=False, repr=False)
    place: str = ""


class Attempt:
    """One try at one provider. Times are seconds, `started_s` of the monotonic clock.

    `error`, `kind` and `message` are None while it runs and when it succeeded; an attempt that lost against its hedge,
    or whose client left, has none either and no status of its own. What most attempts never set is an attribute of the
    class, so that making one is cheap.
    """

    duration_s: float | None = None
    status: int | None = None
    error: str | None = None
    message: str | None = None
    kind: FailureKind | None = None
    key: str | None = None
    """Which of the provider's keys, masked; None where there is no choice."""
    first_byte_s: float | None = None
    """Until the output of a stream begins; None for whole replies, of which it comes with the last."""
    may_have_executed = False
    """It failed, and the provider may bill it all the same."""
    is_hedge = False
    """Made beside another one that was late."""
    is_probe = False
    """Let through to find out whether the provider is back."""
    price: Price | None = None
    """Of the model it asks for; None where none is configured."""

    def __init__(self, provider: str, model: str | None, started_s: float) -> None:
        self.provider = provider
        self.model = model
        self.started_s = started_s


@dataclass(slots=True)
class Reply:
    """An answer made here rather than relayed: by a plugin, by the echo provider, by a translation.

    Args:
        headers: without framing (Content-Length, Transfer-Encoding), which the server adds.
        body: the whole body, if `events` is None.
        events: the body in pieces as they become ready, each whole in its format; closed by who reads it.
        usage: what it says about tokens, if known.
        is_stream: `body` is a stream of events that are all there already; it is framed like one.
    """

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ((b"Content-Type", b"application/json"),)
    body: bytes = b""
    events: AsyncIterator[bytes] | None = None
    usage: Usage | None = None
    served_model: str | None = None
    is_stream: bool = False


@dataclass(slots=True)
class Wait:
    """Answer of `pre_request`: something to wait for outside the hook's budget; its result counts as the answer.

    Args:
        awaitable: gives a Reply, or None to go on; cancelled when the client leaves.
        deadline_s: seconds after which the request goes on without it.
    """

    awaitable: Awaitable[Reply | None]
    deadline_s: float


class Audience(Protocol):
    """Who reads a relayed response beside the client: a recorder, and others who asked the same.

    Like a sink, called on the loop, never blocks. After `start` exactly one of `finish` and `fail` follows, `fail` also
    without `start`. One that raises is told nothing more but `concluded`, and the client goes on without it.
    """

    @property
    def is_wanted(self) -> bool:
        """Whether somebody else reads, so that the upstream work goes on without the client."""
        ...

    def start(self, status: int, headers: bytes) -> None:
        """Begin.

        Args:
            headers: lines of end-to-end headers, each with its CRLF.
        """
        ...

    def write(self, data: bytes) -> bool:
        """Take body bytes; False when it is behind: stop, and `await drain()`."""
        ...

    def finish(self) -> None:
        """The response is whole."""
        ...

    def fail(self, error: ProxyError | None) -> None:
        """The response broke off, or never came; None: everybody left."""
        ...

    async def drain(self) -> None:
        """Wait until it has caught up, or has given up whoever is too slow."""
        ...

    def when_unwanted(self, act: Callable[[], object]) -> None:
        """Take what is to be called once nobody reads any more; asked when the client has left and others read on."""
        ...

    def concluded(self, exchange: "Exchange") -> None:
        """Take note that the exchange has ended, and all is known of it; exactly once, before `post_response`."""
        ...

    def covers(self, error: ProxyError) -> bool:
        """Tell whether it has an answer that is better than this error."""
        ...

    def instead(self, exchange: "Exchange", error: ProxyError) -> Reply | None:
        """Give that answer, before the client has seen anything; None if it cannot be had after all."""
        ...


class Exchange:
    """One client request with all that follows from it. Times are seconds of the monotonic clock.

    What most exchanges never set is an attribute of the class, so that making one is cheap.
    """

    trace_id: str
    revision: int = 0
    candidates: Sequence[Candidate] = ()
    """Who is asked, in order."""
    rivals: Sequence[Candidate] = ()
    """Who could have been asked, before any choice was made."""
    provider: str | None = None
    """Who answered; None for a plugin's own answer."""
    attempt: Attempt | None = None
    """The one whose response the client got, or the last one that was begun."""
    served_model: str | None = None
    status: int | None = None
    """Sent to the client; 499 when it left first."""
    error: ProxyError | None = None
    usage: Usage | None = None
    fault: str | None = None
    """What went wrong by the provider's own answer, although that came with status 200, and whole."""
    is_cached: bool = False
    has_slot: bool = False
    """It holds one of the process's `maxConcurrency`."""
    waits_for: str | None = None
    """The provider in whose line it waits for a slot."""
    cancelled_by: str | None = None
    """Who ended it from outside, in words for the client."""
    told: bytes = b""
    """Header lines that go to the client with whatever answer it gets, each with its CRLF; see `tell`."""
    tells_limits: bool = False
    """`told` says what is left of limits of ours: those of a provider, which are another account's, end here."""
    are_limits_held: bool = False
    """A plugin that limits has looked at it: `identity.limits` are held, as far as they are to be."""
    identity: Identity | None = None
    """Whom the caller was recognised as; then nothing of its credentials is passed on."""
    audience: Audience | None = None
    """Set in `pre_request` by a plugin that reads the response, too."""
    has_audience_failed: bool = False
    """The audience has raised, and is asked nothing any more."""
    has_client_left: bool = False
    """The client left, and the work goes on for its audience."""
    is_background: bool = False
    """No client waits for it, and `pre_request` was not called: what was asked before is asked anew."""
    is_dry_run: bool = False
    """Nobody is asked: an operator wants to know who would be. `select_provider` must not count it as a request."""
    bytes_out: int = 0
    time_to_first_token_s: float | None = None
    """Until the first body bytes were sent."""
    duration_s: float | None = None

    def __init__(
        self,
        request: Request,
        *,
        id: str,  # the field's standard term
        received_s: float,
        peer: str = "",
        caller: str | None = None,
        trace_id: str | None = None,
        named_provider: str | None = None,
    ) -> None:
        self.request = request
        self.id = id
        """The `X-Request-Id`: the client's if it is well formed, else ours."""
        self.trace_id = trace_id or id
        self.received_s = received_s
        self.peer = peer
        """Address of the TCP peer."""
        self.caller = caller
        """The key the client showed, in clear: for credentials and partitions only, never to be logged or kept."""
        self.named_provider = named_provider
        """The provider that `/proxy/{provider}/…` names."""
        self.attempts: list[Attempt] = []
        self.notes: dict[str, Any] = {}  # Any: private to each plugin, under its own name

    _caller_id: str | None = None

    @property
    def caller_id(self) -> str:
        """Who it counts for: `key:…`, `credential:…` (a digest) or `peer:…`; for keys of tables, not for people."""
        known = self._caller_id
        if known is None:
            if self.identity is not None:
                known = f"key:{self.identity.id}"
            elif self.caller is not None:
                known = self._credential_id(self.caller)
            else:
                known = f"peer:{self.peer}"
            self._caller_id = known
        return known

    def _credential_id(self, credential: str) -> str:
        """Digest a credential, once for all requests that show it on one connection."""
        memo = self.request.memo
        kept: tuple[str, str] | None = memo.get("caller_id")
        if kept is None or kept[0] != credential:
            kept = memo["caller_id"] = credential, f"credential:{digest_of(credential)}"
        return kept[1]

    @property
    def shown_caller(self) -> str:
        """Who it counts for, in words for operators: a name, a masked credential or an address."""
        if self.identity is not None:
            return self.identity.name
        return self.peer if self.caller is None else mask_of(self.caller)

    def tell(self, name: bytes, value: bytes) -> None:
        """Add a header to whatever answer the client gets.

        Raises:
            ValueError: it would break out of its line.
        """
        self.told += write_headers(((name, value),))
