"""Concurrency limits: bounded, no caller locked out, and no slot lost whatever is cancelled when."""

import asyncio
import gc
import time
import weakref

import pytest

from proxy.errors import Overloaded
from proxy.upstream.slots import Priority, Slots


def make_slots(limit: int | None = 1, queue_size: int = 10, queue_timeout_s: float = 10.0) -> Slots:
    return Slots(limit, queue_size, queue_timeout_s, "test")


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Key(str):
    """A caller's key that can be watched."""

    __slots__ = ("__weakref__",)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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


async def test_priorities_and_callers_say_who_is_next() -> None:
    slots, served = make_slots(), []
    slots.try_take()

    async def wait(caller: str | None, priority: Priority) -> None:
        await slots.take(caller, priority)
        served.append((caller, priority))

    places: list[tuple[str | None, Priority]] = [("a", "low"), ("a", "normal"), ("a", "normal"), (None, "normal")]
    tasks = [asyncio.ensure_future(wait(*place)) for place in [*places, ("b", "high")]]
    await turn()
    for _ in range(5):
        slots.release()
        await turn()

    assert served == [("b", "high"), ("a", "normal"), (None, "normal"), ("a", "normal"), ("a", "low")]
    await asyncio.gather(*tasks)


async def test_noisy_caller_makes_room_and_is_told_without_being_named() -> None:
    slots = make_slots(queue_size=2)
    slots.try_take()
    noisy = [asyncio.ensure_future(slots.take("sk-noisy")) for _ in range(2)]
    await turn()

    quiet = asyncio.ensure_future(slots.take("sk-quiet"))
    await turn()

    assert [task.done() for task in (*noisy, quiet)] == [False, True, False]
    with pytest.raises(Overloaded) as caught:
        await noisy[1]
    assert caught.value.message == (
        "test: 1 of 1 in use and 2 waiting, the queue holds 2; the place went to a caller that holds fewer"
    )
    assert (slots.in_use, slots.waiting, caught.value.retry_after_s) == (1, 2, 1.0)
    slots.release()
    slots.release()
    await asyncio.gather(noisy[0], quiet)


async def test_quiet_callers_are_never_refused_however_many_a_noisy_one_sends() -> None:
    slots = make_slots(limit=4, queue_size=20)
    noisy: list[asyncio.Task[None]] = []
    quiet: list[asyncio.Task[None]] = []
    for number in range(200):
        noisy += [asyncio.create_task(slots.take("noisy")) for _ in range(20)]
        quiet.append(asyncio.create_task(slots.take(f"quiet {number % 5}")))
        await turn()
        assert slots.waiting <= 20
        for _ in range(min(2, slots.in_use)):
            slots.release()
        await turn()
        assert quiet[number].done()

    assert not any(task.exception() for task in quiet)
    assert sum(task.done() and task.exception() is not None for task in noisy) > 3700
    await end(noisy)


async def test_newcomer_of_a_lower_priority_displaces_nobody() -> None:
    slots = make_slots(queue_size=2)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take("a", "high")) for _ in range(2)]
    await turn()

    with pytest.raises(Overloaded, match=r"the queue holds 2$"):
        await slots.take("b", "normal")

    await end(tasks)


async def test_caller_alone_is_refused_at_once_beyond_the_bound() -> None:
    slots = make_slots(queue_size=1000)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take("a")) for _ in range(1000)]
    await turn()

    started_s = time.perf_counter()
    with pytest.raises(Overloaded, match=r"1000 waiting, the queue holds 1000$"):
        await slots.take("a", "high")
    duration_s = time.perf_counter() - started_s

    print(f"refused beyond 1,000 waiters in {duration_s * 1e6:.0f} us")
    assert duration_s < 0.02
    await end(tasks)


async def test_displaced_waiter_that_is_cancelled_in_the_same_turn_gives_back_nothing() -> None:
    slots = make_slots(queue_size=2)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take("a")) for _ in range(2)]
    await turn()

    quiet = asyncio.ensure_future(slots.take("b"))
    asyncio.get_running_loop().call_soon(tasks[1].cancel)  # after the newcomer, before the displaced one wakes up
    await turn()

    assert tasks[1].cancelled()
    assert (slots.in_use, slots.waiting) == (1, 2)
    await end([tasks[0], quiet])


async def test_waiter_cancelled_before_it_is_displaced_leaves_its_place_to_the_newcomer() -> None:
    slots = make_slots(queue_size=2)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take("a")) for _ in range(2)]
    await turn()

    quiet = asyncio.ensure_future(slots.take("b"))
    tasks[1].cancel()  # its task wakes up after the newcomer's
    await turn()

    assert tasks[1].cancelled()
    assert (slots.in_use, slots.waiting) == (1, 2)
    await end([tasks[0], quiet])


async def test_lowered_queue_size_turns_nobody_out_and_lets_nobody_in() -> None:
    slots = make_slots(queue_size=3)
    slots.try_take()
    tasks = [asyncio.ensure_future(slots.take()) for _ in range(3)]
    await turn()

    slots.resize(1, 1, 10.0)
    with pytest.raises(Overloaded, match=r"3 waiting, the queue holds 1$"):
        await slots.take()

    assert slots.waiting == 3
    await end(tasks)


async def test_caller_is_forgotten_as_soon_as_its_waiter_is_served() -> None:
    slots, key = make_slots(), Key("sk-test")
    forgotten = weakref.ref(key)
    slots.try_take()
    task = asyncio.ensure_future(slots.take(key))
    await turn()
    slots.release()
    await task

    del key, task
    gc.collect()

    assert forgotten() is None


@pytest.mark.parametrize(("within_s", "words"), [(0.02, "0.02 s, which is all"), (5.0, "0.05 s")])
async def test_the_shorter_of_the_lines_time_and_the_requests_counts_and_is_told(within_s: float, words: str) -> None:
    slots = make_slots(queue_timeout_s=0.05)
    slots.try_take()

    with pytest.raises(Overloaded) as caught:
        await slots.take(within_s=within_s)

    assert caught.value.message.startswith(f"test: none of 1 became free within {words}")
    assert ("the request's time" in caught.value.message) == (within_s == 0.02)
    assert (slots.in_use, slots.waiting) == (1, 0)


async def test_request_without_time_takes_a_free_slot_and_waits_for_none() -> None:
    slots = make_slots()
    await slots.take(within_s=-1.0)

    with pytest.raises(Overloaded, match=r"within 0 s, which is all that was left"):
        await slots.take(within_s=-1.0)

    assert (slots.in_use, slots.waiting) == (1, 0)
