"""Changes that end by themselves: at their time, or when requests go worse than before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from proxy.config.models import ChangeSettings
from proxy.config.patch import Json, difference, give_way, inverse, merge
from proxy.config.revisions import Cause, Pending
from proxy.errors import ProxyError
from proxy.events import Events
from proxy.reload.vitals import Vitals, Window, verdict
from proxy.tasks import Tasks

LONGEST_SLEEP_S: Final = 600.0
"""The wall clock may be set meanwhile: look at it again."""

TRY_AGAIN_S: Final = 60.0
LOOKS: Final = 12
"""How often a guarded change is looked at in its window."""

End = Callable[[Pending, Cause, str], Awaitable[object]]
"""Takes a change back, with the reason; raises ProxyError."""


def after_change(
    pending: Sequence[Pending], old: Json, new: Json, *, is_whole: bool, made: Sequence[Pending] = ()
) -> tuple[Pending, ...]:
    """Tell what will end by itself after a change: the newest change to a key wins.

    Args:
        old, new: the documents before and after it.
        is_whole: it said what everything is to be.
        made: what of the change itself ends; `inverse` is filled in here.
    Returns:
        The earlier ones without the keys it changed, and the new ones, which give back what was there before every
        change that was to end.
    """
    change = difference(old, new)
    kept = () if is_whole else tuple(replace(one, inverse=give_way(one.inverse, change)) for one in pending)
    permanent = old
    for one in reversed(pending):
        permanent = merge(permanent, one.inverse)
    back = difference(new, merge(new, inverse(change, permanent)))
    return tuple(one for one in (*kept, *(replace(one, inverse=back) for one in made)) if one.inverse)


class Endings:
    """Waits for the time of pending changes, and watches guarded ones.

    Args:
        settings: section `changes` as in force.
        end: takes a change back.
        keep: takes note that a guarded change proved good.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        tasks: Tasks,
        events: Events,
        vitals: Vitals,
        settings: Callable[[], ChangeSettings],
        end: End,
        keep: Callable[[Pending], Awaitable[None]],
        wall_clock: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._events = events
        self._vitals = vitals
        self._settings = settings
        self._end = end
        self._keep = keep
        self._wall_clock = wall_clock
        self._timed: tuple[Pending, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[int, asyncio.Task[Any]] = {}  # Any: as in Tasks
        self._told: set[int] = set()

    def arm(self, pending: Sequence[Pending]) -> None:
        """Take over what is pending now; to be called after each change."""
        self._timed = tuple(one for one in pending if one.baseline is None)
        self._set_timer()
        guarded = {one.number: one for one in pending if one.baseline is not None}
        for number in self._watches.keys() - guarded.keys():
            watch = self._watches.pop(number)
            watch.cancel()
        for number in guarded.keys() - self._watches.keys():
            watching = self._watch(guarded[number])
            self._watches[number] = self._tasks.spawn(watching, name=f"guard of revision {number}")
        self._told &= {one.number for one in pending}

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        for watch in self._watches.values():
            watch.cancel()

    def _set_timer(self, at_least_s: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timed:
            wait_s = min(one.at_s for one in self._timed) - self._wall_clock()
            wait_s = min(max(wait_s, at_least_s), LONGEST_SLEEP_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        due = [one for one in self._timed if one.at_s <= self._wall_clock()]
        if due:
            self._tasks.spawn(self._end_all(due), name="end of timed changes")
        else:
            self._set_timer()

    async def _end_all(self, due: Sequence[Pending]) -> None:
        for one in due:
            await self._try_to_end(one, "timer", f"the time of revision {one.number} is over")
        self._set_timer(TRY_AGAIN_S if any(one in self._timed for one in due) else 0.0)

    async def _try_to_end(self, one: Pending, cause: Cause, why: str) -> None:
        try:
            await self._end(one, cause, why)
        except ProxyError as error:
            if one.number not in self._told:
                self._told.add(one.number)
                message = f"revision {one.number} cannot be taken back ({why}): {error.message}"
                self._events.emit("ERROR", "config_revert_failed", message, revision=one.number)

    async def _watch(self, one: Pending) -> None:
        baseline = dict(one.baseline or {})
        window_s = baseline.pop("window")
        before = Window.from_json(baseline)
        begin = self._vitals.read()
        loop = asyncio.get_running_loop()
        left_s = one.at_s - self._wall_clock()
        end_s = loop.time() + (left_s if 0 < left_s <= window_s else window_s)  # after a restart: once more, in full
        while True:
            await asyncio.sleep(max(0.01, min(window_s / LOOKS, end_s - loop.time())))
            settings = self._settings()
            why = verdict(
                before,
                Window.between(begin, self._vitals.read()),
                factor=settings.guard_factor,
                least_requests=settings.guard_min_requests,
            )
            if why is not None:
                await self._try_to_end(one, "guard", why)
                return
            if loop.time() >= end_s:
                await self._keep(one)
                return
