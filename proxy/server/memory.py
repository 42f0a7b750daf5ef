"""How much memory is left, and the refusal of new work before there is none."""

import asyncio
import gc
from collections.abc import Callable
from typing import Final, Self

from proxy.errors import Overloaded
from proxy.events import Events
from proxy.server.gauge import Gauge, Usage
from proxy.server.heap import give_back
from proxy.values import format_size

LOOK_EVERY_S: Final = 0.25
RELIEF: Final = 0.95
"""Requests are taken again below this share of what is too much, so that it does not flicker. Bodies may lead no
further either: what is read ahead on each connection comes on top."""

QUIET_S: Final = 2.0
"""So long after the last body that did not fit it is told to be over."""

SMALL_BODY_BYTES: Final = 16 << 10
"""Bodies up to this, come whole with their head, are left to the timer."""


class Room:
    """The memory of one request body while it comes; a context manager.

    Args:
        size_bytes: what is known of it beforehand.
    """

    __slots__ = ("_memory", "_size_bytes")

    def __init__(self, memory: "Memory", size_bytes: int) -> None:
        self._memory = memory
        self._size_bytes = size_bytes

    def __enter__(self) -> Self:
        self._memory.hold(self._size_bytes, self._size_bytes)
        return self

    def __exit__(self, *exc: object) -> None:
        self._memory.let_go(self._size_bytes)

    def grow_to(self, size_bytes: int) -> None:
        """Make room for so many bytes in all. Raises Overloaded if there is none."""
        if size_bytes > self._size_bytes:
            self._memory.hold(size_bytes - self._size_bytes, size_bytes)
            self._size_bytes = size_bytes


class Memory:
    """Refuses new requests above a share of the memory limit, and large bodies that would lead there.

    A timer looks at the whole. A body is counted with what it may take in all, before it comes if its length is
    declared, so that many at once do not pass between two looks.

    Args:
        percent: `server.shedMemoryPercent`; asked at each look, so that it changes live.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        percent: Callable[[], float],
        events: Events,
        *,
        clock: Callable[[], float],
        measure: Callable[[], Usage] | None = None,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        self._percent = percent
        self._events = events
        self._clock = clock
        self._measure = measure or Gauge().read
        self._give_back = give_back
        self.usage = self._measure()
        """As of the last look."""
        self.held_bytes = 0
        """Of bodies that are coming."""
        self._unseen_bytes = 0
        self._tight_until_s = 0.0
        self._is_told = False
        self._timer: asyncio.TimerHandle | None = None
        self.is_short = False
        """New requests are refused; an attribute, because it is read for each."""
        self.refused = 0

    def start(self) -> None:
        """Look from time to time from now on."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Measure, and begin or end refusing; 30 µs."""
        usage = self._take_stock()
        most = self._percent()
        if not self.is_short and usage.percent > most:
            gc.collect()
            self._give_back()
            usage = self._take_stock()
            if usage.percent > most:
                self.is_short = True
                self._tell("new requests get 503")
        elif self.is_short and usage.percent < most * RELIEF:
            self.is_short = False
        if self._is_told and not self.is_short and self._clock() >= self._tight_until_s:
            self._is_told = False
            message = f"{self._standing()}: requests are taken again, {self.refused} were refused since the start"
            self._events.emit("INFO", "memory_relieved", message)

    def room(self, size_bytes: int) -> Room:
        """Make room for a body while it comes. Entering it raises Overloaded if there is none."""
        return Room(self, size_bytes)

    def take(self, size_bytes: int) -> None:
        """Count a body that has come already. Raises as `hold`."""
        self.hold(size_bytes, size_bytes)
        self.let_go(size_bytes)

    def hold(self, size_bytes: int, whole_bytes: int) -> None:
        """Count a body, or a part of one, that is about to come.

        Args:
            whole_bytes: the size of the body as far as it is known.
        Raises:
            Overloaded: what it may take in all is not there.
        """
        if self.is_short or not self._fits(size_bytes):
            self.look()
            if self.is_short:
                raise self.refusal()
            if not self._fits(size_bytes):
                raise self._too_tight(whole_bytes)
        self.held_bytes += size_bytes

    def let_go(self, size_bytes: int) -> None:
        """Count a body as come; until the next look nobody knows what it really takes."""
        self.held_bytes -= size_bytes
        self._unseen_bytes += size_bytes

    def refusal(self) -> Overloaded:
        """Count a refused request and make its error."""
        self.refused += 1
        return Overloaded("this proxy is short of memory (server.shedMemoryPercent)", retry_after_s=QUIET_S)

    def problem(self) -> str | None:
        """Tell operators what is refused and why; None while all is taken."""
        if self.is_short:
            return f"{self._standing()}: new requests get 503 until it is below {self._percent() * RELIEF:.3g}%"
        if self._is_told:
            return f"{self._standing()}: request bodies for which it would not do get 503"
        return None

    def _look_again(self) -> None:
        self.start()
        if self.is_short:
            self._give_back()
        self.look()

    def _take_stock(self) -> Usage:
        self._unseen_bytes = 0
        self.usage = self._measure()
        return self.usage

    def _fits(self, size_bytes: int) -> bool:
        usage = self.usage
        if not usage.limit_bytes:
            return True
        body_bytes = self.held_bytes + self._unseen_bytes + size_bytes
        return usage.used_bytes + usage.growth * body_bytes <= usage.limit_bytes * self._percent() / 100 * RELIEF

    def _too_tight(self, size_bytes: int) -> Overloaded:
        self.refused += 1
        self._tight_until_s = self._clock() + QUIET_S
        needs = f"a request body of {format_size(size_bytes)} may take {format_size(self.usage.growth * size_bytes)}"
        self._tell(f"{needs}, so it and those like it get 503")
        return Overloaded(f"{needs}, and this proxy has not that much memory left", retry_after_s=QUIET_S)

    def _tell(self, consequence: str) -> None:
        if not self._is_told:
            self._is_told = True
            message = f"{self._standing()}: {consequence} (server.shedMemoryPercent is {self._percent():g})"
            self._events.emit("WARN", "memory_short", message)

    def _standing(self) -> str:
        usage = self.usage
        owner = {"container": "the container", "process": "this process (ulimit -v)"}.get(
            usage.limited_by, "the machine"
        )
        return f"memory is at {usage.percent:.0f}% of the {format_size(usage.limit_bytes)} of {owner}"
