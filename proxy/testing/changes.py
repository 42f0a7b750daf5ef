"""Waiting, never without an end, for something to become so."""

import asyncio
from collections.abc import Callable


class Changes:
    """Tells those who wait that something has changed; `owner` opens the message of a wait that was in vain."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, is_true: Callable[[], bool], timeout_s: float, wanted: Callable[[], str]) -> None:
        """Wait until a claim is true.

        Args:
            wanted: names, at the time of the failure, what was waited for.
        Raises:
            TimeoutError: it was not within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not is_true():
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self._owner}: no {wanted()} within {timeout_s:g} s") from None
