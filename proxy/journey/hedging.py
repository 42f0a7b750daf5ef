"""Two attempts at once for one client: a second provider is asked when the first is late, and who loses is dropped."""

import asyncio
from collections.abc import Sequence

from proxy.errors import Draining, ProxyError, UpstreamError
from proxy.exchange import Exchange
from proxy.journey.kit import Ask, Kit, Unanswered
from proxy.journey.race import Contender, Race
from proxy.reload.generation import Generation
from proxy.routing.failures import judge
from proxy.routing.plan import Plan, Step
from proxy.sink import Sink
from proxy.upstream.slots import Slots

Running = dict["asyncio.Task[ProxyError | ConnectionError | None]", tuple[Step, Contender]]


class Hedged:
    """One exchange's attempts at once: never more than two.

    Args:
        ask: makes one attempt.
    """

    __slots__ = ("_ask", "_exchange", "_generation", "_kit", "_plan", "_race", "_running")

    def __init__(self, kit: Kit, generation: Generation, exchange: Exchange, plan: Plan, sink: Sink, ask: Ask) -> None:
        self._kit = kit
        self._generation = generation
        self._exchange = exchange
        self._plan = plan
        self._ask = ask
        self._race = Race(sink, self._won)
        self._running: Running = {}

    def late_after_s(self, step: Step) -> float | None:
        """Tell after how long a second attempt is due; None if there is to be none."""
        hedging = self._generation.settings.hedging
        if len(self._plan.targets) < 2 or self._exchange.request.upload is not None:
            return None
        share = hedging.percentile / 100
        late_s = step.target.lane.first_bytes.quantile(
            share,
            self._kit.clock(),
            least=hedging.min_requests,
            is_streaming=self._exchange.request.is_streaming,
        )
        return None if late_s is None else max(late_s, hedging.min_delay)

    async def run(self, first: Step, late_s: float) -> Sequence[Unanswered]:
        """Ask one, and when it is late another one beside it; who begins to answer first has the client.

        Args:
            first: its slot is held.
        Returns:
            Who failed, the last one last; nobody once the client has its answer.
        Raises:
            ProxyError: the response broke off, or the request cannot be sent.
            ConnectionError: the client left.
        """
        self._begin(first, is_hedge=False)
        try:
            await asyncio.wait(self._running, timeout=late_s)
            if (second := self._second()) is not None:
                self._begin(second, is_hedge=True)
            return await self._follow()
        finally:
            await self._drop_all()

    def _begin(self, step: Step, *, is_hedge: bool) -> None:
        contender = self._race.contender(is_hedge=is_hedge)
        task = self._kit.tasks.spawn(self._contend(step, contender), name="hedged attempt")
        self._running[task] = step, contender

    async def _contend(self, step: Step, contender: Contender) -> ProxyError | ConnectionError | None:
        """Make one attempt; return what went wrong rather than raise it, because nobody may be there to hear."""
        contender.has_begun = True
        try:
            await self._ask(self._generation, self._exchange, self._plan.may_go_on, step, contender, contender)
        except (ProxyError, ConnectionError) as error:
            return error
        return None

    def _won(self, winner: Contender) -> None:
        """Drop the others, and let the exchange speak of the winner only."""
        exchange, attempt = self._exchange, winner.attempt
        if attempt is not None and exchange.attempt is not attempt:
            exchange.provider, exchange.attempt = attempt.provider, attempt
            exchange.usage = exchange.served_model = None
        for task, (_, contender) in self._running.items():
            if contender is not winner:
                task.cancel()

    def _second(self) -> Step | None:
        """Choose who is asked beside the one that is late; its slot is taken."""
        ((task, (_, first)),) = self._running.items()
        attempt = first.attempt
        if task.done() or self._race.winner is not None or attempt is None or attempt.first_byte_s is not None:
            return None
        second = self._plan.other(self._kit.clock())
        if second is None or not (slots := self._slots_of(second)).try_take():
            return None
        if self._kit.hedges.withdraw():
            return second
        slots.release()
        return None

    async def _follow(self) -> Sequence[Unanswered]:
        """Wait for the first answer; give who failed if there is none. Raises as `run`."""
        race, pending = self._race, set(self._running)
        failed: list[Unanswered] = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                step, contender = self._running[task]
                if task.cancelled() or race.winner not in (None, contender):
                    continue
                error = task.exception() or task.result()
                if error is None:
                    return ()
                if race.winner is contender:
                    raise error
                if not isinstance(error, UpstreamError):
                    if contender.is_hedge:  # it could not even be sent in the other provider's format
                        continue
                    raise error
                failed.append((step, error))
                if not contender.is_hedge and judge(error).kind is None:
                    return failed  # the client's own mistake: there is nothing to wait for
        if not failed:
            raise Draining("this proxy is stopping")  # nobody else cancels both
        return failed

    async def _drop_all(self) -> None:
        for task in self._running:
            task.cancel()
        try:
            await asyncio.wait(self._running)
        finally:  # the client may leave while we wait
            for step, contender in self._running.values():
                if not contender.has_begun:  # cancelled before its first step: nobody else gives its slot back
                    self._slots_of(step).release()
            self._running.clear()
            self._race.end()

    def _slots_of(self, step: Step) -> Slots:
        return self._generation.endpoints[step.target.candidate.provider].slots
