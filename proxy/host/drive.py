"""Drives a plugin's coroutine in the running task, within a budget that is armed only once it suspends."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, Final

GRACE_S: Final = 0.1
"""Time a coroutine that was cut has for its cleanup; then it is dropped where it stands."""


class Drive:
    """A coroutine that goes on in the task that awaits this, as if that task had awaited it from its start.

    After `await drive`, exactly one of `answer` and `error` tells how it ended. Awaiting raises only what is not the
    coroutine's: CancelledError when the task itself is being cancelled, also if the coroutine swallowed that.

    Args:
        coro: begun (then give what its first step yielded) or to be begun by `begin`.
        budget_s: seconds from now after which it is cancelled; it is dropped `GRACE_S` later, should it go on.
    """

    __slots__ = (
        "_cancels",
        "_coro",
        "_cuts",
        "_pending",
        "_timer",
        "answer",
        "budget_s",
        "error",
        "has_ended",
        "longest_step_s",
    )

    def __init__(self, coro: Coroutine[Any, Any, object], budget_s: float, pending: object = None) -> None:
        self.answer: object = None
        self.error: BaseException | None = None
        self.budget_s = budget_s
        self.has_ended = False
        self.longest_step_s = 0.0
        """Longest time it kept the loop from other work."""
        self._coro = coro
        self._pending = pending
        self._timer: asyncio.TimerHandle | None = None
        self._cancels = 0
        self._cuts = 0

    @property
    def is_overrun(self) -> bool:
        """It did not end within its budget; what it answered after that does not count."""
        return self._cuts > 0

    def begin(self) -> None:
        """Run the first step, up to where it suspends; it may end there."""
        self._step(self._coro.send, None)

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a hook is driven inside a task only")
        cancelling = task.cancelling()
        self._arm(task, self.budget_s)
        try:
            while not self.has_ended:
                yield from self._resume(task)
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if self._cuts:
            self.answer, self.error = None, TimeoutError(f"over its budget of {self.budget_s * 1000:g} ms")
        if task.cancelling() > cancelling:
            raise asyncio.CancelledError

    def _resume(self, task: "asyncio.Task[Any]") -> Generator[Any, Any, None]:
        """Hand what the coroutine waits for to the task, then run its next step with what came back."""
        act: Callable[[Any], object] = self._coro.send
        try:
            value = yield self._pending
        except GeneratorExit:
            self._coro.close()
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            act, value = self._coro.throw, error
        while self._cancels:  # our own cancellations are over once they were delivered
            self._cancels -= 1
            self._cuts += 1
            task.uncancel()
        if self._cuts > 1:
            self._drop()
        else:
            self._step(act, value)

    def _step(self, act: Callable[[Any], object], value: object) -> None:
        started = perf_counter()
        try:
            self._pending = act(value)
        except StopIteration as stop:
            self.has_ended, self.answer = True, stop.value
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self.has_ended, self.error = True, error
        self.longest_step_s = max(self.longest_step_s, perf_counter() - started)

    def _drop(self) -> None:
        """Give up a coroutine that was cut and still goes on."""
        self.has_ended = True
        try:
            self._coro.close()
        except Exception as error:  # foreign code: it may even refuse to be closed
            self.error = error

    def _arm(self, task: "asyncio.Task[Any]", delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._cut, task)

    def _cut(self, task: "asyncio.Task[Any]") -> None:
        self._cancels += 1
        task.cancel()
        self._arm(task, GRACE_S)
