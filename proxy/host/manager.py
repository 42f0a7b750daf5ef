"""Makes the plugins, starts and stops them, switches them on and off, and holds the current Dispatch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import ConfigError, Fault, Refused, UnknownPath
from proxy.events import Events
from proxy.host.containment import Containment, Limits, describe
from proxy.host.dispatch import Dispatch, hooks_of, run_lifecycle
from proxy.host.hook_rules import new_plugin_manager
from proxy.host.loader import LoadedPlugin
from proxy.host.routes import RouteTable
from proxy.metrics import Registry
from proxy.plugin import AdminRequest, AdminRoute, Plugin, PluginConfig, PluginContext
from proxy.tasks import Tasks

if TYPE_CHECKING:
    from loguru import Logger

STARTUP_TIMEOUT_S: Final = 30.0
SHUTDOWN_TIMEOUT_S: Final = 5.0
DEFAULT_LIMITS: Final = Limits()


@dataclass(slots=True)
class Slot:
    """One plugin of the list: its class, its living object, and whether it takes part.

    Args:
        off_reason: why it was switched off though its configuration enables it; None if it was not.
    """

    loaded: LoadedPlugin
    plugin: Plugin[Any]  # Any: each plugin has its own config model
    tasks: Tasks
    is_started: bool = False
    off_reason: str | None = None

    @property
    def is_active(self) -> bool:
        """It takes part in requests."""
        return self.plugin.config.enabled is True and self.off_reason is None


@dataclass(frozen=True, slots=True)
class Machinery:
    """What every plugin's context is made of; see PluginContext."""

    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    metrics: Registry
    events: Events
    log: "Logger"


class PluginHost:
    """All plugins of one process. `dispatch` is replaced, never changed: an exchange reads it once.

    Args:
        loaded: from `loader.load`, in the order of `plugins:`.
        sections: validated settings by section; defaults where one is missing.
    Raises:
        ConfigError: a plugin cannot be made, or two of them want one admin path.
    """

    def __init__(
        self,
        loaded: Sequence[LoadedPlugin],
        sections: Mapping[str, PluginConfig],
        machinery: Machinery,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._machinery = machinery
        self._containment = Containment(
            limits, machinery.metrics, machinery.events, machinery.log, machinery.clock, self._switch_off
        )
        self._plugins = new_plugin_manager()
        self._slots = {each.name: self._make(each, sections.get(each.section)) for each in loaded}
        for slot in reversed(self._slots.values()):  # pluggy calls the last registered first
            self._plugins.register(slot.plugin, slot.loaded.name)
        self.dispatch: Dispatch = Dispatch(self._containment)
        self._recompile()
        self._routes = RouteTable(
            {name: hooks_of(self._plugins, self._containment, "admin_routes", {name}) for name in self._slots},
            {name: slot.loaded.path for name, slot in self._slots.items()},
            self._is_active,
        )

    @property
    def switched_off(self) -> list[str]:
        """Plugins that their configuration enables and that were switched off, by themselves failing or by a call."""
        return [name for name, slot in self._slots.items() if slot.plugin.config.enabled and slot.off_reason]

    async def start(self) -> None:
        """Call `startup` of every enabled plugin, in order.

        Raises:
            ConfigError: one of them failed; those that had started were stopped again.
        """
        order = hooks_of(self._plugins, self._containment, "startup", self._enabled())
        for name in self._enabled() - {hook.plugin for hook in order}:
            self._slots[name].is_started = True
        for hook in order:
            slot = self._slots[hook.plugin]
            try:
                await run_lifecycle(hook, STARTUP_TIMEOUT_S)
            except BaseException as error:
                await self.stop()
                if not isinstance(error, Exception):
                    raise
                message = f"plugin {hook.plugin} failed in startup: {describe(error)}"
                raise ConfigError(message, [Fault(slot.loaded.path, message)]) from error
            slot.is_started = True

    async def stop(self) -> None:
        """Call `shutdown` of every started plugin in reverse order, 5 s each, then cancel what it left running."""
        order = hooks_of(self._plugins, self._containment, "shutdown", self._slots.keys())
        by_plugin = {hook.plugin: hook for hook in order}
        for name, slot in reversed(self._slots.items()):
            if slot.is_started and name in by_plugin:
                try:
                    await run_lifecycle(by_plugin[name], SHUTDOWN_TIMEOUT_S)
                except Exception as error:
                    message = f"plugin {name} failed in shutdown: {describe(error)}"
                    self._machinery.events.emit("ERROR", "plugin_failed", message, plugin=name, hook="shutdown")
            slot.is_started = False
            await slot.tasks.close()

    def enable(self, name: str) -> None:
        """Let a plugin that was switched off take part again, with a clean slate. Raises UnknownPath, Refused."""
        slot = self._find(name)
        if not slot.plugin.config.enabled:
            key = f"{slot.loaded.section}.enabled"
            raise Refused(f"{name} is off by configuration: set {key}", code="plugin_not_enabled", status=409)
        if slot.off_reason is None:
            return
        slot.off_reason = None
        for stats in self._containment.stats_of(name).values():
            stats.recent.clear()
        self._recompile()
        self._machinery.events.emit("INFO", "plugin_enabled", f"plugin {name} takes part again", plugin=name)

    def disable(self, name: str, reason: str = "by an operator's call") -> None:
        """Take a plugin out of requests until `enable`; its background work goes on. Raises UnknownPath."""
        slot = self._find(name)
        if not slot.is_active:
            return
        slot.off_reason = reason
        self._recompile()
        message = f"plugin {name} is switched off: {reason}; POST /plugins/{name}/enable switches it on"
        self._machinery.events.emit("WARN", "plugin_disabled", message, plugin=name, reason=reason)

    def describe(self) -> dict[str, object]:
        """Show every plugin: its state, and what each of its hooks has cost.

        Returns:
            `{"plugins": [{"name", "section", "state": "on" | "off" | "switched_off", "reason", "onFailure",
            "hooks": {name: {"calls", "seconds", "errors", "overruns"}}}]}`
        """
        return {"plugins": [self._describe(slot) for slot in self._slots.values()]}

    def admin_routes(self) -> list[AdminRoute]:
        """List the routes of all plugins and of the host itself; each handler takes an AdminRequest."""
        return [
            AdminRoute("GET", "/plugins", self._show, "Every plugin with its state and what its hooks cost."),
            AdminRoute("POST", "/plugins/{name}/enable", self._enable, "Let a switched off plugin take part again."),
            AdminRoute("POST", "/plugins/{name}/disable", self._disable, "Take a plugin out of requests."),
            *self._routes.routes,
        ]

    async def _show(self, request: AdminRequest) -> object:
        return self.describe()

    async def _enable(self, request: AdminRequest) -> object:
        self.enable(request.params["name"])
        return self._describe(self._find(request.params["name"]))

    async def _disable(self, request: AdminRequest) -> object:
        self.disable(request.params["name"])
        return self._describe(self._find(request.params["name"]))

    def _make(self, loaded: LoadedPlugin, config: PluginConfig | None) -> Slot:
        tools, tasks = self._machinery, Tasks(self._machinery.events)
        context = PluginContext(
            clock=tools.clock,
            wall_clock=tools.wall_clock,
            spawn=tasks.spawn,
            metrics=tools.metrics,
            events=tools.events,
            log=tools.log.bind(plugin=loaded.name),
        )
        try:
            plugin = loaded.plugin_class(config or loaded.config_model(), context)
        except Exception as error:  # foreign code
            message = f"plugin {loaded.name} cannot be made: {describe(error)}"
            raise ConfigError(message, [Fault(loaded.path, message)]) from error
        return Slot(loaded, plugin, tasks)

    def _describe(self, slot: Slot) -> dict[str, object]:
        name = slot.loaded.name
        state = "off" if not slot.plugin.config.enabled else "switched_off" if slot.off_reason else "on"
        return {
            "name": name,
            "section": slot.loaded.section,
            "state": state,
            "reason": slot.off_reason,
            "onFailure": slot.plugin.on_failure,
            "hooks": {hook: stats.describe() for hook, stats in self._containment.stats_of(name).items()},
        }

    def _find(self, name: str) -> Slot:
        if name not in self._slots:
            raise UnknownPath(f"no plugin {name}; there are {', '.join(self._slots) or 'none'}")
        return self._slots[name]

    def _enabled(self) -> set[str]:
        return {name for name, slot in self._slots.items() if slot.plugin.config.enabled}

    def _is_active(self, name: str) -> bool:
        return self._slots[name].is_active

    def _switch_off(self, name: str, reason: str) -> None:
        self.disable(name, reason)

    def _recompile(self) -> None:
        active = {name for name, slot in self._slots.items() if slot.is_active}
        self.dispatch = Dispatch.compile(self._plugins, self._containment, active)
