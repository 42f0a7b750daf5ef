"""Requests that wait until they are admitted, in the order in which they came."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

Sleep = Callable[[float], Awaitable[None]]


class Waiting:
    """All lines, bounded together.

    Args:
        most: `maxWaiting`.
        sleep: waits for so many seconds.
    """

    def __init__(self, most: int, sleep: Sleep = asyncio.sleep) -> None:
        self.most = most
        self.count = 0
        self._sleep = sleep
        self._lines: dict[Hashable, deque[asyncio.Event]] = {}

    @property
    def is_full(self) -> bool:
        """Nobody else may wait."""
        return self.count >= self.most

    def has_line(self, name: Hashable) -> bool:
        """Tell whether somebody waits for it, so that newcomers have to stand behind."""
        return name in self._lines

    async def pause(self, seconds: float) -> None:
        """Wait for one's own time, without a line."""
        self.count += 1
        try:
            await self._sleep(seconds)
        finally:
            self.count -= 1

    async def stand(self, name: Hashable, attempt: Callable[[], float], left_s: Callable[[], float]) -> bool:
        """Stand in line until an attempt succeeds.

        Args:
            attempt: tries, at the head of the line; gives 0.0 if it succeeded, else the seconds until the next try.
            left_s: the seconds that are left until one gives up.
        Returns:
            False if the time was over first.
        """
        line = self._lines.setdefault(name, deque())
        turn = asyncio.Event()
        line.append(turn)
        self.count += 1
        try:
            while line[0] is not turn:
                if not await self._within(turn, left_s()):
                    return False
            while (wait_s := attempt()) > 0:
                left = left_s()
                if wait_s > left:
                    return False
                await self._sleep(wait_s)
            return True
        finally:
            self._leave(name, line, turn)

    async def _within(self, turn: asyncio.Event, left_s: float) -> bool:
        if left_s <= 0:
            return False
        try:
            async with asyncio.timeout(left_s):
                await turn.wait()
        except TimeoutError:
            return False
        return True

    def _leave(self, name: Hashable, line: deque[asyncio.Event], turn: asyncio.Event) -> None:
        self.count -= 1
        was_first = line[0] is turn
        line.remove(turn)
        if not line:
            del self._lines[name]
        elif was_first:
            line[0].set()
