"""Changes that end by themselves: at their time, or when requests go worse than before."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from proxy.config.models import ChangeSettings
from proxy.config.patch import Json, both, difference, give_way, inverse, merge
from proxy.config.revisions import Cause, Pending
from proxy.errors import ProxyError
from proxy.reload.vitals import Vitals, Window, verdict
from proxy.tasks import Tasks

LONGEST_SLEEP_S: Final = 86400.0
TRY_AGAIN_S: Final = 60.0
LOOKS: Final = 12
"""How often a guarded change is looked at in its window."""

End = Callable[[Pending, Cause, str], Awaitable[object]]
"""Takes a change back, with the reason; raises ProxyError."""


def after_change(
    pending: Sequence[Pending], old: Json, new: Json, *, touched: Json | None = None, made: Sequence[Pending] = ()
) -> tuple[Pending, ...]:
    """Tell what will end by itself after a change: the newest change to a key wins.

    Args:
        old, new: the documents before and after it.
        touched: merge patch of all places it wrote: who writes a value that is there for a time makes it stay.
        made: what of the change itself ends; `inverse` is filled in here.
    Returns:
        The earlier ones without the keys it wrote, and the new ones, which give back what was there before every
        change that was to end.
    """
    written = both(touched or {}, difference(old, new))
    kept = [replace(one, inverse=give_way(one.inverse, written)) for one in pending]
    permanent = old
    for one in reversed(pending):
        permanent = merge(permanent, one.inverse)
    back = difference(new, merge(new, inverse(written, permanent)))
    return tuple(one for one in (*kept, *(replace(one, inverse=back) for one in made)) if one.inverse)


Ending = tuple[int, float, bool]
"""What tells a change that ends from others, whatever is left of it: number, time, and whether it is guarded."""


def ending_of(one: Pending) -> Ending:
    """Tell which change it is that ends."""
    return one.number, one.at_s, one.baseline is not None


def is_same_ending(one: Pending, other: Pending) -> bool:
    """Tell whether two are the same change, whatever is left of it."""
    return ending_of(one) == ending_of(other)


class Endings:
    """Waits for the time of pending changes, and watches guarded ones.

    Args:
        settings: section `changes` as in force.
        end: takes a change back.
        keep: takes note that a guarded change proved good; raises ProxyError.
        tell_failure: told why a change could not be taken back, once.
        tell_mended: told when none is left that could not.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        tasks: Tasks,
        vitals: Vitals,
        settings: Callable[[], ChangeSettings],
        end: End,
        keep: Callable[[Pending], Awaitable[None]],
        tell_failure: Callable[[str], None],
        tell_mended: Callable[[], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._vitals = vitals
        self._settings = settings
        self._end = end
        self._keep = keep
        self._tell_failure = tell_failure
        self._tell_mended = tell_mended
        self._wall_clock = wall_clock
        self._due: dict[Ending, tuple[Pending, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._watches: dict[Ending, asyncio.Task[Any]] = {}  # Any: as in Tasks
        self._told: set[Ending] = set()

    def arm(self, pending: Sequence[Pending]) -> None:
        """Take over what is pending now; to be called after each change."""
        loop_s = asyncio.get_running_loop().time()
        now = {ending_of(one): one for one in pending}
        if self._told:
            self._told &= now.keys()
            if not self._told:
                self._tell_mended()
        # From here on the monotonic clock counts: setting the wall clock neither ends a change nor keeps it.
        self._due = {
            key: (one, self._due[key][1] if key in self._due else loop_s + max(0.0, one.at_s - self._wall_clock()))
            for key, one in now.items()
            if one.baseline is None
        }
        self._set_timer()
        guarded = {key: one for key, one in now.items() if one.baseline is not None}
        for key in self._watches.keys() - guarded.keys():
            self._watches.pop(key).cancel()
        for key in guarded.keys() - self._watches.keys():
            one = guarded[key]
            self._watches[key] = self._tasks.spawn(self._watch(one), name=f"guard of revision {one.number}")

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
        if self._due:
            loop = asyncio.get_running_loop()
            wait_s = min(due_s for _, due_s in self._due.values()) - loop.time()
            self._timer = loop.call_later(min(max(wait_s, at_least_s), LONGEST_SLEEP_S), self._ring)

    def _ring(self) -> None:
        now_s = asyncio.get_running_loop().time()
        due = [one for one, due_s in self._due.values() if due_s <= now_s]
        if due:
            self._tasks.spawn(self._end_all(due), name="end of timed changes")
        else:
            self._set_timer()

    async def _end_all(self, due: Sequence[Pending]) -> None:
        has_ended = False
        try:
            ended = [await self._try_to_end(one, "timer", f"the time of revision {one.number} is over") for one in due]
            has_ended = all(ended)
        finally:
            self._set_timer(0.0 if has_ended else TRY_AGAIN_S)

    async def _try_to_end(self, one: Pending, cause: Cause, why: str) -> bool:
        """Take a change back; a failure is told once, and False."""
        try:
            await self._end(one, cause, why)
        except Exception as error:  # whatever it is: what is to end must not stay for good
            if ending_of(one) not in self._told:
                self._told.add(ending_of(one))
                reason = error.message if isinstance(error, ProxyError) else repr(error)
                self._tell_failure(f"revision {one.number} cannot be taken back ({why}): {reason}")
            return False
        return True

    async def _watch(self, one: Pending) -> None:
        baseline = dict(one.baseline or {})
        window_s = baseline.pop("window")
        before = Window.from_json(baseline)
        begin = self._vitals.read()
        loop = asyncio.get_running_loop()
        left_s = one.at_s - self._wall_clock()
        end_s = loop.time() + (left_s if 0 < left_s <= window_s else window_s)  # after a restart: once more, in full
        why: str | None = None
        while why is None and loop.time() < end_s:
            await asyncio.sleep(max(0.01, min(window_s / LOOKS, end_s - loop.time())))
            settings = self._settings()
            why = verdict(
                before,
                Window.between(begin, self._vitals.read()),
                factor=settings.guard_factor,
                least_requests=settings.guard_min_requests,
            )
        while True:  # `arm` cancels this when the change is no longer pending
            if await (self._try_to_end(one, "guard", why) if why is not None else self._try_to_keep(one)):
                return
            await asyncio.sleep(TRY_AGAIN_S)

    async def _try_to_keep(self, one: Pending) -> bool:
        try:
            await self._keep(one)
        except ProxyError:  # the disk; told already
            return False
        return True
