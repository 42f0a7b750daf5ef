"""A plugin's place in the list: an instance under one configuration, and whether it takes part."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from proxy.errors import ConfigError, Fault
from proxy.host.containment import describe
from proxy.host.dispatch import run_lifecycle, tame
from proxy.host.hooks import Hook, HookStats
from proxy.host.instance import Implementation, Instance
from proxy.host.loader import LoadedPlugin
from proxy.plugin import Machinery, Plugin, PluginConfig

SHUTDOWN_TIMEOUT_S: Final = 5.0


class Slot:
    """What the host knows of a plugin under one configuration; another configuration gets another slot.

    Args:
        path: where the configuration says what is at fault when the plugin cannot be used.
        instance: the object that goes on under this configuration; None for a new one, made by `make`.
    """

    def __init__(
        self,
        loaded: LoadedPlugin,
        config: PluginConfig,
        machinery: Machinery,
        path: str,
        instance: Instance | None = None,
    ) -> None:
        self.loaded = loaded
        self.config = config
        self.path = path
        self.instance = instance or Instance(loaded, machinery)
        self.stats: dict[str, HookStats] = {}
        """The figures of each hook: the totals are the process's, what failed lately is this slot's."""
        self.off_reason: str | None = None
        """Why it was switched off though its configuration enables it; None if it was not."""
        self.successor: Slot | None = None
        """What is ready to take its place."""
        self._machinery = machinery
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        self._skipped: frozenset[str] = frozenset()
        if instance is not None:
            self._collect()

    @property
    def plugin(self) -> Plugin[Any]:  # Any: each plugin has its own config model
        """The living object."""
        return self.instance.plugin

    @property
    def is_active(self) -> bool:
        """It takes part in requests."""
        return self.config.enabled is True and self.off_reason is None

    def hooks(self, name: str) -> tuple[Hook, ...]:
        """List the plugin's implementations of a hook; none when it skips it."""
        return () if name in self._skipped else self._hooks.get(name, ())

    def make(self) -> None:
        """Make the object. Raises ConfigError."""
        with self.blamed("cannot be made"):
            self.instance.make(self.config)
            self._skipped = frozenset(tame(self.plugin.skips))
            self._collect()

    async def start(self, timeout_s: float) -> None:
        """Call `startup`. Raises ConfigError."""
        with self.blamed("failed in startup"):
            for hook in self.hooks("startup"):
                await run_lifecycle(hook, timeout_s)
        self.instance.is_started = True

    async def reconfigure(self, timeout_s: float) -> None:
        """Have the living object take over this slot's configuration. Raises whatever the plugin raises."""
        for hook in self._hooks["reconfigure"]:
            await run_lifecycle(hook, timeout_s, self.config)

    def settle(self) -> None:
        """Tell the living object that this slot's configuration is its own now. Raises whatever the plugin raises."""
        self.plugin.config = self.config
        self._skipped = frozenset(tame(self.plugin.skips))

    async def stop(self) -> None:
        """Call `shutdown` if it was started, then end what it left running; raises nothing but a cancellation."""
        try:
            if self.instance.is_started:
                for hook in self.hooks("shutdown"):
                    await run_lifecycle(hook, SHUTDOWN_TIMEOUT_S)
        except Exception as error:  # foreign code
            self.report("shutdown", f"failed in shutdown: {describe(error)}")
        finally:
            self.instance.is_started = False
            await self.instance.end()

    def report(self, hook: str, what: str) -> None:
        """Tell that the plugin failed outside of requests."""
        name = self.loaded.name
        self._machinery.events.emit("ERROR", "plugin_failed", f"plugin {name} {what}", plugin=name, hook=hook)

    @contextmanager
    def blamed(self, what: str) -> Iterator[None]:
        """Turn what the plugin raises into a ConfigError that names it."""
        try:
            yield
        except Exception as error:  # foreign code
            message = f"plugin {self.loaded.name} {what}: {describe(error)}"
            raise ConfigError(message, [Fault(self.path, message)]) from error

    def _collect(self) -> None:
        for name, found in self.instance.implementations.items():
            if found:
                self._hooks[name] = tuple(self._hook(name, each) for each in found)

    def _hook(self, name: str, implementation: Implementation) -> Hook:
        stats = self.stats.get(name)
        if stats is None:
            stats = self.stats[name] = HookStats(self._machinery.metrics, self.loaded.name, name)
        return Hook(
            name,
            self.loaded.name,
            stats,
            implementation.call,
            is_closed=self.plugin.on_failure == "closed",
            rank=implementation.rank,
            events=self._hook("stream_event", implementation) if name == "stream_filter" else None,
            is_noted_only=name == "post_response" and self.plugin.ends_noted_only,
        )


def in_order(name: str, slots: Iterable[Slot]) -> tuple[Hook, ...]:
    """List the implementations of one hook as they are to be called.

    Args:
        slots: in the order of `plugins:`.
    Returns:
        As if the plugins were registered with one pluggy manager, the last first: those that want to come first, in
        order; the others, in order; those that want to come last, in reverse order.
    """
    placed = [(place, hook) for place, slot in enumerate(slots) for hook in slot.hooks(name)]
    placed.sort(key=lambda each: (each[1].rank, each[0] if each[1].rank < 2 else -each[0]))
    return tuple(hook for _, hook in placed)
