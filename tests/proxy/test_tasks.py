"""Background work: held, named, ended together, never failing in silence."""

import asyncio
import gc

import pytest

from proxy.events import Events
from proxy.tasks import Tasks


async def test_task_that_fails_becomes_an_event() -> None:
    events = Events(lambda: 0.0)
    tasks = Tasks(events)

    async def fail() -> None:
        raise ValueError("no luck")

    task = tasks.spawn(fail(), name="luckless")
    await asyncio.wait((task,))
    await asyncio.sleep(0)

    (event,) = events.recent()
    assert (event.level, event.kind, event.fields) == ("ERROR", "task_failed", {"task": "luckless"})
    assert "no luck" in event.message
    assert len(tasks) == 0


async def test_task_that_ends_well_leaves_nothing() -> None:
    events = Events(lambda: 0.0)
    tasks = Tasks(events)

    async def work() -> int:
        return 7

    task = tasks.spawn(work(), name="worker")

    assert (task.get_name(), len(tasks)) == ("worker", 1)
    assert await task == 7
    await asyncio.sleep(0)
    assert (len(tasks), events.recent()) == (0, [])


async def test_running_task_is_held_against_the_collector() -> None:
    tasks = Tasks(Events(lambda: 0.0))
    ended = asyncio.Event()
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()
        ended.set()

    tasks.spawn(work(), name="worker")
    await asyncio.sleep(0)
    gc.collect()
    go.set()

    async with asyncio.timeout(5):
        await ended.wait()


async def test_close_cancels_what_runs_and_waits_for_its_cleanup() -> None:
    events = Events(lambda: 0.0)
    tasks = Tasks(events)
    cleaned: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    for name in ("a", "b"):
        tasks.spawn(work(name), name=name)
    await asyncio.sleep(0)
    await tasks.close()

    assert sorted(cleaned) == ["a", "b"]
    assert (len(tasks), events.recent()) == (0, [])


async def test_close_does_not_wait_longer_than_told_for_one_that_will_not_end() -> None:
    tasks = Tasks(Events(lambda: 0.0))
    release = asyncio.Event()

    async def stubborn() -> None:
        try:
            await release.wait()
        finally:
            await release.wait()

    task = tasks.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    await tasks.close(timeout_s=0.001)

    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_task_may_close_its_own_group() -> None:
    tasks = Tasks(Events(lambda: 0.0))

    task = tasks.spawn(tasks.close(), name="closer")

    async with asyncio.timeout(5):
        await task
    assert not task.cancelled()
