"""Concurrency limits: fair, bounded, and no slot lost whatever is cancelled when."""

import asyncio
import contextlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import Overloaded
from proxy.upstream.slots import Slots


def make_slots(limit: int | None = 1, queue_size: int = 10, queue_timeout_s: float = 10.0) -> Slots:
    return Slots(limit, queue_size, queue_timeout_s, "test")


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_free_slot_is_taken_without_waiting() -> None:
    slots = make_slots(2)

    assert [slots.try_take(), slots.try_take(), slots.try_take()] == [True, True, False]
    assert (slots.in_use, slots.waiting) == (2, 0)


async def test_no_limit_never_refuses() -> None:
    slots = make_slots(None)

    assert all(slots.try_take() for _ in range(1000))


async def test_waiters_are_served_in_order_of_arrival_and_nobody_jumps_in() -> None:
    slots, served = make_slots(), []
    slots.try_take()

    async def wait(number: int) -> None:
        await slots.take()
        served.append(number)

    tasks = [asyncio.ensure_future(wait(number)) for number in range(3)]
    await turn()
    assert slots.waiting == 3
    for _ in range(3):
        slots.release()
        assert not slots.try_take()
        await turn()

    assert served == [0, 1, 2]
    assert (slots.in_use, slots.waiting) == (1, 0)
    await asyncio.gather(*tasks)


async def test_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    slots = make_slots(queue_size=0)
    slots.try_take()

    with pytest.raises(Overloaded) as caught:
        await slots.take()

    assert caught.value.message == "test: 1 of 1 in use and 0 waiting, the queue holds 0"
    assert (caught.value.status, caught.value.retry_after_s) == (503, 1.0)
    assert (slots.in_use, slots.waiting) == (1, 0)


async def test_wait_is_bounded() -> None:
    slots = make_slots(queue_timeout_s=0.02)
    slots.try_take()

    with pytest.raises(Overloaded, match=r"test: none of 1 became free within 0.02 s"):
        await slots.take()

    assert (slots.in_use, slots.waiting) == (1, 0)
    slots.release()
    assert slots.in_use == 0


async def test_retry_after_grows_with_the_queue() -> None:
    now_s = [1.0]
    slots = Slots(1, 3, 100.0, "test", clock=lambda: now_s[0])
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take()) for _ in range(3)]
    await turn()
    for _ in range(40):
        now_s[0] += 5
        slots.release()
        tasks.append(asyncio.ensure_future(slots.take()))
        await turn()

    with pytest.raises(Overloaded) as caught:
        await slots.take()

    assert caught.value.retry_after_s == pytest.approx(20, rel=0.1)
    for task in tasks:
        task.cancel()


async def test_slot_granted_to_a_waiter_cancelled_in_the_same_turn_goes_on() -> None:
    slots = make_slots()
    slots.try_take()
    first, second = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
    await turn()

    slots.release()
    first.cancel()
    await turn()

    assert first.cancelled()
    assert second.done()
    assert (slots.in_use, slots.waiting) == (1, 0)


async def test_waiter_cancelled_before_the_release_is_passed_over() -> None:
    slots = make_slots()
    slots.try_take()
    first, second = asyncio.ensure_future(slots.take()), asyncio.ensure_future(slots.take())
    await turn()

    first.cancel()
    slots.release()
    await turn()

    assert second.done()
    assert (slots.in_use, slots.waiting) == (1, 0)


async def test_resize_serves_waiters_and_lets_the_rest_run_out() -> None:
    slots = make_slots(1)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take()) for _ in range(3)]
    await turn()

    slots.resize(3, 10, 10.0)
    await turn()
    assert [task.done() for task in tasks] == [True, True, False]

    slots.resize(1, 10, 10.0)
    slots.release()
    slots.release()
    await turn()
    assert (slots.in_use, slots.waiting) == (1, 1)

    slots.resize(None, 10, 10.0)
    await turn()
    assert tasks[2].done()


class TimelessLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands until it is moved."""

    now_s = 1.0

    def time(self) -> float:
        return self.now_s


class SlotsMachine(RuleBasedStateMachine):
    """Any order of calls keeps: never above the limit by taking, no slot lost, order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = TimelessLoop()
        self.slots = Slots(2, 4, 10.0, "test", clock=self.loop.time)
        self.held = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.served: list[asyncio.Task[None]] = []

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.settle()
        assert self.slots.in_use == self.held
        assert self.slots.waiting == 0
        self.loop.close()

    def settle(self) -> None:
        self.loop.run_until_complete(turn())
        self.collect()

    def collect(self) -> None:
        for task in list(self.tasks):
            if task.done():
                self.tasks.remove(task)
                with contextlib.suppress(asyncio.CancelledError, Overloaded):
                    task.result()
                    self.held += 1

    @rule()
    def settle_now(self) -> None:
        self.settle()

    @rule()
    def try_take(self) -> None:
        self.held += self.slots.try_take()

    @rule()
    def take(self) -> None:
        self.tasks.append(self.loop.create_task(self.slots.take()))

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
        self.settle()

    @rule(limit=st.sampled_from([1, 2, 3, None]), queue_size=st.integers(0, 4))
    def resize(self, limit: int | None, queue_size: int) -> None:
        self.slots.resize(limit, queue_size, 10.0)

    @invariant()
    def keeps_its_word(self) -> None:
        self.settle()
        assert self.slots.in_use == self.held
        assert self.slots.waiting == len(self.tasks)
        if self.tasks:
            assert self.slots.limit is not None
            assert self.slots.in_use >= self.slots.limit


class HastySlotsMachine(SlotsMachine):
    """The same without a turn of the loop between two calls, so that they meet in the middle."""

    @invariant()
    def keeps_its_word(self) -> None:
        assert self.slots.in_use >= 0


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHastySlots = HastySlotsMachine.TestCase
TestHastySlots.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
