"""One try at one provider: write the call, decide about the response from its head, relay or translate it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import orjson

from proxy.errors import ClientError, StaleConnection, UpstreamAuth, UpstreamError, UpstreamRejected
from proxy.exchange import Candidate, Exchange, Operation, ResponseHead, ResponseObserver, Sink
from proxy.formats.base import Format
from proxy.formats.json_body import replace_model
from proxy.formats.neutral import Completion, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.formats.sse import EventSplitter, LineSplitter
from proxy.formats.translation import ReplyTranslation
from proxy.host.dispatch import Dispatch
from proxy.providers.base import RemoteProvider
from proxy.providers.vendors import ANTHROPIC_VERSION
from proxy.tasks import Tasks
from proxy.upstream.connection import Connection
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.headers import (
    LAST_CHUNK,
    begin_head,
    frame_chunk,
    frame_head,
    strip_query_key,
    write_request_headers,
)
from proxy.upstream.pool import Pool
from proxy.upstream.relay import LINE_BOUNDARIES, SSE_BOUNDARIES, Filtering, Passage, Relay
from proxy.upstream.translated import TranslatedSink

FAILOVER_STATUSES: Final = frozenset({429, 500, 502, 503, 504, 529})
"""Answers of a provider that another provider may make good."""

MAX_WRITTEN_HEADS: Final = 16
"""Providers for which the written head of one connection is kept."""
MAX_WRITTEN_HEAD_BYTES: Final = 4 << 10
"""Larger heads are written anew for each request, so that an idle connection holds little."""

BODILESS_METHODS: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})

CLIENT_POLL_S: Final = 0.1
"""How often a client is looked at while its upload is stalled, because nothing is read from it then."""

CREDENTIAL_NAMES: Final = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"})

IDENTITY: Final = (b"Accept-Encoding", b"identity")
"""Asked for where the response is read for usage and completeness."""


class Try:
    """One try at one remote provider.

    Args:
        endpoint: of a remote provider.
        client_key: the client's own key where it may go to this provider.
        is_last: no other candidate is left, so an error of the provider is relayed as it is.
    """

    __slots__ = (
        "_candidate",
        "_client_key",
        "_dispatch",
        "_endpoint",
        "_exchange",
        "_is_last",
        "_observer",
        "_operation",
        "_provider",
        "_sink",
        "_wire",
    )

    def __init__(
        self,
        exchange: Exchange,
        sink: Sink,
        candidate: Candidate,
        endpoint: Endpoint,
        provider: RemoteProvider,
        dispatch: Dispatch,
        client_key: str | None,
        is_last: bool,
    ) -> None:
        self._exchange = exchange
        self._sink = sink
        self._candidate = candidate
        self._endpoint = endpoint
        self._provider = provider
        self._dispatch = dispatch
        self._client_key = client_key
        self._is_last = is_last
        self._operation = exchange.request.operation
        self._wire: Format | None = None if self._operation.name == "raw" else provider.format
        """The provider's format where it is the client's too, or is translated to; None on raw paths."""
        self._observer: ResponseObserver | None = None

    async def run(self, pool: Pool, tasks: Tasks, write_timeout_s: float) -> None:
        """Make the call and see its response through to the sink.

        Args:
            write_timeout_s: how long the client may take nothing.
        Raises:
            UpstreamError: no usable response, or one that broke off; `sink.is_started` tells which.
            Overloaded: the provider's queue is full.
            ConnectionError: the client left.
        """
        head, body, sink = self._call()
        request = self._exchange.request
        upload, is_head = request.upload, request.method == "HEAD"
        timeouts = self._provider.settings.timeouts
        connection = pool.take() or await pool.connect()
        while True:
            relay = Relay(sink, self._decide)
            try:
                connection.send(head, body, relay, is_head, timeouts, is_upload=upload is not None)
                if upload is None:
                    await relay.run(connection, write_timeout_s)
                else:
                    await self._run_upload(relay, connection, tasks, write_timeout_s)
                break
            except StaleConnection:
                if upload is not None:
                    raise
                connection = await pool.connect()
            except BaseException:
                self._take_usage()
                raise
        if relay.is_refused and relay.head is not None:
            raise self._refusal(relay.head, relay.refused_body)
        self._take_usage()

    # -- the call ------------------------------------------------------------------------------------------------

    def _call(self) -> tuple[bytes, bytes, Sink]:
        """Write the request head and body, and choose the sink that fits the client."""
        request, wire = self._exchange.request, self._wire
        if wire is not None and wire.name != self._operation.format:
            return self._translated_call(wire)
        body, model, upload = request.body, self._candidate.model, request.upload
        if model is not None and self._exchange.named_provider is None:
            document = request.document
            if document is not None:
                if document.get("model", model) != model:
                    body = replace_model(body, document, model)
            elif upload is not None and model != request.model:
                raise self._fixed_form(model)
        head = self._begin_head(model)
        if upload is not None:
            return frame_head(head, upload.length, is_chunked=upload.length is None), body, self._sink
        length = len(body)
        return frame_head(head, length if length or request.method not in BODILESS_METHODS else None), body, self._sink

    def _fixed_form(self, model: str) -> ClientError:
        asked = self._exchange.request.model
        return ClientError(
            f"{self._provider.name} knows {asked!r} as {model!r}, and a form is passed on as it is: send that name"
        )

    def _begin_head(self, model: str | None) -> bytes:
        """Write the request head up to its framing, with the right key for the provider, and only that.

        Clients repeat their headers request after request: the head written last is taken again where all is alike,
        but never one that carries a client's own key.

        Raises:
            ClientError: something of the client's would break out of its line.
        """
        request, provider, rules = self._exchange.request, self._provider, self._endpoint.rules
        headers = tuple(request.headers)  # a plugin's list may change afterwards
        is_plain = self._wire is not None and self._client_key is None
        asked = (
            (provider, self._operation, model, headers, request.method, request.path, request.query)
            if is_plain
            else None
        )
        if asked is not None:
            known = request.written_heads.get(provider.name)
            if known is not None and known[0] == asked:
                return known[1]
        path = request.path
        if self._wire is None:
            query, own = self._own_on_raw_path()
        else:
            path = provider.call_path(self._operation, request, model)
            query = strip_query_key(request.query)
            own = [*provider.own_headers(self._client_key, headers), IDENTITY]
        lines = write_request_headers(rules.choose(headers, own))
        head = begin_head(request.method.encode("ascii"), provider.target(path, query), provider.host_header, lines)
        if asked is not None and len(head) <= MAX_WRITTEN_HEAD_BYTES:
            if len(request.written_heads) >= MAX_WRITTEN_HEADS:
                request.written_heads.clear()
            request.written_heads[provider.name] = asked, head
        return head

    def _own_on_raw_path(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """On raw paths the client's own credentials pass as they are, where the proxy holds none for the provider."""
        request, provider = self._exchange.request, self._provider
        own = provider.own_headers(None, request.headers)
        if encoding := request.header(b"accept-encoding"):
            own = [*own, (b"Accept-Encoding", encoding)]
        is_withheld = self._client_key is None and self._exchange.caller is not None
        if provider.has_credential or is_withheld:
            return strip_query_key(request.query), own
        theirs = [header for header in request.headers if header[0].lower() in CREDENTIAL_NAMES]
        return request.query, [*own, *theirs]

    def _translated_call(self, wire: Format) -> tuple[bytes, bytes, Sink]:
        request, provider = self._exchange.request, self._provider
        client_wire = FORMATS[self._operation.format]
        chat = client_wire.read_request(self._operation, request.document or {})
        chat.model = self._candidate.model
        chat.include_usage = chat.is_streaming
        name, document = wire.write_request(chat)
        operation = wire.operation(name)
        path, _, query = wire.upstream_path(operation, chat.model).partition(b"?")
        body = orjson.dumps(document)
        own = [(b"Content-Type", b"application/json"), *provider.own_headers(self._client_key, request.headers)]
        if wire.name == "anthropic" and not any(name.lower() == ANTHROPIC_VERSION[0] for name, _ in own):
            own.append(ANTHROPIC_VERSION)
        head = begin_head(b"POST", provider.target(path, query), provider.host_header, write_request_headers(own))
        head = frame_head(head, len(body))
        sink = TranslatedSink(self._sink, self._translation(wire, operation, client_wire))
        self._operation = operation
        return head, body, sink

    def _translation(self, wire: Format, operation: Operation, client_wire: Format) -> ReplyTranslation:
        exchange = self._exchange
        opening = Completion(exchange.id, self._candidate.model or "", "")

        def facts() -> ReplyFacts:
            latency_ms = (time.monotonic() - exchange.received_s) * 1000
            return ReplyFacts(self._provider.name, False, round(latency_ms, 1), exchange.trace_id)

        return ReplyTranslation(
            (wire, operation),
            (client_wire, exchange.request.operation),
            is_streaming=exchange.request.is_streaming,
            opening=opening,
            facts=facts,
        )

    # -- the response --------------------------------------------------------------------------------------------

    @property
    def _is_translated(self) -> bool:
        return self._operation is not self._exchange.request.operation

    def _decide(self, head: ResponseHead) -> Passage | None:
        """Say how a response goes to the client; None if it does not."""
        status, wire = head.status, self._wire
        self._exchange.attempts[-1].status = status
        if status >= 400:
            if status in (401, 403) and self._provider.has_credential:
                return None
            if self._is_translated or (not self._is_last and status in FAILOVER_STATUSES):
                return None
        lines = head.lines
        if wire is None and head.cookie_lines:
            lines = [*lines, *head.cookie_lines]
        if head.request_id:
            lines = [*lines, b"X-Upstream-Request-Id: " + head.request_id]
        if status >= 400 and len(self._exchange.attempts) > 1:
            lines = [line for line in lines if not line.lower().startswith(b"x-should-retry:")]
            lines += [b"x-should-retry: false", b"X-Attempts: %d" % len(self._exchange.attempts)]
        headers = b"\r\n".join([*lines, b""])
        if wire is None or status >= 300 or not head.has_body:
            return Passage(headers)
        if head.is_encoded:
            return Passage(headers)
        content_type = head.content_type.lower()
        is_stream = content_type.startswith((b"text/event-stream", b"application/x-ndjson"))
        observer = self._observer = wire.observer(self._operation, is_stream)
        if not is_stream:
            return Passage(headers, observer, is_held=True)
        is_sse = content_type.startswith(b"text/event-stream")
        dispatch = self._dispatch
        filtering = None
        if dispatch.has_stream_filters and not self._is_translated:
            stream_filter = dispatch.filters(self._exchange)
            if stream_filter is not None:
                filtering = Filtering(stream_filter, EventSplitter() if is_sse else LineSplitter())
        boundaries = SSE_BOUNDARIES if is_sse else LINE_BOUNDARIES
        return Passage(headers, observer, is_held=True, boundaries=boundaries, filtering=filtering)

    def _take_usage(self) -> None:
        """Take over what the response said of itself, also where it did not end well."""
        if self._observer is not None:
            self._exchange.usage = self._observer.usage
            self._exchange.served_model = self._observer.served_model

    def _refusal(self, head: ResponseHead, body: bytes) -> UpstreamError:
        name, status = self._provider.name, head.status
        if status in (401, 403) and self._provider.has_credential:
            return UpstreamAuth(
                f"{name} refused the key that this proxy holds for it (status {status}); check providers.{name}.apiKey",
                provider=name,
            )
        message = f"{name} answered with status {status}"
        if self._is_translated and (text := _error_text(body)):
            message = f"{message}: {text}"
        return UpstreamRejected(message, status=status, provider=name, retry_after_s=_retry_after(head))

    # -- uploads -------------------------------------------------------------------------------------------------

    async def _run_upload(self, relay: Relay, connection: Connection, tasks: Tasks, write_timeout_s: float) -> None:
        """Send the body while the response may already come."""
        pump = tasks.spawn(self._pump(relay, connection), name="upload")
        try:
            await relay.run(connection, write_timeout_s)
        except UpstreamError:
            if pump.done() and not pump.cancelled() and (cause := pump.result()) is not None:
                raise cause from None
            raise
        finally:
            pump.cancel()
            await asyncio.wait((pump,))  # it holds the client's stream until it has run

    async def _pump(self, relay: Relay, connection: Connection) -> Exception | None:
        """Send the body; return what the client did wrong, after breaking the call off for it."""
        upload = self._exchange.request.upload
        if upload is None:
            return None
        is_chunked = upload.length is None
        try:
            async for part in upload:
                if relay.is_over:
                    return None
                if not connection.write_body(frame_chunk(part) if is_chunked else part):
                    await _drained(connection, upload.is_client_gone)
            connection.end_body(LAST_CHUNK if is_chunked else b"")
        except (ClientError, ConnectionError) as error:
            if not relay.is_over:
                connection.abort()
                relay.on_failure(UpstreamError("the upload ended early"))
            return error
        return None


async def _drained(connection: Connection, is_client_gone: Callable[[], bool]) -> None:
    """Wait until the provider takes more; raises ConnectionResetError when the client leaves meanwhile."""
    while True:
        try:
            async with asyncio.timeout(CLIENT_POLL_S):
                await connection.drain()
            return
        except TimeoutError:
            if is_client_gone():
                raise ConnectionResetError("the client left during its upload") from None


def _retry_after(head: ResponseHead) -> float | None:
    value = head.header(b"retry-after")
    return float(value) if value is not None and value.isdigit() else None


def _error_text(body: bytes) -> str:
    """Find the vendor's own words in an error body; empty if there are none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    return text[:500] if isinstance(text, str) else ""
