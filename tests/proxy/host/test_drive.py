"""A coroutine driven in the running task: budgets, cancellation, and what the task looks like from inside."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

import pytest

from proxy.host.drive import Drive

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def drive(coro: Coroutine[Any, Any, object], budget_s: float = 5.0) -> Drive:
    found = Drive(coro, budget_s)
    found.begin()
    await found
    return found


async def test_answer_comes_after_many_suspensions() -> None:
    async def hook() -> int:
        total = 0
        for number in range(10):
            await asyncio.sleep(0)
            total += await asyncio.wait_for(asyncio.sleep(0, number), 1)
        return total

    assert (await drive(hook())).answer == 45


async def test_task_timeouts_and_context_are_those_of_the_caller() -> None:
    caller = asyncio.current_task()

    async def hook() -> str:
        assert asyncio.current_task() is caller
        VARIABLE.set("set inside")
        try:
            async with asyncio.timeout(0.005):
                await asyncio.sleep(3600)
        except TimeoutError:
            assert asyncio.current_task() is caller
            return "its own timeout"
        return "none"

    assert (await drive(hook())).answer == "its own timeout"
    assert VARIABLE.get() == "set inside"


async def test_exception_of_what_it_awaits_reaches_it() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("inner")

    async def hook() -> str:
        try:
            await asyncio.create_task(fails())
        except KeyError:
            return "handled"
        return "not raised"

    assert (await drive(hook())).answer == "handled"


async def test_bad_yield_is_its_own_failure() -> None:
    class Odd:
        def __await__(self) -> Any:
            yield "not a future"

    async def hook() -> None:
        await Odd()

    assert isinstance((await drive(hook())).error, RuntimeError)


async def test_overrun_is_cut_and_cleans_up() -> None:
    cleaned = []

    async def hook() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    found = await drive(hook(), 0.01)

    assert found.is_overrun
    assert isinstance(found.error, TimeoutError)
    assert cleaned == [True]
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # inside a task


async def test_answer_after_the_cut_does_not_count() -> None:
    async def hook() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "too late"
        return "never"

    found = await drive(hook(), 0.01)

    assert found.answer is None
    assert found.is_overrun


async def test_swallowing_cancellation_does_not_wedge() -> None:
    async def hook() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    found = await asyncio.wait_for(drive(hook(), 0.01), 1)

    assert found.is_overrun


async def test_cancelling_the_task_reaches_the_coroutine_and_its_caller() -> None:
    seen = []

    async def hook() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("hook")
            raise

    task = asyncio.create_task(drive(hook()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert seen == ["hook"]
    assert task.cancelled()


async def test_swallowed_cancellation_of_the_task_is_raised_all_the_same() -> None:
    async def hook() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    task = asyncio.create_task(drive(hook()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_cancellation_at_the_moment_of_the_cut_is_not_lost() -> None:
    async def hook() -> None:
        await asyncio.sleep(3600)

    task = asyncio.create_task(drive(hook(), 0.01))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    await asyncio.wait([task])

    assert task.cancelled()


async def test_timeout_around_it_works() -> None:
    async def hook() -> None:
        await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await drive(hook())


async def test_its_own_cancelled_error_is_a_failure_not_a_cancellation() -> None:
    async def hook() -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    assert isinstance((await drive(hook())).error, asyncio.CancelledError)


async def test_closing_the_caller_closes_it() -> None:
    closed = []

    async def hook() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            closed.append(True)

    task = asyncio.create_task(asyncio.sleep(0))
    caller = drive(hook())
    await task
    caller.send(None)
    caller.close()

    assert closed == [True]
