"""One call of one provider: sends the request, decides about the response from its head, relays or translates it."""

import time
from collections.abc import Callable

from proxy.errors import StaleConnection, UpstreamError, UpstreamRejected
from proxy.exchange import Attempt
from proxy.formats.attempts import attempt_lines
from proxy.formats.base import Format
from proxy.formats.neutral import Completion, ReplyFacts
from proxy.formats.registry import FORMATS
from proxy.formats.sse import EventSplitter, LineSplitter
from proxy.formats.translation import ReplyTranslation
from proxy.host.dispatch import Dispatch
from proxy.journey.kept import KeptReply, refusal, with_last_word
from proxy.journey.kit import Kit, MayGoOn
from proxy.journey.outgoing import Outgoing
from proxy.journey.race import Contender
from proxy.journey.upload import run_upload
from proxy.redaction import MASK, MIN_SECRET_LENGTH
from proxy.routing.failures import judge
from proxy.routing.plan import Target
from proxy.sink import ResponseHead, ResponseObserver, Sink
from proxy.upstream.pool import Pool
from proxy.upstream.relay import LINE_BOUNDARIES, SSE_BOUNDARIES, Filtering, Passage, Relay
from proxy.upstream.translated import TranslatedSink


class Call:
    """One call of one remote provider; made cheaply, as Attempt is.

    Args:
        target: who is asked.
        may_go_on: tells whether somebody else is after an error, so that the client must not see it.
        attempt: what is noted of it; its status and time to first byte are set here.
        on_start: called when the client's response begins.
    """

    _observer: ResponseObserver | None = None
    _translated: TranslatedSink | None = None
    """The sink of a reply that is translated."""
    head: ResponseHead | None = None
    """Of the final response, once it has come."""
    passed_on: UpstreamError | None = None
    """What the response means that went to the client although it is an error."""

    def __init__(
        self,
        outgoing: Outgoing,
        sink: Sink,
        target: Target,
        may_go_on: MayGoOn,
        attempt: Attempt,
        dispatch: Dispatch,
        kit: Kit,
        on_start: Callable[[], None] | None,
    ) -> None:
        self._outgoing = outgoing
        self._sink = sink
        self._target = target
        self._may_go_on = may_go_on
        self._attempt = attempt
        self._dispatch = dispatch
        self._kit = kit
        self._on_start = on_start

    async def run(self, pool: Pool, write_timeout_s: float) -> None:
        """Make the call and see its response through to the sink.

        Args:
            write_timeout_s: how long the client may take nothing.
        Raises:
            KeptReply: the provider answered with an error of its own.
            UpstreamError: no usable response, or one that broke off; `sink.is_started` tells which.
            ConnectionError: the client left.
        """
        outgoing, sink = self._outgoing, self._sink
        head, body = outgoing.write()
        if outgoing.is_translated and outgoing.wire is not None:
            sink = self._translated = self._translated_sink(outgoing.wire)
        request = outgoing.exchange.request
        upload, is_head = request.upload, request.method == "HEAD"
        timeouts = outgoing.provider.settings.timeouts
        connection = pool.take() if upload is None else None  # it may be stale, and an upload cannot be sent again
        is_fresh = connection is None
        connection = connection or await pool.connect()
        while True:
            relay = Relay(sink, self._decide, self._release)
            try:
                connection.send(head, body, relay, is_head, timeouts, is_upload=upload is not None)
                if upload is None:
                    await relay.run(connection, write_timeout_s)
                else:
                    await run_upload(upload, relay, connection, self._kit.tasks, write_timeout_s)
                break
            except StaleConnection:
                if is_fresh:
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

    def _translated_sink(self, wire: Format) -> TranslatedSink:
        """Make the sink that turns the reply into the client's format."""
        outgoing = self._outgoing
        exchange = outgoing.exchange
        opening = Completion(exchange.id, outgoing.model or "", "")

        def facts() -> ReplyFacts:
            latency_ms = (time.monotonic() - exchange.received_s) * 1000
            return ReplyFacts(outgoing.provider.name, False, round(latency_ms, 1), exchange.trace_id)

        client_operation = exchange.request.operation
        translation = ReplyTranslation(
            (wire, outgoing.operation),
            (FORMATS[client_operation.format], client_operation),
            is_streaming=exchange.request.is_streaming,
            opening=opening,
            facts=facts,
        )
        return TranslatedSink(self._sink, translation, self._told, self._began)

    # -- the response --------------------------------------------------------------------------------------------

    def _goes_on(self, error: UpstreamError) -> bool:
        """Tell whether somebody else may be asked, or is being asked."""
        verdict = judge(error)
        if isinstance(self._sink, Contender):
            return verdict.kind is not None
        return self._may_go_on(self._target, verdict, self._kit.clock())

    def _told(self) -> bytes:
        """Write the headers that tell who answered after how many attempts."""
        outgoing = self._outgoing
        if len(outgoing.exchange.attempts) == 1:
            return outgoing.endpoint.told
        return attempt_lines(outgoing.exchange, outgoing.provider.name)

    def _lines(self, head: ResponseHead, told: bytes) -> bytes:
        lines = head.lines
        if head.limit_lines and self._outgoing.exchange.tells_limits:
            lines = [line for line in lines if line not in head.limit_lines]
        if head.cookie_lines and self._outgoing.wire is None:
            lines = [*lines, *head.cookie_lines]
        if head.request_id:
            return b"\r\n".join([*lines, b"X-Upstream-Request-Id: " + head.request_id, told])
        return b"\r\n".join([*lines, told])

    def _release(self, head: ResponseHead, body: bytes) -> Passage | None:
        """Let an error through that is too large to be kept; None where the client must not see it, or not yet."""
        error = self._refusal(head, body)
        if self._outgoing.is_translated or not isinstance(error, UpstreamRejected) or self._goes_on(error):
            return None
        self.passed_on = error
        lines = self._lines(head, self._told())
        is_final = len(self._outgoing.exchange.attempts) > 1
        return Passage(with_last_word(lines) if is_final else lines, on_start=self._on_start)

    def _decide(self, head: ResponseHead) -> Passage | None:
        """Say how a response goes to the client; None if it does not, or not yet."""
        status, wire, attempt = head.status, self._outgoing.wire, self._attempt
        self.head = head
        attempt.status = status
        if status >= 400:
            return None
        headers = self._lines(head, self._told())
        on_start = None if self._outgoing.is_translated else self._began  # then the sink knows
        if wire is None or status >= 300 or not head.has_body:
            return Passage(headers, on_start=on_start)
        if head.is_encoded:
            return Passage(headers, on_start=on_start)
        content_type = head.content_type.lower()
        is_stream = content_type.startswith((b"text/event-stream", b"application/x-ndjson"))
        observer = self._observer = wire.observer(self._outgoing.operation, is_stream)
        if not is_stream:
            return Passage(headers, observer, is_held=True, on_start=None if self._translated else self._on_start)
        is_sse = content_type.startswith(b"text/event-stream")
        filtering = self._filtering(content_type) if self._dispatch.has_stream_filters else None
        boundaries = SSE_BOUNDARIES if is_sse else LINE_BOUNDARIES
        return Passage(headers, observer, is_held=True, boundaries=boundaries, filtering=filtering, on_start=on_start)

    def _filtering(self, content_type: bytes) -> Filtering | None:
        """Give the plugins' filters of a stream; those of one that is translated come behind its translation."""
        stream_filter = self._dispatch.filters(self._outgoing.exchange)
        if stream_filter is None:
            return None
        translated = self._translated
        is_sse = (content_type if translated is None else translated.content_type).startswith(b"text/event-stream")
        filtering = Filtering(stream_filter, EventSplitter() if is_sse else LineSplitter())
        if translated is None:
            return filtering
        translated.filter_by(filtering)
        return None

    def _began(self) -> None:
        """Note that the client's response begins: with the first output of a stream, not with its head."""
        attempt = self._attempt
        attempt.first_byte_s = self._kit.clock() - attempt.started_s
        if self._on_start is not None:
            self._on_start()

    def _take_usage(self) -> None:
        """Take over what the response said of itself, also where it did not end well; not of one that lost its race."""
        exchange, observer = self._outgoing.exchange, self._observer
        if observer is not None and exchange.attempt is self._attempt:
            exchange.usage = observer.usage
            exchange.served_model = observer.served_model
            if observer.error is not None:
                exchange.fault = observer.error

    def _refusal(self, head: ResponseHead, body: bytes) -> UpstreamError:
        """Make the error that the provider's refusal is."""
        provider = self._outgoing.provider
        return refusal(
            provider.name,
            head,
            body,
            holds_key=provider.has_credential,
            is_quoted=self._outgoing.is_translated,
            wall_s=self._kit.wall_clock(),
        )

    def _kept(self, relay: Relay, head: ResponseHead) -> UpstreamError:
        """Make the error with the reply itself, where the client may see that and it is whole."""
        body = relay.refused_body
        error = self._refusal(head, body)
        if self._outgoing.is_translated or relay.is_refusal_cut or not isinstance(error, UpstreamRejected):
            return error
        body, lines = self._without_secret(body), self._without_secret(self._lines(head, b""))
        length = len(body) if head.has_body else head.content_length or 0
        return KeptReply(error, lines, body, length, has_body=head.has_body)

    def _without_secret(self, data: bytes) -> bytes:
        """Take our key out of what a provider says: some repeat the one that they refuse."""
        secret = (self._outgoing.credential or "").encode("latin-1", "replace")
        return data.replace(secret, MASK.encode()) if len(secret) >= MIN_SECRET_LENGTH else data
