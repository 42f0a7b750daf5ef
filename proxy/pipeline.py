"""One exchange's way through the house: hooks, candidates, a journey to an answer, and the note of how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final

from proxy.errors import (
    Cancelled,
    MalformedBody,
    Overloaded,
    ProxyError,
    UnknownPath,
    UpstreamAuth,
    UpstreamError,
    forget_frames,
    out_of_memory,
)
from proxy.events import Events
from proxy.exchange import Audience, Candidate, Exchange, Reply, write_headers
from proxy.formats.registry import translates_to
from proxy.journey.attempts import Attempts
from proxy.journey.audiences import Audiences
from proxy.journey.journey import Journey, deadline_s, priority_of
from proxy.journey.kit import Kit
from proxy.journey.news import News
from proxy.journey.overview import Overview
from proxy.journey.prober import Prober
from proxy.journey.shared_sink import Nobody, Shared
from proxy.metrics import LATENCY_BUCKETS_S, Distribution, Registry, Value
from proxy.redaction import Redactor
from proxy.reload.generation import Generation
from proxy.reload.vitals import Totals
from proxy.routing.budget import HEDGE_BURST, RetryBudget
from proxy.sink import Sink
from proxy.tasks import Tasks
from proxy.upstream.slots import Slots

CLIENT_LEFT: Final = 499
"""Status noted for an exchange whose client left first; never sent."""

MAX_KNOWN_SERIES: Final = 1000

LocalAnswer = Callable[[Generation, Exchange], Reply | None]
"""Answers from the configuration what needs no provider."""

NO_LATENCY: Final = (0,) * (len(LATENCY_BUCKETS_S) + 1)


class Pipeline:
    """Carries exchanges from the parsed request to the last byte; lives as long as the process.

    Args:
        generation: the revision that new exchanges use; swapped as a whole.
        redactor: takes secrets out of what clients are told: a vendor's own words may repeat the key they refuse.
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
    """

    _earlier: Mapping[int, Generation] = MappingProxyType({})
    """By revision: those in which exchanges still run."""

    def __init__(
        self,
        generation: Generation,
        *,
        metrics: Registry,
        events: Events,
        tasks: Tasks,
        redactor: Redactor,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.generation = generation
        self._running: dict[Exchange, asyncio.Task[Any] | None] = {}  # Any: whoever runs it
        self._redactor = redactor
        self._events = events
        self._clock = clock
        settings = generation.settings
        limit, most, within_s = settings.max_concurrency, settings.max_queue, settings.queue_timeout
        self.slots = Slots(limit, most, within_s, "this proxy (maxConcurrency)", clock)
        budget, hedging = settings.failover.retry_budget, settings.hedging
        self._kit = Kit(
            self.slots,
            RetryBudget(budget.ratio, budget.capacity),
            RetryBudget(hedging.budget_percent / 100, HEDGE_BURST),
            News(events, metrics, clock),
            Audiences(events),
            Prober(tasks, events, lambda: self.generation, clock),
            tasks,
            redactor,
            Random(),
            clock,
            wall_clock,
        )
        self._attempts = Attempts(self._kit, self._deliver)
        generation.take_over(None, clock())
        self.overview = Overview(
            self._kit, lambda: self.generation, lambda: self._running, self.choose, redactor, wall_clock
        )
        """What operators are shown, and what they may do about providers."""
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
        self._make_gauges(metrics)

    def _make_gauges(self, metrics: Registry) -> None:
        metrics.gauge(
            "retry_budget", "Extra attempts the process may still make.", read=lambda: self._kit.retries.level
        )
        metrics.gauge("inflight_requests", "Requests in work.", read=lambda: self.in_flight)
        metrics.gauge("queue_depth", "Requests waiting for `maxConcurrency`.", read=lambda: self.slots.waiting)

    @property
    def in_flight(self) -> int:
        """Requests in work or queued."""
        return len(self._running)

    @property
    def running(self) -> Mapping[Exchange, "asyncio.Task[Any] | None"]:
        """Every exchange that has begun and not ended, oldest first, with the task that runs it."""
        return self._running

    def use(self, generation: Generation) -> None:
        """Put a generation in force for every exchange that begins from now on."""
        earlier, self.generation = self.generation, generation
        in_use = {exchange.revision for exchange in self._running}
        self._earlier = {one.revision: one for one in (*self._earlier.values(), earlier) if one.revision in in_use}
        settings = generation.settings
        self.slots.resize(settings.max_concurrency, settings.max_queue, settings.queue_timeout)
        budget, hedging = settings.failover.retry_budget, settings.hedging
        self._kit.retries.resettle(budget.ratio, budget.capacity)
        self._kit.hedges.resettle(hedging.budget_percent / 100, HEDGE_BURST)
        generation.take_over(earlier, self._clock())
        self._kit.news.settled(circuit for health in generation.health.values() for circuit in health.circuits())

    def totals(self) -> Totals:
        """Sum up all requests since the start."""
        series = [one for _, one in self._durations.items()]
        latency = map(sum, zip(*(one.counts for one in series), strict=True)) if series else NO_LATENCY
        requests = sum(value.value for _, value in self._requests.items())
        return Totals(requests, self._failures.value, tuple(latency))

    async def run(
        self,
        exchange: Exchange,
        sink: Sink,
        local: LocalAnswer | None = None,
        generation: Generation | None = None,
    ) -> None:
        """See an exchange through to its end; errors are told to the client through the sink.

        Args:
            local: asked after the plugins; None from it leaves the answer to a provider.
            generation: the one it is to use; None: that in force.
        Raises:
            asyncio.CancelledError: the client left, or the process is stopping.
        """
        generation = generation or self.generation
        dispatch = generation.host.dispatch
        exchange.revision = generation.revision
        self._running[exchange] = asyncio.current_task()
        try:
            try:
                if not self.slots.try_take():
                    await self._queue(generation, exchange)
                exchange.has_slot = True
                is_looked_at = dispatch.pre_request and not exchange.is_background
                reply = await dispatch.run_pre_request(exchange) if is_looked_at else None
                if reply is None and local is not None:
                    reply = local(generation, exchange)
                if reply is not None:
                    await self._deliver(generation, exchange, sink, reply)
                elif exchange.audience is None:
                    await self._journey(generation, exchange, sink).run()
                else:
                    await self._accompanied(generation, exchange, sink, exchange.audience)
            except ProxyError as error:
                await self._fail_or_replace(generation, exchange, sink, error)
        except ConnectionError:
            exchange.status = CLIENT_LEFT
            sink.abort()
        except asyncio.CancelledError:
            if exchange.cancelled_by is None or not self._was_ours(exchange):
                exchange.status = CLIENT_LEFT
                raise
            self._fail(exchange, sink, Cancelled(exchange.cancelled_by))
        except Exception as error:  # a defect of ours: contained, told, never shown in detail
            self._fail(exchange, sink, self._defect(exchange, error))
        finally:
            self._conclude(generation, exchange)
            if dispatch.wants_all_ends or exchange.notes or exchange.is_background:
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

    def cancel(self, exchange: Exchange, reason: str) -> bool:
        """End an exchange from outside; its client is told. False if it has ended, or is being ended, already.

        Args:
            reason: for the client.
        """
        task = self._running.get(exchange)
        if task is None or exchange.cancelled_by is not None:
            return False
        exchange.cancelled_by = reason
        return task.cancel()

    def _was_ours(self, exchange: Exchange) -> bool:
        """Take our own cancellation back; False where the client left besides, and nobody is there to be told."""
        task = self._running.get(exchange)
        return task is not None and task.uncancel() == 0

    # -- others who read the response ----------------------------------------------------------------------------

    async def _accompanied(self, generation: Generation, exchange: Exchange, sink: Sink, audience: Audience) -> None:
        """Have a provider answer while others read the response; they hear how it ends."""
        patience_s = generation.settings.server.write_timeout
        shared = Shared(sink, audience, partial(self._audience_failed, exchange), self._kit.tasks, patience_s)
        is_whole, failure = False, None
        try:
            await self._journey(generation, exchange, shared).run()
            is_whole = True
        except ProxyError as error:
            failure = error
            raise
        finally:
            if not is_whole:
                shared.broke_off(failure)

    def goes_on(self, exchange: Exchange) -> bool:
        """Take note that a client left before its answer was whole; True if the work goes on for others."""
        task = self._running.get(exchange)
        if task is None or not self._kit.audiences.goes_on(exchange, task.cancel):
            return False
        exchange.has_client_left, exchange.status = True, CLIENT_LEFT
        return True

    def end_all(self) -> None:
        """End what goes on without a client; the clients of the rest are told by their connections."""
        for exchange, task in list(self._running.items()):
            if (exchange.has_client_left or exchange.is_background) and task is not None:
                task.cancel()

    def _audience_failed(self, exchange: Exchange, error: Exception) -> None:
        """Take note that an audience raised; what went on for it alone is not paid for any longer."""
        self._kit.audiences.failed(exchange, error)
        task = self._running.get(exchange)
        if task is not None and (exchange.has_client_left or exchange.is_background):
            task.cancel()

    async def _queue(self, generation: Generation, exchange: Exchange) -> None:
        """Wait for one of the process's slots. Raises Overloaded."""
        left_s = exchange.received_s + deadline_s(exchange, generation) - self._clock()
        await self.slots.take(exchange.caller or exchange.peer, priority_of(exchange, generation), left_s)

    def _defect(self, exchange: Exchange, error: Exception) -> ProxyError:
        if isinstance(error, MemoryError):
            return out_of_memory()
        self._events.emit("ERROR", "internal_error", f"exchange {exchange.id}: {error!r}", request_id=exchange.id)
        return ProxyError("internal error; the log has it under this request id")

    async def _fail_or_replace(self, generation: Generation, exchange: Exchange, sink: Sink, error: ProxyError) -> None:
        """Tell the client of an error, unless the audience has a better answer."""
        reply = None if sink.is_started else self._kit.audiences.instead(exchange, error)
        if reply is None:
            self._fail(exchange, sink, error)
            return
        forget_frames(error)
        await self._deliver(generation, exchange, sink, reply)

    def refresh(self, exchange: Exchange, audience: Audience) -> bool:
        """Ask in the background what an exchange asked, for its audience alone.

        Returns:
            False if there is no room for it, or the configuration is another one meanwhile.
        """
        limit, generation = self.slots.limit, self.generation
        if exchange.request.upload is not None or (limit is not None and self.slots.in_use >= limit):
            return False
        if exchange.revision in self._earlier:
            return False
        anew = Exchange(
            exchange.request,
            id=exchange.id,
            received_s=self._clock(),
            peer=exchange.peer,
            caller=exchange.caller,
            trace_id=exchange.trace_id,
            named_provider=exchange.named_provider,
        )
        anew.identity, anew.audience, anew.is_background = exchange.identity, audience, True
        self._kit.tasks.spawn(self.run(anew, Nobody(anew), generation=generation), name="refresh")
        return True

    def targets(self, exchange: Exchange) -> Sequence[Candidate]:
        """List who could answer by the exchange's own generation, before any choice is made.

        Raises:
            ProxyError: nobody has the model.
        """
        return self._find(self._earlier.get(exchange.revision, self.generation), exchange)

    # -- the way in ----------------------------------------------------------------------------------------------

    def _journey(self, generation: Generation, exchange: Exchange, sink: Sink) -> Journey:
        """Prepare to have a provider answer."""
        kit = self._kit
        kit.retries.deposit()
        if generation.settings.hedging.enabled:
            kit.hedges.deposit()
        candidates = self.choose(generation, exchange)
        return Journey(kit, generation, exchange, sink, candidates, self._attempts.ask)

    def choose(self, generation: Generation, exchange: Exchange) -> Sequence[Candidate]:
        """List who may be asked, in order; at least one.

        Raises:
            ProxyError: nobody has the model.
        """
        request = exchange.request
        candidates = exchange.rivals = self._find(generation, exchange)
        if request.upload is not None:  # a form is passed on as it is, with the name that stands in it
            candidates = [one for one in candidates if one.model == request.model] or candidates[:1]
        if request.model is None:
            candidates = candidates[:1]
        elif len(candidates) > 1:
            candidates = generation.host.dispatch.select(exchange, candidates)
            if not generation.policies.of(request.model).is_failover_on:
                candidates = candidates[:1]
        exchange.candidates = candidates
        return candidates

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
        return generation.candidates.find(request.model, format_name, translates_to(format_name))

    # -- the way out ---------------------------------------------------------------------------------------------

    async def _deliver(
        self, generation: Generation, exchange: Exchange, sink: Sink, reply: Reply, told: bytes = b""
    ) -> None:
        """Send an answer that was made here.

        Args:
            told: header lines of our own, each with its CRLF.
        """
        headers = write_headers(reply.headers) + told if reply.headers else told
        exchange.usage, exchange.served_model = reply.usage, reply.served_model
        if reply.body and reply.events is None and not reply.is_stream and exchange.request.method != "HEAD":
            sink.whole(reply.status, headers, reply.body)
            return
        if reply.events is None and not reply.is_stream:
            sink.start(reply.status, headers, len(reply.body), exchange.request.method != "HEAD")
        else:
            sink.start(reply.status, headers, None, True)
        if reply.events is None:
            sink.write(reply.body)
            sink.finish()
            return
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
        forget_frames(error)
        if error.code == Overloaded.code:
            self._kit.news.overloaded(error)
        elif isinstance(error, UpstreamError):
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

    def _conclude(self, generation: Generation, exchange: Exchange) -> None:
        if exchange.has_client_left:
            exchange.status = CLIENT_LEFT
        if exchange.has_slot:
            self.slots.release()
        del self._running[exchange]
        self._note(generation, exchange)
        if exchange.audience is not None:
            self._kit.audiences.concluded(exchange)

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
        if exchange.attempt is not None and exchange.usage is not None:
            stats = generation.endpoints[exchange.attempt.provider].stats
            model = exchange.attempt.model
            stats.record_usage(model, exchange.usage)
            if exchange.request.is_streaming and exchange.time_to_first_token_s is not None:
                stats.record_first_token(model, exchange.time_to_first_token_s)
