"""One exchange's way to an answer: asks its candidates by plan, one after the other or two at once."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

from proxy.errors import (
    Overloaded,
    ProviderBusy,
    ProxyError,
    TranslationUnsupported,
    UnknownModel,
    UpstreamError,
    forget_frames,
)
from proxy.exchange import Candidate, Exchange
from proxy.formats.attempts import attempt_lines
from proxy.formats.registry import translates_to
from proxy.journey.hedging import Hedged
from proxy.journey.kept import KeptReply
from proxy.journey.kit import Ask, Kit, Unanswered
from proxy.journey.last_word import Failed, last_word
from proxy.reload.generation import Generation
from proxy.routing.failures import Verdict, judge
from proxy.routing.plan import Plan, Step, Target, quick_step
from proxy.sink import Sink
from proxy.upstream.slots import Priority, Slots

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

READ_TIMEOUT: Final = b"x-stainless-read-timeout"
"""Of OpenAI's and Anthropic's SDKs, in seconds."""
PLAIN_SECONDS: Final = re.compile(rb"[0-9]{1,6}(?:\.[0-9]{1,6})?")

PRIORITIES: Final[dict[bytes, Priority]] = {b"high": "high", b"low": "low"}


class Journey:
    """Sees one exchange through to an answer, or to the last word about why there is none.

    Args:
        candidates: in the order in which they are to be asked.
        ask: makes one attempt.
    """

    # What most exchanges never need is an attribute of the class, so that making a journey is cheap.
    _made: Plan | None = None
    _begun: Target | None = None
    """Whom it asked without a plan."""

    def __init__(
        self,
        kit: Kit,
        generation: Generation,
        exchange: Exchange,
        sink: Sink,
        candidates: Sequence[Candidate],
        ask: Ask,
    ) -> None:
        self._kit = kit
        self._generation = generation
        self._exchange = exchange
        self._sink = sink
        self._candidates = candidates
        self._ask = ask
        self._failures: list[Failed] = []

    @property
    def _plan(self) -> Plan:
        """The way through the candidates; made when something goes otherwise than well, or there is a choice."""
        if self._made is None:
            self._made = self._make_plan()
        return self._made

    def _make_plan(self) -> Plan:
        kit, generation, exchange = self._kit, self._generation, self._exchange
        policy = generation.policies.of(exchange.request.model)
        is_upload = exchange.request.upload is not None
        may_fall_back = policy.fallbacks and policy.is_failover_on and not is_upload  # it names its model itself
        return Plan(
            self._candidates,
            generation.health,
            policy,
            kit.retries,
            kit.random,
            exchange.received_s,
            fallbacks=self._fallbacks(policy.fallbacks) if may_fall_back else None,
            is_upload=is_upload,
            begun=self._begun,
        )

    async def run(self) -> None:
        """Ask until somebody answers.

        Raises:
            ProxyError: nobody did; or the response broke off (`sink.is_started`).
            ConnectionError: the client left.
        """
        generation = self._generation
        is_hedging = generation.settings.hedging.enabled
        step = self._first_step()
        while step is not None:
            try:
                if not self._may_begin(step):
                    step = await self._find_slot(step)
                if not is_hedging:
                    await self._ask(generation, self._exchange, self._may_go_on, step, self._sink, None)
                    return
                if not (failed := await self._hedge(step)):
                    return
            except (UpstreamError, ProviderBusy) as error:
                if self._sink.is_started:
                    raise
                failed = ((step, error),)
            step = self._after(failed)
            while step is not None and step.wait_s:
                step = await self._due(step)
        self._give_up()

    def _first_step(self) -> Step | None:
        """Choose whom to ask first; None if nobody may be asked now."""
        candidates, kit = self._candidates, self._kit
        if len(candidates) == 1:
            step = quick_step(candidates[0], self._generation.health[candidates[0].provider], kit.clock())
            if step is not None:
                self._begun = step.target
                return step
        step = self._plan.first(kit.clock())
        if step is not None and self._plan.is_panic:
            kit.news.panicked(self._exchange, step)
        return step

    def _may_go_on(self, target: Target, verdict: Verdict, now_s: float) -> bool:
        return self._plan.may_go_on(target, verdict, now_s)

    def _may_begin(self, step: Step) -> bool:
        """Take a slot of the provider if there is one. Raises ProviderBusy if it was drained meanwhile."""
        target = step.target
        if target.health.drained_s is not None:
            target.absence = target.absence_now(self._kit.clock())
            raise _left_out(step)
        return self._generation.endpoints[target.candidate.provider].slots.try_take()

    async def _hedge(self, step: Step) -> Sequence[Unanswered]:
        """Ask one, or when it is late two; give who failed, the last one last; nobody once the client has its answer.

        Raises:
            ProxyError: the response broke off.
        """
        hedged = Hedged(self._kit, self._generation, self._exchange, self._plan, self._sink, self._ask)
        if (late_s := hedged.late_after_s(step)) is not None:
            self._heed_client()
            return await hedged.run(step, late_s)
        await self._ask(self._generation, self._exchange, self._may_go_on, step, self._sink, None)
        return ()

    # -- one after the other -----------------------------------------------------------------------------------------

    def _after(self, failed: Sequence[Unanswered]) -> Step | None:
        """Take note of failures and choose whom to ask now; None if the request ends with the last of them."""
        self._heed_client()
        noted = [(step, self._note(step, error), error) for step, error in failed]
        last, verdict, _ = noted[-1]
        then = self._plan.after(last.target, verdict, self._kit.clock())
        if then is not None:
            for step, its_verdict, error in noted:
                self._kit.news.failed_over(self._exchange, step, its_verdict, error, then)
        return then

    def _heed_client(self) -> None:
        """Let no attempt begin that the client would not wait for."""
        self._plan.deadline_s = min(self._plan.deadline_s, clients_deadline_s(self._exchange))

    def _is_idempotent(self) -> bool:
        request = self._exchange.request
        return request.method in SAFE_METHODS or request.header(b"idempotency-key") is not None

    def _give_up(self) -> None:
        exchange, sink = self._exchange, self._sink
        error = last_word(self._plan, self._failures, self._kit.clock())
        if error.provider is not None:
            exchange.provider = error.provider
        if not isinstance(error, KeptReply) or self._has_better(error):
            raise error
        for attempt in exchange.attempts:
            if (attempt.provider, attempt.status) == (error.provider, error.status):
                exchange.attempt = attempt
        if judge(error).scope != "request":
            self._kit.news.passed_on(exchange, error)
        error.deliver(sink, attempt_lines(exchange), is_final=len(exchange.attempts) > 1)

    def _has_better(self, error: KeptReply) -> bool:
        """Tell whether the provider's own words need not go to the client."""
        return not self._sink.is_started and self._kit.audiences.covers(self._exchange, error)

    def _fallbacks(self, names: Sequence[str]) -> Iterator[Sequence[Candidate]]:
        exchange, generation = self._exchange, self._generation
        format_name = exchange.request.operation.format
        for name in names:
            try:
                found = generation.candidates.find(name, format_name, translates_to(format_name))
            except (UnknownModel, TranslationUnsupported):
                continue
            yield generation.host.dispatch.select(exchange, found)

    # -- limits ------------------------------------------------------------------------------------------------------

    async def _find_slot(self, step: Step) -> Step:
        """Take a slot of another provider that has room, or wait for one of a provider that has none.

        Another one is asked only in place of one with a limit of its own: that it bears no more was said by an
        operator, while the share of the process's slots that any provider may hold says nothing about it.

        Raises:
            ProviderBusy: its queue is full, or the wait in it was too long.
            Overloaded: the process's queue, where the request waited for the provider meanwhile.
        """
        endpoints, slots = self._generation.endpoints, self._slots_of(step)
        has_own_limit = endpoints[step.target.candidate.provider].provider.settings.has_own_limit
        busy = [step.target]
        while has_own_limit and (other := self._plan.beside(busy, self._kit.clock())) is not None:
            if endpoints[other.target.candidate.provider].slots.try_take():
                return other
            busy.append(other.target)
        self._heed_client()
        self._exchange.waits_for = step.target.candidate.provider
        await self._wait_for(slots)
        now_s = self._kit.clock()
        if self._plan.is_late(now_s):
            slots.release()
            raise ProviderBusy(f"{slots.name}: its turn came when {self._plan.ended_by}")
        renewed = self._plan.renew(step, now_s)
        if renewed is None:
            slots.release()
            raise _left_out(step)
        return renewed

    def _slots_of(self, step: Step) -> Slots:
        return self._generation.endpoints[step.target.candidate.provider].slots

    async def _wait_for(self, slots: Slots) -> None:
        """Wait in a provider's line without holding one of the process's slots: a stuck provider blocks nobody else."""
        exchange = self._exchange
        caller, priority = exchange.caller or exchange.peer, priority_of(exchange, self._generation)
        self._lend_slot()
        busy: Overloaded | None = None
        try:
            await slots.take(caller, priority, self._plan.left_s(self._kit.clock()))
        except Overloaded as error:
            busy = error
        finally:
            exchange.waits_for = None
        try:
            await self._take_slot_back()
        except BaseException:
            if busy is None:
                slots.release()
            raise
        if busy is not None:
            raise ProviderBusy(busy.message, retry_after_s=busy.retry_after_s) from busy

    async def _due(self, step: Step) -> Step | None:
        """Wait until a step is due and look at it again: whom to ask then, perhaps after another wait; None ends it.

        Raises:
            Overloaded: the process's queue.
        """
        await self._pause(step.wait_s)
        plan, now_s = self._plan, max(self._kit.clock(), step.target.ready_s)  # timers may be early by a millisecond
        if plan.is_late(now_s):
            return None
        step.wait_s = 0.0
        renewed = plan.renew(step, now_s) or plan.put_off(step, now_s)
        return self._after(((step, _left_out(step)),)) if renewed is None else renewed

    async def _pause(self, wait_s: float) -> None:
        """Wait before a provider is asked again; meanwhile the process's slot is somebody else's.

        Raises:
            Overloaded: the process's queue.
        """
        self._lend_slot()
        await asyncio.sleep(wait_s)
        await self._take_slot_back()

    def _lend_slot(self) -> None:
        exchange = self._exchange
        if exchange.has_slot:
            exchange.has_slot = False
            self._kit.slots.release()

    async def _take_slot_back(self) -> None:
        """Take one of the process's slots again, or go on in place of those who wait for this answer with theirs.

        They may hold all that there are, and would wait for each other.
        """
        exchange, process = self._exchange, self._kit.slots
        if not process.try_take():
            if exchange.audience is not None and exchange.audience.is_wanted:
                return
            await process.take(exchange.caller or exchange.peer, "high", self._plan.left_s(self._kit.clock()))
        exchange.has_slot = True

    def _note(self, step: Step, error: ProxyError) -> Verdict:
        """Take note of a failure."""
        forget_frames(error)
        verdict = judge(error)
        self._failures.append(Failed(step.target, verdict, error))
        self._plan.note(step.target, verdict, self._kit.clock(), is_idempotent=self._is_idempotent())
        return verdict


def clients_deadline_s(exchange: Exchange) -> float:
    """Read how long the client's SDK waits for an answer: what begins later would be paid for and thrown away."""
    value = exchange.request.header(READ_TIMEOUT)
    return float(value) if value is not None and PLAIN_SECONDS.fullmatch(value) else inf


def deadline_s(exchange: Exchange, generation: Generation) -> float:
    """Tell how long after it came a request may begin to be answered."""
    return min(generation.policies.of(exchange.request.model).deadline_s, clients_deadline_s(exchange))


def _left_out(step: Step) -> ProviderBusy:
    """Make the error of a provider that has come to be left out while the request waited."""
    absence = step.target.absence
    why = "left out" if absence is None else absence.reason
    return ProviderBusy(f"{step.target.candidate.provider}: {why} meanwhile")


def priority_of(exchange: Exchange, generation: Generation) -> Priority:
    """Tell which class of the queues a request is in."""
    name = generation.settings.priority_header
    if name == "none":
        return "normal"
    value = exchange.request.header(name.lower().encode("latin-1", "replace"))
    return PRIORITIES.get(value.strip().lower(), "normal") if value is not None else "normal"
