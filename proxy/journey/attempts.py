"""Makes attempts, and accounts for each: circuits, keys, latency, counts, and what is noted in the exchange."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from proxy.errors import ProxyError, UpstreamError
from proxy.exchange import Attempt, Exchange, Reply, ResponseHead, Sink
from proxy.formats.attempts import attempt_lines
from proxy.journey.call import Call
from proxy.journey.kit import Kit
from proxy.journey.race import Contender, LostRace
from proxy.providers.base import RemoteProvider
from proxy.reload.generation import Generation
from proxy.routing.failures import Verdict, judge
from proxy.routing.health import Change, ProviderHealth
from proxy.routing.keys import Key
from proxy.routing.plan import Plan, Step
from proxy.routing.quota import Quota, read_quota
from proxy.upstream.endpoint import Endpoint

SIGNS_OF_OVERLOAD: Final = frozenset({"rate-limit", "overloaded", "timeout"})
"""Failures by which an adaptive limit learns that it is too high."""

FIRST_ERROR_STATUS: Final = 400

SILENCE: Final = Verdict("timeout", "model", may_have_executed=True)
"""A client has waited for long and left: else only the patient ones find out about who never answers."""

Deliver = Callable[[Generation, Exchange, Sink, Reply, bytes], Awaitable[None]]
"""Sends an answer that was made in this process, with header lines of our own."""


@dataclass(slots=True)
class _Open:
    """An attempt that is under way, for its accounts."""

    attempt: Attempt
    step: Step
    health: ProviderHealth
    probes: int
    is_clients_own: bool = False
    """The client's own credentials go with it: how they are limited is no matter of others."""
    is_judged: bool = False
    """Its success was told to the circuits already, because the client's response had begun."""


class Attempts:
    """Makes the attempts of one exchange.

    Args:
        deliver: for providers that answer in this process.
    """

    __slots__ = ("_deliver", "_exchange", "_generation", "_kit", "_wall_clock")

    def __init__(
        self,
        kit: Kit,
        generation: Generation,
        exchange: Exchange,
        deliver: Deliver,
        wall_clock: Callable[[], float],
    ) -> None:
        self._kit = kit
        self._generation = generation
        self._exchange = exchange
        self._deliver = deliver
        self._wall_clock = wall_clock

    async def ask(self, plan: Plan, step: Step, sink: Sink, is_hedge: bool) -> None:
        """Ask one candidate. Its provider's slot is held by the caller and is given back here.

        Raises:
            UpstreamError: no usable response, or one that broke off; `sink.is_started` tells which.
            ConnectionError: the client left.
        """
        exchange, candidate, health = self._exchange, step.target.candidate, step.target.health
        endpoint = self._generation.endpoints[candidate.provider]
        one = self._begin(plan, step, sink, is_hedge=is_hedge)
        failure: ProxyError | None = None
        is_cancelled = True
        call: Call | None = None
        try:
            if (remote := endpoint.remote) is not None and (pool := endpoint.pool) is not None:
                call = self._call(plan, one, endpoint, remote, sink)
                await call.run(pool, self._kit.tasks, self._generation.settings.server.write_timeout)
                failure = call.passed_on
            elif (local := endpoint.local) is not None:
                told = attempt_lines(exchange, candidate.provider)
                await self._deliver(self._generation, exchange, sink, local.answer(exchange), told)
            else:
                raise RuntimeError(f"{candidate.provider} is neither local nor remote")
            is_cancelled = False
        except LostRace:
            raise
        except UpstreamError as error:
            failure, is_cancelled = error, False
            error.provider = error.provider or candidate.provider
            error.message = self._kit.redactor.text(error.message)
            raise
        finally:
            endpoint.slots.release()
            health.in_flight -= 1
            if is_cancelled:
                self._account_cancelled(one, endpoint, has_lost=isinstance(sink, Contender) and sink.has_lost)
            else:
                self._account(one, endpoint, call, failure)

    def _begin(self, plan: Plan, step: Step, sink: Sink, *, is_hedge: bool) -> _Open:
        """Note everywhere that an attempt begins."""
        target, key, exchange = step.target, step.key, self._exchange
        health, candidate = target.health, target.candidate
        now_s = self._kit.clock()
        attempt = Attempt(candidate.provider, candidate.model, now_s, is_hedge=is_hedge)
        one = _Open(attempt, step, health, health.begin(target.lane, now_s))
        health.in_flight += 1
        plan.begin(target, key)
        if one.probes:
            attempt.is_probe = True
            self._kit.news.changed(health.probed(target.lane, one.probes))
        if key is not None and (keys := target.lane.keys) is not None and len(keys.keys) > 1:
            attempt.key = key.mask
        exchange.attempts.append(attempt)
        if isinstance(sink, Contender):
            sink.attempt = attempt
        if not is_hedge:
            exchange.provider, exchange.attempt = candidate.provider, attempt
            exchange.usage = exchange.served_model = None  # an earlier attempt's, which nobody got
        return one

    def _call(self, plan: Plan, one: _Open, endpoint: Endpoint, remote: RemoteProvider, sink: Sink) -> Call:
        exchange, key, clock = self._exchange, one.step.key, self._kit.clock
        client_key = exchange.caller
        if client_key is not None and not self._may_see_client_key(remote):
            client_key = None

        one.is_clients_own = client_key is not None or exchange.request.operation.name == "raw"

        def started() -> None:
            if (one.attempt.status or 0) < FIRST_ERROR_STATUS:
                one.is_judged = True
                self._changed(one, one.health.succeed(one.step.target.lane, one.attempt.started_s, one.probes, clock()))

        def goes_on(error: UpstreamError) -> bool:
            verdict = judge(error)
            if isinstance(sink, Contender):  # the other one may still answer
                return verdict.kind is not None
            return plan.may_go_on(one.step.target, verdict, clock())

        return Call(
            exchange,
            sink,
            one.step.target.candidate,
            one.attempt,
            endpoint,
            remote,
            self._generation.host.dispatch,
            credential=_credential(remote, key),
            client_key=client_key,
            clock=clock,
            wall_clock=self._wall_clock,
            goes_on=goes_on,
            on_start=started if one.probes else None,
        )

    def _may_see_client_key(self, provider: RemoteProvider) -> bool:
        """Tell whether the client's own key is for this provider: nobody at another origin could answer.

        A key that could be meant for either of two origins goes to neither; `provider/model` and `/proxy/…` say which.
        """
        if provider.has_credential:
            return False
        for candidate in self._exchange.rivals:
            other = self._generation.endpoints[candidate.provider].remote
            if other is not None and other.origin != provider.origin:
                return False
        return True

    # -- accounts ----------------------------------------------------------------------------------------------------

    def _account_cancelled(self, one: _Open, endpoint: Endpoint, *, has_lost: bool) -> None:
        attempt, lane, now_s = one.attempt, one.step.target.lane, self._kit.clock()
        waited_s = attempt.duration_s = now_s - attempt.started_s
        is_unanswered = attempt.first_byte_s is None
        if attempt.is_hedge:
            self._kit.news.hedged(attempt.provider, "won" if self._exchange.attempt is attempt else "lost")
        endpoint.stats.record_cancelled(attempt)
        request = self._exchange.request
        if is_unanswered and not has_lost and request.upload is None and one.health.is_silence(lane, waited_s, now_s):
            self._changed(one, one.health.fail(lane, attempt.started_s, one.probes, now_s, SILENCE, "silence"))
        elif not one.is_judged:
            one.health.cancel(lane, attempt.started_s, one.probes, now_s)
        if has_lost and is_unanswered:
            lane.gave_up(waited_s, now_s, is_streaming=request.is_streaming)

    def _account(self, one: _Open, endpoint: Endpoint, call: Call | None, failure: ProxyError | None) -> None:
        attempt, health, lane = one.attempt, one.health, one.step.target.lane
        now_s = self._kit.clock()
        duration_s = attempt.duration_s = now_s - attempt.started_s
        if attempt.is_hedge:
            won = self._exchange.attempt is attempt
            self._kit.news.hedged(attempt.provider, "won" if won else "failed" if failure is not None else "lost")
        verdict = None if failure is None else judge(failure)
        if failure is not None and verdict is not None and verdict.kind is not None:
            self._blame(one, call, verdict, failure, now_s)
        else:
            if not one.is_judged:
                changes = health.succeed(lane, attempt.started_s, one.probes, now_s)
                self._changed(one, changes)
            if failure is None:
                first_byte_s = duration_s if attempt.first_byte_s is None else attempt.first_byte_s
                lane.observe(first_byte_s, duration_s, now_s, is_streaming=self._exchange.request.is_streaming)
            failure = None
            self._praise_key(one, call, now_s)
        if verdict is not None and verdict.scope == "request":
            failure = None  # what is wrong with the request speaks against nobody who was asked
        endpoint.stats.record(attempt, duration_s, now_s, failure)
        if health.adaptive is not None and (verdict is None or verdict.kind in SIGNS_OF_OVERLOAD):
            self._adapt(one, endpoint, is_refused=verdict is not None, now_s=now_s)

    def _changed(self, one: _Open, changes: tuple[Change, ...]) -> None:
        if changes:
            self._kit.news.changed(changes)
            if any(change.state == "open" for change in changes):
                self._kit.prober.begin(one.health)

    def _blame(self, one: _Open, call: Call | None, verdict: Verdict, failure: ProxyError, now_s: float) -> None:
        attempt, health, lane, key = one.attempt, one.health, one.step.target.lane, one.step.key
        attempt.error, attempt.message, attempt.kind = failure.code, failure.message, verdict.kind
        attempt.may_have_executed = verdict.may_have_executed
        probes = 0 if one.is_judged else one.probes
        changes = health.fail(lane, attempt.started_s, probes, now_s, verdict, failure.code)
        self._changed(one, changes)
        if key is None or lane.keys is None:
            if verdict.kind == "rate-limit" and verdict.retry_after_s and not one.is_clients_own:
                lane.rest(now_s, verdict.retry_after_s)
            return
        if verdict.kind == "auth" or verdict.is_out_of_money:
            lane.keys.refused(key, now_s)
        elif verdict.kind == "rate-limit":
            quota = None if call is None else self._quota(key, call.head, now_s)
            lane.keys.limited(key, now_s, verdict.retry_after_s, quota)

    def _praise_key(self, one: _Open, call: Call | None, now_s: float) -> None:
        key, keys = one.step.key, one.step.target.lane.keys
        if key is None or keys is None or call is None:
            return
        keys.used(key, now_s, one.attempt.started_s, self._quota(key, call.head, now_s))

    def _quota(self, key: Key, head: ResponseHead | None, now_s: float) -> Quota | None:
        if head is not None and head.limit_lines and now_s >= key.quota_due_s:
            return read_quota(head.limit_lines, self._wall_clock())
        return None

    def _adapt(self, one: _Open, endpoint: Endpoint, *, is_refused: bool, now_s: float) -> None:
        adaptive, attempt = one.health.adaptive, one.attempt
        if adaptive is None:
            return
        is_streaming = self._exchange.request.is_streaming
        latency_s = attempt.first_byte_s if is_streaming and attempt.first_byte_s is not None else attempt.duration_s
        in_flight = one.health.in_flight + 1  # itself included
        limit = adaptive.observe(latency_s or 0.0, in_flight, is_refused=is_refused, now_s=now_s)
        if limit != endpoint.slots.limit:
            endpoint.slots.adapt(limit)  # of an older revision, perhaps: the settings of the line are the newer one's


def _credential(remote: RemoteProvider, key: Key | None) -> str | None:
    """Choose the credential to send: the key that is held now, or, where none is held any more, the request's own."""
    if key is not None:
        return key.text
    return remote.credentials[0] if remote.credentials else None
