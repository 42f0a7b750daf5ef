"""A limit on how much runs at once, with a bounded queue in order of arrival."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.errors import Overloaded

SMOOTHING: Final = 0.1
"""Weight of the newest interval in the average time between two releases."""

MOST_RETRY_AFTER_S: Final = 60.0


class Slots:
    """Slots to be taken and given back; waiting is fair, bounded in number and in time.

    Args:
        limit: slots at most; None for no limit.
        queue_size: how many may wait; 0 refuses at once.
        queue_timeout_s: how long one may wait.
        name: what is limited, for messages.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        limit: int | None,
        queue_size: int,
        queue_timeout_s: float,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.limit = limit
        self.in_use = 0
        """Slots taken now; above `limit` for a while after it was lowered."""
        self._queue_size = queue_size
        self._queue_timeout_s = queue_timeout_s
        self._clock = clock
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._released_s = 0.0
        self._interval_s = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiters)

    def try_take(self) -> bool:
        """Take a slot if one is free and nobody waits."""
        if self._waiters or (self.limit is not None and self.in_use >= self.limit):
            return False
        self.in_use += 1
        return True

    async def take(self) -> None:
        """Take a slot, waiting in line if need be.

        Raises:
            Overloaded: the line is full (at once), or the wait was too long.
        """
        if self.try_take():
            return
        if len(self._waiters) >= self._queue_size:
            raise Overloaded(
                f"{self.name}: {self.in_use} of {self.limit} in use and {len(self._waiters)} waiting, "
                f"the queue holds {self._queue_size}",
                retry_after_s=self._retry_after_s(),
            )
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(self._queue_timeout_s, self._give_up, waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._leave(waiter)
            elif waiter.exception() is None:  # granted in the same turn of the loop
                self.release()
            raise
        finally:
            timer.cancel()

    def release(self) -> None:
        """Give a slot back; the first who still waits gets it."""
        self.in_use -= 1
        if self._waiters:
            now_s = self._clock()
            if self._released_s:
                self._interval_s += SMOOTHING * (now_s - self._released_s - self._interval_s)
            self._released_s = now_s
            self._grant()
        else:
            self._released_s = 0.0

    def resize(self, limit: int | None, queue_size: int, queue_timeout_s: float) -> None:
        """Change the limits; who waits already keeps its place and its time."""
        self.limit = limit
        self._queue_size = queue_size
        self._queue_timeout_s = queue_timeout_s
        self._grant()

    def _grant(self) -> None:
        waiters = self._waiters
        while waiters and (self.limit is None or self.in_use < self.limit):
            waiter = waiters.popleft()
            if not waiter.done():  # cancelled, and its task has not run yet
                self.in_use += 1
                waiter.set_result(None)

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:  # passed over by `_grant`
            pass

    def _give_up(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            self._leave(waiter)
            waiter.set_exception(
                Overloaded(
                    f"{self.name}: none of {self.limit} became free within {self._queue_timeout_s:g} s",
                    retry_after_s=self._retry_after_s(),
                )
            )

    def _retry_after_s(self) -> float:
        """Guess when those who wait now will have been served."""
        return min(max(1.0, self._interval_s * (len(self._waiters) + 1)), MOST_RETRY_AFTER_S)
