"""A limit on how much runs at once, with a bounded queue in which classes go first and callers take turns."""

import asyncio
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final, Literal

from proxy.errors import Overloaded
from proxy.upstream.line import Caller, Line, Place

Priority = Literal["high", "normal", "low"]

RANKS: Final[Mapping[Priority, int]] = {"high": 0, "normal": 1, "low": 2}

SMOOTHING: Final = 0.1
"""Weight of the newest interval in the average time between two releases."""

MOST_RETRY_AFTER_S: Final = 60.0

REQUESTS_TIME: Final = "the request's time (failover.deadline, or the client's own)"


class Slots:
    """Slots to be taken and given back; waiting is fair, bounded in number and in time.

    Higher priorities are served first and callers take turns, as `Line` says. A full queue keeps no caller out for
    another's sake: who holds fewer places than the caller with most takes one of those, unless all that might go are
    of a higher priority.

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
        self._line = Line[asyncio.Future[None]](len(RANKS))
        self._released_s = 0.0
        self._interval_s = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._line.size

    def try_take(self) -> bool:
        """Take a slot if one is free; none is while somebody waits, since a free one is granted at once."""
        if self.limit is not None and self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    async def take(self, caller: str | None = None, priority: Priority = "normal", within_s: float = inf) -> None:
        """Take a slot, waiting in line if need be.

        Args:
            caller: who shares the queue fairly with other callers; None for all that are not told apart.
            within_s: what is left of the request's own time; where that is less than the line allows, it counts.
        Raises:
            Overloaded: the line is full (at once), the place went to another caller, or the wait was too long.
        """
        if self.try_take():
            return
        queue_s = self._queue_timeout_s
        if within_s <= 0:
            raise self._too_late(within_s, queue_s)
        if self._line.size >= self._queue_size:
            self._make_room(caller, RANKS[priority])
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        place = self._line.join(waiter, caller, RANKS[priority])
        timer = loop.call_later(min(within_s, queue_s), self._give_up, place, within_s, queue_s)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._line.leave(place)
            elif waiter.exception() is None:  # granted in the same turn of the loop
                self.release()
            raise
        finally:
            timer.cancel()

    def release(self) -> None:
        """Give a slot back; whose turn it is in the line gets it."""
        self.in_use -= 1
        if self._line.size:
            now_s = self._clock()
            if self._released_s:
                self._interval_s += SMOOTHING * (now_s - self._released_s - self._interval_s)
            self._released_s = now_s
            self._grant()
        else:
            self._released_s = 0.0

    def turn_away(self, reason: str) -> None:
        """Refuse all who wait: nobody is going to be served."""
        while (place := self._line.first()) is not None:
            self._line.leave(place)
            if not place.waiter.done():
                place.waiter.set_exception(Overloaded(f"{self.name}: {reason}"))

    def resize(self, limit: int | None, queue_size: int, queue_timeout_s: float) -> None:
        """Change the limits; who waits already keeps its place and its time."""
        self._queue_size = queue_size
        self._queue_timeout_s = queue_timeout_s
        self.adapt(limit)

    def adapt(self, limit: int | None) -> None:
        """Change how many there are, and nothing else."""
        self.limit = limit
        self._grant()

    def _grant(self) -> None:
        line = self._line
        while (self.limit is None or self.in_use < self.limit) and (place := line.first()) is not None:
            if place.waiter.done():  # cancelled, and its task has not run yet
                line.leave(place)
            else:
                line.serve(place)
                self.in_use += 1
                place.waiter.set_result(None)

    def _make_room(self, caller: Caller, rank: int) -> None:
        """Turn out somebody for a newcomer to the full line, or refuse the newcomer."""
        full = (
            f"{self.name}: {self.in_use} of {self.limit} in use and {self._line.size} waiting, "
            f"the queue holds {self._queue_size}"
        )
        rival = self._line.rival(caller, rank)
        if rival is None:
            raise Overloaded(full, retry_after_s=self._retry_after_s())
        self._line.leave(rival)
        if not rival.waiter.done():  # cancelled, and its task has not run yet
            message = f"{full}; the place went to a caller that holds fewer"
            rival.waiter.set_exception(Overloaded(message, retry_after_s=self._retry_after_s()))

    def _give_up(self, place: Place[asyncio.Future[None]], within_s: float, queue_s: float) -> None:
        if not place.waiter.done():
            self._line.leave(place)
            place.waiter.set_exception(self._too_late(within_s, queue_s))

    def _too_late(self, within_s: float, queue_s: float) -> Overloaded:
        """Make the error of a wait that was too long: for the line, or for the request."""
        if within_s < queue_s:
            within = f"{max(within_s, 0):.3g} s, which is all that was left of {REQUESTS_TIME}"
        else:
            within = f"{queue_s:g} s"
        message = f"{self.name}: none of {self.limit} became free within {within}"
        return Overloaded(message, retry_after_s=self._retry_after_s())

    def _retry_after_s(self) -> float:
        """Guess when those who wait now will have been served."""
        return min(max(1.0, self._interval_s * (self._line.size + 1)), MOST_RETRY_AFTER_S)
