"""A limit on time that holds even where the cleanup of what it cuts would wait."""

import asyncio
from typing import Final, Self

GRACE_S: Final = 0.001
"""The loop gets this long to hand over an answer that has come."""
AGAIN_S: Final = 0.005
"""What goes on after it was cancelled is cancelled again this often."""


class Deadline:
    """`with Deadline(0.05) as deadline:` cancels what it encloses when the time is over.

    Unlike `asyncio.timeout`, it goes on cancelling: a client library that waits for the server in its own cleanup
    would else wait for ever. Leaving it raises TimeoutError where the time was over, and CancelledError where the
    task itself was cancelled meanwhile.

    A loop that was busy with something else takes its time from what it encloses: as much is given back, up to half.

    Args:
        seconds: from entering to the first cancellation.
    """

    __slots__ = ("_before", "_cuts", "_due_s", "_loop", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cuts = 0

    @property
    def is_over(self) -> bool:
        """Whether it has cut what it encloses."""
        return self._cuts > 0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for what runs in a task")
        self._task, self._before = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + max(self._seconds - 2 * GRACE_S, 0.0)
        self._timer = self._loop.call_at(self._due_s, self._wait_a_little)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._timer.cancel()
        if not self._cuts:
            return
        for _ in range(self._cuts):
            self._task.uncancel()
        if kind is asyncio.CancelledError and self._task.cancelling() <= self._before:
            raise TimeoutError(f"no answer within {self._seconds * 1000:g} ms") from error

    def _wait_a_little(self) -> None:
        """Cut only after the loop has looked for what has come: this timer may be late, and the answer there."""
        late_s = self._loop.time() - self._due_s
        self._timer = self._loop.call_later(GRACE_S + min(max(late_s - GRACE_S, 0.0), self._seconds / 2), self._cut)

    def _cut(self) -> None:
        self._cuts += 1
        self._task.cancel()
        self._timer = self._loop.call_later(AGAIN_S, self._cut)
