"""The only place that starts background work: named, held, and never failing in silence."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from proxy.events import Events


class Tasks:
    """Background tasks of one owner; holds them so that they are not collected, ends them together."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._running: set[asyncio.Task[Any]] = set()  # Any: what a background task returns, nobody reads

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[Any]:
        """Run a coroutine in the background; an exception in it becomes an event `task_failed`."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, timeout_s: float = 5.0) -> None:
        """Cancel all that still runs and wait for it, at most `timeout_s`."""
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=timeout_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._events.emit(
                "ERROR", "task_failed", f"background task {task.get_name()} failed: {error!r}", task=task.get_name()
            )
