"""Accounts for attempts: circuits, keys, latency, counts, and what is noted in the exchange."""

from typing import Final

from proxy.errors import ProxyError
from proxy.exchange import Attempt, Exchange
from proxy.journey.kit import Kit
from proxy.routing.failures import Verdict, judge
from proxy.routing.health import Change
from proxy.routing.keys import Key
from proxy.routing.plan import Step
from proxy.routing.quota import Quota, read_quota
from proxy.sink import ResponseHead
from proxy.upstream.endpoint import CallStats, Endpoint

SIGNS_OF_OVERLOAD: Final = frozenset({"rate-limit", "overloaded", "timeout"})
"""Failures by which an adaptive limit learns that it is too high."""

FIRST_ERROR_STATUS: Final = 400

SILENCE: Final = Verdict("timeout", "model", may_have_executed=True)
"""A client has waited for long and left: else only the patient ones find out about who never answers."""


class Open:
    """An attempt that is under way, for its accounts; made cheaply, as Attempt is."""

    is_clients_own = False
    """The client's own credentials go with it: how they are limited is no matter of others."""
    is_judged = False
    """Its success was told to the circuits already, because the client's response had begun."""

    def __init__(self, exchange: Exchange, attempt: Attempt, step: Step, probes: int) -> None:
        self.exchange = exchange
        self.attempt = attempt
        self.step = step
        self.health = step.target.health
        self.probes = probes


class Accounts:
    """Accounts for the attempts of all exchanges."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def began(self, one: Open) -> None:
        """Note that the client's response begins: a circuit that this attempt tries out need not wait for its end."""
        attempt = one.attempt
        if (attempt.status or 0) < FIRST_ERROR_STATUS:
            one.is_judged = True
            lane, now_s = one.step.target.lane, self._kit.clock()
            self._changed(one, one.health.succeed(lane, attempt.started_s, one.probes, now_s))

    def cancelled(self, one: Open, stats: CallStats, *, has_lost: bool, is_unanswered: bool) -> None:
        """Note that nobody waits for it any more.

        Args:
            has_lost: another attempt for the same client was faster.
            is_unanswered: nothing of its response went to the client.
        """
        attempt, lane, now_s = one.attempt, one.step.target.lane, self._kit.clock()
        waited_s = attempt.duration_s = now_s - attempt.started_s
        if attempt.is_hedge:
            self._kit.news.hedged(attempt.provider, "won" if one.exchange.attempt is attempt else "lost")
        stats.record_cancelled(attempt)
        request = one.exchange.request
        clients_wish = not has_lost and one.exchange.cancelled_by is None
        is_waiting = is_unanswered and clients_wish and request.upload is None
        if is_waiting and one.health.is_silence(lane, waited_s, now_s):
            self._changed(one, one.health.fail(lane, attempt.started_s, one.probes, now_s, SILENCE, "silence"))
        elif not one.is_judged:
            one.health.cancel(lane, attempt.started_s, one.probes, now_s)
        if has_lost and is_unanswered:
            lane.gave_up(waited_s, now_s, is_streaming=request.is_streaming)

    def succeeded(self, one: Open, endpoint: Endpoint, head: ResponseHead | None) -> None:
        """Note that it went well.

        Args:
            head: of the final response; None of an answer that was made here.
        """
        attempt, health, lane = one.attempt, one.health, one.step.target.lane
        now_s = self._kit.clock()
        duration_s = attempt.duration_s = now_s - attempt.started_s
        if attempt.is_hedge:
            self._kit.news.hedged(attempt.provider, "won" if one.exchange.attempt is attempt else "lost")
        lane.observe(attempt.first_byte_s, duration_s, now_s, is_streaming=one.exchange.request.is_streaming)
        self._clear(one, head, now_s)
        endpoint.stats.record(attempt, duration_s, now_s, None)
        if health.adaptive is not None:
            self._adapt(one, endpoint, is_refused=False, now_s=now_s)

    def failed(self, one: Open, endpoint: Endpoint, head: ResponseHead | None, failure: ProxyError) -> None:
        """Note how it failed.

        Args:
            head: of the final response, if it came.
            failure: what it meant; also of an error that was passed on to the client.
        """
        attempt, health = one.attempt, one.health
        now_s = self._kit.clock()
        duration_s = attempt.duration_s = now_s - attempt.started_s
        if attempt.is_hedge:
            self._kit.news.hedged(attempt.provider, "won" if one.exchange.attempt is attempt else "failed")
        verdict = judge(failure)
        if verdict.kind is None:
            self._clear(one, head, now_s)
        else:
            self._blame(one, head, verdict, failure, now_s)
        # what is wrong with the request speaks against nobody who was asked
        endpoint.stats.record(attempt, duration_s, now_s, None if verdict.scope == "request" else failure)
        if health.adaptive is not None and verdict.kind in SIGNS_OF_OVERLOAD:
            self._adapt(one, endpoint, is_refused=True, now_s=now_s)

    def _clear(self, one: Open, head: ResponseHead | None, now_s: float) -> None:
        """Note that the provider, and the key that was used, did as they should."""
        step, began_s = one.step, one.attempt.started_s
        lane, key = step.target.lane, step.key
        if not one.is_judged and (changes := one.health.succeed(lane, began_s, one.probes, now_s)):
            self._changed(one, changes)
        if key is not None and head is not None and lane.keys is not None and key.is_to_be_noted(now_s):
            lane.keys.used(key, now_s, began_s, self._quota(key, head, now_s))

    def _changed(self, one: Open, changes: tuple[Change, ...]) -> None:
        if changes:
            self._kit.news.changed(changes)
            if any(change.state == "open" for change in changes):
                self._kit.prober.begin(one.health)

    def _blame(self, one: Open, head: ResponseHead | None, verdict: Verdict, failure: ProxyError, now_s: float) -> None:
        attempt, health, lane, key = one.attempt, one.health, one.step.target.lane, one.step.key
        attempt.error, attempt.message, attempt.kind = failure.code, failure.message, verdict.kind
        attempt.may_have_executed = verdict.may_have_executed
        probes = 0 if one.is_judged else one.probes
        has_status = attempt.status is not None and attempt.status >= FIRST_ERROR_STATUS
        cause = f"{failure.code}, status {attempt.status}" if has_status else failure.code
        changes = health.fail(lane, attempt.started_s, probes, now_s, verdict, cause)
        self._changed(one, changes)
        if key is None or lane.keys is None:
            if verdict.kind == "rate-limit" and verdict.retry_after_s and not one.is_clients_own:
                lane.rest(now_s, verdict.retry_after_s)
            return
        if verdict.kind == "auth" or verdict.is_out_of_money:
            lane.keys.refused(key, now_s)
        elif verdict.kind == "rate-limit":
            lane.keys.limited(key, now_s, verdict.retry_after_s, self._quota(key, head, now_s))

    def _quota(self, key: Key, head: ResponseHead | None, now_s: float) -> Quota | None:
        if head is not None and head.limit_lines and now_s >= key.quota_due_s:
            return read_quota(head.limit_lines, self._kit.wall_clock())
        return None

    def _adapt(self, one: Open, endpoint: Endpoint, *, is_refused: bool, now_s: float) -> None:
        adaptive, attempt = one.health.adaptive, one.attempt
        if adaptive is None:
            return
        is_streaming = one.exchange.request.is_streaming
        latency_s = attempt.first_byte_s if is_streaming and attempt.first_byte_s is not None else attempt.duration_s
        in_flight = one.health.in_flight + 1  # itself included
        limit = adaptive.observe(latency_s or 0.0, in_flight, is_refused=is_refused, now_s=now_s)
        if limit != endpoint.slots.limit:
            endpoint.slots.adapt(limit)  # of an older revision, perhaps: the settings of the line are the newer one's
