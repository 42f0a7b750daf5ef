"""One call of one provider: sends the request, decides about the response from its head, relays or translates it."""

import time
from collections.abc import Callable

from proxy.errors import StaleConnection, UpstreamError, UpstreamRejected
from proxy.exchange import Attempt, Candidate, Exchange, ResponseHead, ResponseObserver, Sink
from proxy.formats.attempts import attempt_lines
from proxy.formats.base import Format
from proxy.formats.neutral import Completion, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.formats.sse import EventSplitter, LineSplitter
from proxy.formats.translation import ReplyTranslation
from proxy.host.dispatch import Dispatch
from proxy.journey.kept import KeptReply, refusal, with_last_word
from proxy.journey.outgoing import Outgoing
from proxy.journey.upload import run_upload
from proxy.providers.base import RemoteProvider
from proxy.redaction import MASK, MIN_SECRET_LENGTH
from proxy.tasks import Tasks
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.pool import Pool
from proxy.upstream.relay import LINE_BOUNDARIES, SSE_BOUNDARIES, Filtering, Passage, Relay
from proxy.upstream.translated import TranslatedSink


class Call:
    """One call of one remote provider.

    Args:
        attempt: what is noted of it; its status and time to first byte are set here.
        endpoint: of a remote provider.
        credential: the provider's key to use; None where this proxy holds none.
        client_key: the client's own key where it may go to this provider.
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
        goes_on: tells whether somebody else is asked after an error, so that the client must not see it.
        on_start: called when the client's response begins.
    """

    __slots__ = (
        "_attempt",
        "_clock",
        "_dispatch",
        "_endpoint",
        "_exchange",
        "_goes_on",
        "_model",
        "_observer",
        "_on_start",
        "_outgoing",
        "_provider",
        "_secret",
        "_sink",
        "_wall_clock",
        "_wire",
        "head",
        "passed_on",
    )

    def __init__(
        self,
        exchange: Exchange,
        sink: Sink,
        candidate: Candidate,
        attempt: Attempt,
        endpoint: Endpoint,
        provider: RemoteProvider,
        dispatch: Dispatch,
        *,
        credential: str | None,
        client_key: str | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        goes_on: Callable[[UpstreamError], bool],
        on_start: Callable[[], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._sink = sink
        self._attempt = attempt
        self._endpoint = endpoint
        self._provider = provider
        self._dispatch = dispatch
        self._clock = clock
        self._wall_clock = wall_clock
        self._goes_on = goes_on
        self._on_start = on_start
        self._secret = credential
        wire: Format | None = None if exchange.request.operation.name == "raw" else provider.format
        self._wire = wire
        """The provider's format where it is the client's too, or is translated to; None on raw paths."""
        self._outgoing = Outgoing(
            exchange, candidate, endpoint, provider, credential=credential, client_key=client_key, wire=wire
        )
        self._model = candidate.model
        self._observer: ResponseObserver | None = None
        self.head: ResponseHead | None = None
        """Of the final response, once it has come."""
        self.passed_on: UpstreamError | None = None
        """What the response means that went to the client although it is an error."""

    async def run(self, pool: Pool, tasks: Tasks, write_timeout_s: float) -> None:
        """Make the call and see its response through to the sink.

        Args:
            write_timeout_s: how long the client may take nothing.
        Raises:
            KeptReply: the provider answered with an error of its own.
            UpstreamError: no usable response, or one that broke off; `sink.is_started` tells which.
            ConnectionError: the client left.
        """
        head, body = self._outgoing.write()
        sink = self._translated_sink(self._wire) if self._is_translated and self._wire is not None else self._sink
        request = self._exchange.request
        upload, is_head = request.upload, request.method == "HEAD"
        timeouts = self._provider.settings.timeouts
        connection = pool.take()
        is_fresh = connection is None
        connection = connection or await pool.connect()
        while True:
            relay = Relay(sink, self._decide, self._release)
            try:
                connection.send(head, body, relay, is_head, timeouts, is_upload=upload is not None)
                if upload is None:
                    await relay.run(connection, write_timeout_s)
                else:
                    await run_upload(upload, relay, connection, tasks, write_timeout_s)
                break
            except StaleConnection:
                if upload is not None or is_fresh:
                    raise
                connection, is_fresh = await pool.connect(), True
            except UpstreamError as error:
                self._take_usage()
                if relay.is_refused and relay.head is not None:  # its status says more than how its text broke off
                    raise self._refusal(relay.head, relay.refused_body) from error
                raise
            except BaseException:
                self._take_usage()
                raise
        if relay.is_refused and relay.head is not None:
            raise self._kept(relay, relay.head)
        self._take_usage()

    def _translated_sink(self, wire: Format) -> Sink:
        """Make the sink that turns the reply into the client's format."""
        exchange = self._exchange
        opening = Completion(exchange.id, self._model or "", "")

        def facts() -> ReplyFacts:
            latency_ms = (time.monotonic() - exchange.received_s) * 1000
            return ReplyFacts(self._provider.name, False, round(latency_ms, 1), exchange.trace_id)

        client_operation = exchange.request.operation
        translation = ReplyTranslation(
            (wire, self._outgoing.operation),
            (FORMATS[client_operation.format], client_operation),
            is_streaming=exchange.request.is_streaming,
            opening=opening,
            facts=facts,
        )
        return TranslatedSink(self._sink, translation, self._told)

    # -- the response --------------------------------------------------------------------------------------------

    @property
    def _is_translated(self) -> bool:
        return self._outgoing.operation is not self._exchange.request.operation

    def _told(self) -> bytes:
        """Write the headers that tell who answered after how many attempts."""
        exchange = self._exchange
        return self._endpoint.told if len(exchange.attempts) == 1 else attempt_lines(exchange, self._provider.name)

    def _lines(self, head: ResponseHead, told: bytes) -> bytes:
        lines = head.lines
        if self._wire is None and head.cookie_lines:
            lines = [*lines, *head.cookie_lines]
        if head.request_id:
            return b"\r\n".join([*lines, b"X-Upstream-Request-Id: " + head.request_id, told])
        return b"\r\n".join([*lines, told])

    def _release(self, head: ResponseHead, body: bytes) -> Passage | None:
        """Let an error through that is too large to be kept; None where the client must not see it, or not yet."""
        error = self._refusal(head, body)
        if self._is_translated or not isinstance(error, UpstreamRejected) or self._goes_on(error):
            return None
        self.passed_on = error
        lines = self._lines(head, self._told())
        is_final = len(self._exchange.attempts) > 1
        return Passage(with_last_word(lines) if is_final else lines, on_start=self._on_start)

    def _decide(self, head: ResponseHead) -> Passage | None:
        """Say how a response goes to the client; None if it does not, or not yet."""
        status, wire, attempt = head.status, self._wire, self._attempt
        self.head = head
        attempt.status = status
        if status >= 400:
            attempt.first_byte_s = self._clock() - attempt.started_s
            return None
        headers = self._lines(head, self._told())
        on_start = self._began
        if wire is None or status >= 300 or not head.has_body:
            return Passage(headers, on_start=on_start)
        if head.is_encoded:
            return Passage(headers, on_start=on_start)
        content_type = head.content_type.lower()
        is_stream = content_type.startswith((b"text/event-stream", b"application/x-ndjson"))
        observer = self._observer = wire.observer(self._outgoing.operation, is_stream)
        if not is_stream:
            return Passage(headers, observer, is_held=True, on_start=on_start)
        is_sse = content_type.startswith(b"text/event-stream")
        dispatch = self._dispatch
        filtering = None
        if dispatch.has_stream_filters and not self._is_translated:
            stream_filter = dispatch.filters(self._exchange)
            if stream_filter is not None:
                filtering = Filtering(stream_filter, EventSplitter() if is_sse else LineSplitter())
        boundaries = SSE_BOUNDARIES if is_sse else LINE_BOUNDARIES
        return Passage(headers, observer, is_held=True, boundaries=boundaries, filtering=filtering, on_start=on_start)

    def _began(self) -> None:
        """Note that the client's response begins: with the first output of a stream, not with its head."""
        attempt = self._attempt
        attempt.first_byte_s = self._clock() - attempt.started_s
        if self._on_start is not None:
            self._on_start()

    def _take_usage(self) -> None:
        """Take over what the response said of itself, also where it did not end well; not of one that lost its race."""
        if self._observer is not None and self._exchange.attempt is self._attempt:
            self._exchange.usage = self._observer.usage
            self._exchange.served_model = self._observer.served_model

    def _refusal(self, head: ResponseHead, body: bytes) -> UpstreamError:
        """Make the error that the provider's refusal is."""
        provider = self._provider
        return refusal(
            provider.name,
            head,
            body,
            holds_key=provider.has_credential,
            is_quoted=self._is_translated,
            wall_s=self._wall_clock(),
        )

    def _kept(self, relay: Relay, head: ResponseHead) -> UpstreamError:
        """Make the error with the reply itself, where the client may see that and it is whole."""
        body = relay.refused_body
        error = self._refusal(head, body)
        if self._is_translated or relay.is_refusal_cut or not isinstance(error, UpstreamRejected):
            return error
        body, lines = self._without_secret(body), self._without_secret(self._lines(head, b""))
        length = len(body) if head.has_body else head.content_length or 0
        return KeptReply(error, lines, body, length, has_body=head.has_body)

    def _without_secret(self, data: bytes) -> bytes:
        """Take our key out of what a provider says: some repeat the one that they refuse."""
        secret = (self._secret or "").encode("latin-1", "replace")
        return data.replace(secret, MASK.encode()) if len(secret) >= MIN_SECRET_LENGTH else data
