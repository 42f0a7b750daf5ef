"""A live change of plugins' settings: everything made ready first, then taken over at once, or undone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from proxy.host.containment import describe
from proxy.host.routes import settle_routes
from proxy.host.slot import Slot
from proxy.plugin import AdminRoute, Machinery, PluginConfig

CHANGE_TIMEOUT_S: Final = 5.0
"""What `reconfigure`, or `startup` of an object made anew, may take."""


@dataclass(slots=True)
class Change:
    """One plugin whose section changed.

    Args:
        stage: how far the object that they share has come; `refused`: it raised, so it applied nothing.
    """

    old: Slot
    new: Slot
    stage: Literal["waiting", "refused", "begun"] = "waiting"

    @property
    def is_in_place(self) -> bool:
        """The same object goes on."""
        return self.new.instance is self.old.instance


class Transition:
    """The way from one set of slots to the next. After `make_ready`, either `commit` and `finish`, or `undo`.

    Args:
        slots: by name, in the order of `plugins:`, as they are now.
        wanted: new settings by plugin, of those that change.
        adopt: puts a set of slots in the place of the present one.
        list_routes: lists all routes of a set of slots.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        wanted: Mapping[str, PluginConfig],
        machinery: Machinery,
        adopt: Callable[[dict[str, Slot]], None],
        list_routes: Callable[[Iterable[Slot]], list[AdminRoute]],
    ) -> None:
        self.changed = tuple(slots[name].loaded.section for name in wanted)
        """Sections whose settings change, in the order of `plugins:`."""
        self._before = dict(slots)
        self._after = dict(slots)
        self._wanted = wanted
        self._machinery = machinery
        self._adopt = adopt
        self._list_routes = list_routes
        self._changes: list[Change] = []
        self.routes: list[AdminRoute] = []
        """All admin routes as they are once this is committed; they hold no plugin."""

    async def make_ready(self) -> None:
        """Make, start and reconfigure what changes, in order.

        Raises:
            ConfigError: a plugin refused; everything is as it was before.
            asyncio.CancelledError: the same.
        """
        try:
            for name, config in self._wanted.items():
                self._after[name] = self._succeed(self._before[name], config)
                await asyncio.sleep(0)  # finding the hooks of an object takes about 1 ms
            newcomers = [change.new for change in self._changes if not change.is_in_place]
            if newcomers:
                settle_routes(self._after.values(), newcomers)
            for change in self._changes:
                await self._begin(change)
            self.routes = self._list_routes(self._after.values())
        except BaseException:
            await self.undo()
            raise

    def commit(self) -> None:
        """Let the new slots take part from now on."""
        if self._changes:
            self._adopt(self._after)

    async def finish(self) -> None:
        """Stop the objects that were replaced, the last first; raises nothing but a cancellation, after all of it."""
        changes, self._changes = self._changes, []
        self._before = self._after = {}
        for change in changes:
            change.old.successor = None
            if change.old.off_reason and change.new.is_active:
                name = change.new.loaded.name
                message = f"plugin {name} takes part again, under new settings"
                self._machinery.events.emit("INFO", "plugin_enabled", message, plugin=name)
        await all_of(change.old.stop for change in reversed(changes) if not change.is_in_place)

    async def undo(self) -> None:
        """Leave everything as it was, the last first; raises nothing but a cancellation, after all of it."""
        changes, self._changes = self._changes, []
        for change in changes:
            change.old.successor = None
        await all_of([self._reverting(change) for change in reversed(changes)])
        self._before = self._after = {}

    def _succeed(self, old: Slot, config: PluginConfig) -> Slot:
        """Make the slot that is to follow another, and its object unless the present one can go on."""
        goes_on = old.config.enabled and config.enabled and bool(old.hooks("reconfigure"))
        new = Slot(old.loaded, config, self._machinery, old.loaded.section, old.instance if goes_on else None)
        self._changes.append(Change(old, new))
        old.successor = new
        if not goes_on:
            new.make()
        return new

    async def _begin(self, change: Change) -> None:
        new = change.new
        if not change.is_in_place:
            if new.config.enabled:
                await new.start(CHANGE_TIMEOUT_S)
            return
        change.stage = "begun"
        with new.blamed("refuses its new settings"):
            try:
                await new.reconfigure(CHANGE_TIMEOUT_S)
            except Exception as error:
                change.stage = "begun" if isinstance(error, TimeoutError) else "refused"  # cut, it may be half-way
                raise
            new.settle()

    def _reverting(self, change: Change) -> Callable[[], Awaitable[None]]:
        return (lambda: self._take_back(change)) if change.is_in_place else change.new.stop

    async def _take_back(self, change: Change) -> None:
        """Give an object its old settings again; one that does not take them is made anew."""
        if change.stage == "waiting":
            return
        try:
            if change.stage == "begun":
                await change.old.reconfigure(CHANGE_TIMEOUT_S)
            change.old.settle()
        except BaseException as error:  # foreign code; cut off by a cancellation it may be half-way
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            why = f"does not take its old settings again and is made anew: {describe(error)}"
            change.old.report("reconfigure", why)
            await self._replace(change.old)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _replace(self, broken: Slot) -> None:
        """Make an object anew under the settings in force; where that fails the broken one stays, switched off."""
        name = broken.loaded.name
        fresh = Slot(broken.loaded, broken.config, self._machinery, broken.loaded.section)
        fresh.off_reason = broken.off_reason
        broken.successor = fresh
        try:
            fresh.make()
            slots = {**self._before, name: fresh}
            settle_routes(slots.values(), [fresh])
            await fresh.start(CHANGE_TIMEOUT_S)
        except BaseException as error:  # foreign code
            broken.successor = None
            broken.report("startup", f"cannot be made anew: {describe(error)}")
            if broken.plugin.on_failure == "open" and broken.off_reason is None:
                broken.off_reason = "neither its new settings nor its old ones could be applied"
                self._adopt(self._before)
            await fresh.stop()
            if not isinstance(error, Exception):
                raise
            return
        self._before = slots
        self._adopt(slots)
        broken.successor = None
        await broken.stop()


async def all_of(acts: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do one after the other; a cancellation cuts one of them short, and is raised when all had their turn."""
    waiting = iter(acts)
    for act in waiting:
        try:
            await act()
        except asyncio.CancelledError:
            await all_of(waiting)
            raise
