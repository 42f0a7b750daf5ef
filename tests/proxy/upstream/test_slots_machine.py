"""Slots under random use: who is served, displaced or refused is as the rules say, and no slot is lost."""

import asyncio
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import Overloaded
from proxy.upstream.slots import RANKS, Priority, Slots
from tests.proxy.upstream.slow_line import SlowLine, Waiting

QUEUE_TIMEOUT_S = 10.0

CALLERS = st.sampled_from(["a", "b", "c", None])
PRIORITIES: st.SearchStrategy[Priority] = st.sampled_from(["high", "normal", "low"])
LIMITS = st.sampled_from([1, 2, 3, None])

Fate = Literal["waits", "served", "refused", "cancelled"]


class TimelessLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands until it is moved."""

    now_s = 1.0

    def time(self) -> float:
        return self.now_s


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def fate_of(task: asyncio.Task[None]) -> Fate:
    if not task.done():
        return "waits"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is None:
        return "served"
    assert isinstance(error, Overloaded)
    return "refused"


class SlotsMachine(RuleBasedStateMachine):
    """Each call is done when the next one comes: everybody fares as the slow line says."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TimelessLoop()
        self.slots = Slots(2, 4, QUEUE_TIMEOUT_S, "test", clock=self.loop.time)
        self.line = SlowLine()
        self.limit: int | None = 2
        self.queue_size = 4
        self.held = 0
        self.ends_s: dict[Waiting, float] = {}
        self.fates: dict[asyncio.Task[None], Fate] = {}

    def teardown(self) -> None:
        for task in self.fates:
            task.cancel()
        self.loop.run_until_complete(turn())
        assert (self.slots.in_use, self.slots.waiting) == (self.held, 0)
        for _ in range(self.held):
            self.slots.release()
        assert self.slots.in_use == 0
        self.loop.close()

    def grant(self) -> None:
        while (self.limit is None or self.held < self.limit) and (one := self.line.first()) is not None:
            self.line.serve(one)
            self.held += 1
            self.fates[one.waiter] = "served"

    def go(self, one: Waiting, fate: Fate) -> None:
        self.line.leave(one)
        self.fates[one.waiter] = fate

    @rule()
    def try_take(self) -> None:
        is_free = self.limit is None or self.held < self.limit
        assert self.slots.try_take() is is_free
        self.held += is_free

    @rule(caller=CALLERS, priority=PRIORITIES)
    def take(self, caller: str | None, priority: Priority) -> None:
        task = self.loop.create_task(self.slots.take(caller, priority))
        one = Waiting(task, caller, RANKS[priority])
        if self.limit is None or self.held < self.limit:
            self.held += 1
            self.fates[task] = "served"
            return
        if len(self.line.waiting) >= self.queue_size:
            rival = self.line.rival(one.caller, one.rank)
            if rival is None:
                self.fates[task] = "refused"
                return
            self.go(rival, "refused")
        self.line.join(one)
        self.fates[task] = "waits"
        self.ends_s[one] = self.loop.now_s + QUEUE_TIMEOUT_S

    @precondition(lambda self: self.held > 0)
    @rule(times=st.integers(1, 3))
    def release(self, times: int) -> None:
        for _ in range(min(times, self.held)):
            self.held -= 1
            self.slots.release()
            self.grant()

    @precondition(lambda self: self.line.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.line.waiting))
        one.waiter.cancel()
        self.go(one, "cancelled")

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.now_s += seconds
        for one in list(self.line.waiting):
            if self.ends_s[one] <= self.loop.now_s:
                self.go(one, "refused")

    @rule(limit=LIMITS, queue_size=st.integers(0, 4))
    def resize(self, limit: int | None, queue_size: int) -> None:
        self.limit, self.queue_size = limit, queue_size
        self.slots.resize(limit, queue_size, QUEUE_TIMEOUT_S)
        self.grant()

    @invariant()
    def everybody_fares_as_the_rules_say(self) -> None:
        self.loop.run_until_complete(turn())
        assert {task: fate_of(task) for task in self.fates} == self.fates
        assert (self.slots.in_use, self.slots.waiting) == (self.held, len(self.line.waiting))


class HastySlotsMachine(RuleBasedStateMachine):
    """Calls meet in the middle, since the loop turns only now and then: bounds are kept, and no slot is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TimelessLoop()
        self.slots = Slots(2, 4, QUEUE_TIMEOUT_S, "test", clock=self.loop.time)
        self.held = 0
        self.most_in_use = 2.0
        self.most_waiting = 4
        self.queue_size = 4
        self.tasks: list[asyncio.Task[None]] = []

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.turn_loop()
        assert (self.slots.in_use, self.slots.waiting, self.tasks) == (self.held, 0, [])
        for _ in range(self.held):
            self.slots.release()
        assert self.slots.in_use == 0
        self.loop.close()

    @rule()
    def turn_loop(self) -> None:
        self.loop.run_until_complete(turn())
        self.held += sum(fate_of(task) == "served" for task in self.tasks)
        self.tasks = [task for task in self.tasks if not task.done()]
        if self.tasks:
            assert self.slots.limit is not None
            assert self.slots.in_use >= self.slots.limit

    @rule()
    def try_take(self) -> None:
        self.held += self.slots.try_take()

    @rule(caller=CALLERS, priority=PRIORITIES)
    def take(self, caller: str | None, priority: Priority) -> None:
        self.tasks.append(self.loop.create_task(self.slots.take(caller, priority)))

    @precondition(lambda self: self.held > 0)
    @rule()
    def release(self) -> None:
        self.held -= 1
        self.slots.release()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.tasks)).cancel()

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.now_s += seconds

    @rule(limit=LIMITS, queue_size=st.integers(0, 4))
    def resize(self, limit: int | None, queue_size: int) -> None:
        self.queue_size = queue_size
        self.slots.resize(limit, queue_size, QUEUE_TIMEOUT_S)
        self.most_in_use = max(self.slots.in_use, float("inf") if limit is None else limit)
        self.most_waiting = max(self.slots.waiting, queue_size)

    @invariant()
    def bounds_are_kept(self) -> None:
        limit = self.slots.limit
        assert 0 <= self.slots.in_use <= self.most_in_use
        assert 0 <= self.slots.waiting <= self.most_waiting
        self.most_in_use = max(self.slots.in_use, float("inf") if limit is None else limit)
        self.most_waiting = max(self.slots.waiting, self.queue_size)


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=150, stateful_step_count=40)
TestHastySlots = HastySlotsMachine.TestCase
TestHastySlots.settings = settings(max_examples=100, stateful_step_count=40)
