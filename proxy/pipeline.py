"""One exchange's journey: hooks, candidates, attempts, and the note of how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from proxy.attempt import Try
from proxy.errors import (
    MalformedBody,
    Overloaded,
    ProxyError,
    UnknownPath,
    UpstreamAuth,
    UpstreamError,
)
from proxy.events import Events
from proxy.exchange import Attempt, Candidate, Exchange, Reply, Sink, write_headers
from proxy.host.dispatch import Dispatch
from proxy.metrics import LATENCY_BUCKETS_S, Distribution, Registry, Value
from proxy.providers.base import RemoteProvider
from proxy.redaction import Redactor
from proxy.reload.generation import Generation
from proxy.reload.vitals import Totals
from proxy.tasks import Tasks
from proxy.upstream.slots import Slots

CLIENT_LEFT: Final = 499
"""Status noted for an exchange whose client left first; never sent."""

TRANSLATIONS: Final = {"native": frozenset({"openai", "anthropic", "gemini", "ollama"})}
"""Formats a path of the first can be translated to."""

MAX_KNOWN_SERIES: Final = 1000

LocalAnswer = Callable[[Generation, Exchange], Reply | None]
"""Answers from the configuration what needs no provider."""

NO_LATENCY: Final = (0,) * (len(LATENCY_BUCKETS_S) + 1)

NOTHING: Final[frozenset[str]] = frozenset()


class Pipeline:
    """Carries exchanges from the parsed request to the last byte; lives as long as the process.

    Args:
        generation: the revision that new exchanges use; swapped as a whole.
        redactor: takes secrets out of what clients are told: a vendor's own words may repeat the key they refuse.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        metrics: Registry,
        events: Events,
        tasks: Tasks,
        redactor: Redactor,
        clock: Callable[[], float],
    ) -> None:
        self.generation = generation
        self.in_flight = 0
        self._redactor = redactor
        self._events = events
        self._tasks = tasks
        self._clock = clock
        settings = generation.settings
        self.slots = Slots(
            settings.max_concurrency, settings.max_queue, settings.queue_timeout, "this proxy (maxConcurrency)", clock
        )
        self._requests = metrics.counter(
            "http_requests_total", "Requests on the data side, by what they asked for.", ("route", "method", "status")
        )
        self._durations = metrics.histogram(
            "request_duration_seconds", "Time from a request's head to its last byte.", ("route",)
        )
        self._failures = metrics.counter(
            "request_failures_total", "Requests that ended in a 5xx status or a broken response."
        ).series()
        self._series: dict[tuple[str, str, str, int], tuple[Value, Distribution]] = {}
        metrics.gauge("inflight_requests", "Requests in work.", read=lambda: self.in_flight)
        metrics.gauge("queue_depth", "Requests waiting for `maxConcurrency`.", read=lambda: self.slots.waiting)

    def use(self, generation: Generation) -> None:
        """Put a generation in force for every exchange that begins from now on."""
        earlier, self.generation = self.generation, generation
        settings = generation.settings
        self.slots.resize(settings.max_concurrency, settings.max_queue, settings.queue_timeout)
        generation.take_over(earlier)

    def totals(self) -> Totals:
        """Sum up all requests since the start."""
        series = [one for _, one in self._durations.items()]
        latency = map(sum, zip(*(one.counts for one in series), strict=True)) if series else NO_LATENCY
        requests = sum(value.value for _, value in self._requests.items())
        return Totals(requests, self._failures.value, tuple(latency))

    async def run(self, exchange: Exchange, sink: Sink, local: LocalAnswer | None = None) -> None:
        """See an exchange through to its end; errors are told to the client through the sink.

        Args:
            local: asked after the plugins; None from it leaves the answer to a provider.
        Raises:
            asyncio.CancelledError: the client left, or the process is stopping.
        """
        generation = self.generation
        dispatch = generation.host.dispatch
        exchange.revision = generation.revision
        self.in_flight += 1
        has_slot = False
        try:
            has_slot = self.slots.try_take()
            if not has_slot:
                await self.slots.take()
                has_slot = True
            reply = await dispatch.run_pre_request(exchange) if dispatch.pre_request else None
            if reply is None and local is not None:
                reply = local(generation, exchange)
            if reply is not None:
                await self._deliver(generation, exchange, sink, reply)
            elif len(candidates := self._choose(generation, dispatch, exchange)) == 1:
                await self._attempt(generation, dispatch, exchange, sink, candidates[0], True)
            else:
                await self._try_in_turn(generation, dispatch, exchange, sink)
        except ProxyError as error:
            self._fail(exchange, sink, error)
        except ConnectionError:
            exchange.status = CLIENT_LEFT
            sink.abort()
        except asyncio.CancelledError:
            exchange.status = CLIENT_LEFT
            raise
        except Exception as error:  # a defect of ours: contained, told, never shown in detail
            self._events.emit("ERROR", "internal_error", f"exchange {exchange.id}: {error!r}", request_id=exchange.id)
            self._fail(exchange, sink, ProxyError("internal error; the log has it under this request id"))
        finally:
            if has_slot:
                self.slots.release()
            self.in_flight -= 1
            self._note(generation, exchange)
            if dispatch.post_response:
                await dispatch.run_post_response(exchange)

    async def abandon(self, exchange: Exchange) -> None:
        """End an exchange whose client left before its request was whole."""
        generation = self.generation
        exchange.revision = generation.revision
        exchange.status = CLIENT_LEFT
        self._note(generation, exchange)
        if (dispatch := generation.host.dispatch).post_response:
            await dispatch.run_post_response(exchange)

    async def refuse(self, exchange: Exchange, sink: Sink, error: ProxyError) -> None:
        """End an exchange that could not even begin, with the error the client is told."""
        generation = self.generation
        exchange.revision = generation.revision
        try:
            self._fail(exchange, sink, error)
        finally:
            self._note(generation, exchange)
            if (dispatch := generation.host.dispatch).post_response:
                await dispatch.run_post_response(exchange)

    # -- the way in ----------------------------------------------------------------------------------------------

    def _choose(self, generation: Generation, dispatch: Dispatch, exchange: Exchange) -> Sequence[Candidate]:
        """List who may be asked, in order; at least one."""
        candidates = exchange.rivals = self._find(generation, exchange)
        if exchange.request.model is None:
            candidates = candidates[:1]
        elif len(candidates) > 1:
            candidates = dispatch.select(exchange, candidates)
            if not generation.settings.enable_fallback_providers or exchange.request.upload is not None:
                candidates = candidates[:1]
        exchange.candidates = candidates
        return candidates

    async def _try_in_turn(self, generation: Generation, dispatch: Dispatch, exchange: Exchange, sink: Sink) -> None:
        """Ask one candidate after the other, until one answers or the client has seen output."""
        candidates = exchange.candidates
        last = len(candidates) - 1
        for index, candidate in enumerate(candidates):
            try:
                await self._attempt(generation, dispatch, exchange, sink, candidate, index == last)
                return
            except (UpstreamError, Overloaded) as error:
                if index == last or sink.is_started:
                    if index:
                        tried = ", ".join(f"{one.provider} ({one.error or 'cut'})" for one in exchange.attempts)
                        error.message = f"{error.message}; attempt {index + 1} of {last + 1}, tried {tried}"
                    raise
                self._events.emit(
                    "WARN",
                    "failover",
                    f"{candidate.provider} failed ({error.code}), trying {candidates[index + 1].provider}",
                    request_id=exchange.id,
                    provider=candidate.provider,
                )

    def _find(self, generation: Generation, exchange: Exchange) -> Sequence[Candidate]:
        request = exchange.request
        format_name = request.operation.format
        if exchange.named_provider is not None:
            if exchange.named_provider not in generation.endpoints:
                known = ", ".join(generation.endpoints)
                raise UnknownPath(f"there is no provider {exchange.named_provider[:64]!a}; there are {known}")
            return (Candidate(exchange.named_provider, request.model),)
        if request.model is None and format_name == "native":
            request.model = generation.settings.native.default_model or generation.candidates.first_model()
            if request.model is None:
                raise MalformedBody("model: the field is missing, and native.defaultModel is not set")
        if request.model is None:
            return generation.candidates.default(format_name)
        return generation.candidates.find(request.model, format_name, TRANSLATIONS.get(format_name, NOTHING))

    async def _attempt(
        self,
        generation: Generation,
        dispatch: Dispatch,
        exchange: Exchange,
        sink: Sink,
        candidate: Candidate,
        is_last: bool,
    ) -> None:
        endpoint = generation.endpoints[candidate.provider]
        slots = endpoint.slots
        if not slots.try_take():
            await slots.take()
        started_s = self._clock()
        attempt = Attempt(candidate.provider, candidate.model, started_s)
        exchange.attempts.append(attempt)
        exchange.provider = candidate.provider
        failure: ProxyError | None = None
        is_cancelled = True
        try:
            if (remote := endpoint.remote) is not None and (pool := endpoint.pool) is not None:
                key = exchange.caller
                if key is not None and not self._may_see_client_key(generation, exchange, remote):
                    key = None
                one = Try(exchange, sink, candidate, endpoint, remote, dispatch, key, is_last)
                await one.run(pool, self._tasks, generation.settings.server.write_timeout)
            elif (local := endpoint.local) is not None:
                await self._deliver(generation, exchange, sink, local.answer(exchange))
            else:
                raise RuntimeError(f"{candidate.provider} is neither local nor remote")
            is_cancelled = False
        except UpstreamError as error:
            failure, is_cancelled = error, False
            error.provider = error.provider or candidate.provider
            attempt.error, attempt.message = error.code, error.message
            raise
        finally:
            slots.release()
            now_s = self._clock()
            attempt.duration_s = now_s - started_s
            if is_cancelled:
                endpoint.stats.record_cancelled(attempt)
            else:
                endpoint.stats.record(attempt, now_s - started_s, now_s, failure)

    @staticmethod
    def _may_see_client_key(generation: Generation, exchange: Exchange, provider: RemoteProvider) -> bool:
        """Tell whether the client's own key is for this provider: nobody at another origin could answer.

        A key that could be meant for either of two origins goes to neither; `provider/model` and `/proxy/…` say which.
        """
        if provider.has_credential:
            return False
        for candidate in exchange.rivals:
            other = generation.endpoints[candidate.provider].remote
            if other is not None and other.origin != provider.origin:
                return False
        return True

    # -- the way out ---------------------------------------------------------------------------------------------

    async def _deliver(self, generation: Generation, exchange: Exchange, sink: Sink, reply: Reply) -> None:
        """Send an answer that was made here."""
        exchange.usage = reply.usage
        exchange.served_model = reply.served_model
        if reply.events is None:
            sink.start(reply.status, write_headers(reply.headers), len(reply.body), exchange.request.method != "HEAD")
            sink.write(reply.body)
            sink.finish()
            return
        sink.start(reply.status, write_headers(reply.headers), None, True)
        await self._stream(sink, reply.events, generation.settings.server.write_timeout)
        sink.finish()

    @staticmethod
    async def _stream(sink: Sink, events: AsyncIterator[bytes], write_timeout_s: float) -> None:
        async with aclosing(events) as stream:  # type: ignore[type-var]  # a plain iterator has nothing to close
            async for event in stream:
                if not sink.write(event):
                    try:
                        async with asyncio.timeout(write_timeout_s):
                            await sink.drain()
                    except TimeoutError:
                        raise ConnectionResetError(f"the client took nothing for {write_timeout_s:g} s") from None

    def _fail(self, exchange: Exchange, sink: Sink, error: ProxyError) -> None:
        exchange.error = error
        if isinstance(error, UpstreamError):
            error.message = self._redactor.text(error.message)
            self._events.emit(
                "ERROR" if isinstance(error, UpstreamAuth) else "WARN",
                error.code,
                error.message,
                request_id=exchange.id,
                provider=error.provider,
                attempts=len(exchange.attempts),
            )
        sink.fail(error)

    def _note(self, generation: Generation, exchange: Exchange) -> None:
        """Count how an exchange ended."""
        duration_s = exchange.duration_s = self._clock() - exchange.received_s
        operation, method = exchange.request.operation, exchange.request.method
        status = exchange.status or CLIENT_LEFT
        key = (operation.format, operation.name, method, status)
        series = self._series.get(key)
        if series is None:
            route = f"{operation.format}.{operation.name}"
            series = (self._requests.series(route, method, str(status)), self._durations.series(route))
            if len(self._series) < MAX_KNOWN_SERIES:
                self._series[key] = series
        series[0].value += 1
        series[1].observe(duration_s)
        error = exchange.error
        if status >= 500 or (error is not None and error.status >= 500):
            self._failures.value += 1
        if exchange.provider is not None and exchange.usage is not None:
            stats = generation.endpoints[exchange.provider].stats
            model = exchange.attempts[-1].model
            stats.record_usage(model, exchange.usage)
            if exchange.request.is_streaming and exchange.time_to_first_token_s is not None:
                stats.record_first_token(model, exchange.time_to_first_token_s)
