"""Makes the plugins, starts and stops them, switches them on and off, and holds the current Dispatch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.callers import Identity
from proxy.errors import Refused, UnknownPath
from proxy.exchange import JsonObject
from proxy.host.containment import Containment, Limits
from proxy.host.dispatch import Dispatch, ask_identity, ask_issues, ask_reset
from proxy.host.hooks import Hook
from proxy.host.loader import LoadedPlugin
from proxy.host.routes import guarded_routes, settle_routes
from proxy.host.slot import Slot, in_order
from proxy.host.transition import Transition, all_of
from proxy.plugin import AdminRequest, AdminRoute, Issue, Machinery, PluginConfig

__all__ = ["Machinery", "PluginHost"]  # whoever makes a host needs both

STARTUP_TIMEOUT_S: Final = 30.0
RESET_TIMEOUT_S: Final = 5.0
DEFAULT_LIMITS: Final = Limits()
REQUEST_HOOKS: Final = ("pre_request", "select_provider", "stream_filter", "post_response")


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
        self._containment = Containment(limits, machinery.events, machinery.log, machinery.clock, self._switch_off)
        self._slots: dict[str, Slot] = {}
        self.dispatch = Dispatch(self._containment)
        for each in loaded:
            slot = Slot(each, sections.get(each.section) or each.config_model(), machinery, each.path)
            slot.make()
            self._slots[each.name] = slot
        settle_routes(self._slots.values(), self._slots.values())
        self._adopt(self._slots)

    @property
    def switched_off(self) -> list[str]:
        """Plugins that their configuration enables and that were switched off, by themselves failing or by a call."""
        return [name for name, slot in self._slots.items() if slot.config.enabled and slot.off_reason]

    async def start(self) -> None:
        """Call `startup` of every enabled plugin, in order.

        Raises:
            ConfigError: one of them failed; those that had started were stopped again.
        """
        enabled = [slot for slot in self._slots.values() if slot.config.enabled]
        first = {hook.plugin: None for hook in in_order("startup", enabled)}  # in pluggy's order
        for name in [*first, *(slot.loaded.name for slot in enabled if slot.loaded.name not in first)]:
            try:
                await self._slots[name].start(STARTUP_TIMEOUT_S)
            except BaseException:
                await self.stop()
                raise

    async def stop(self) -> None:
        """Call `shutdown` of every started plugin in reverse order, 5 s each, then cancel what it left running."""
        await all_of(slot.stop for slot in reversed(self._slots.values()))

    async def prepare(self, sections: Mapping[str, PluginConfig]) -> Transition:
        """Make everything ready for new settings; the present ones stay in force until the Transition is committed.

        One at a time; `enable`, `disable` and requests may come meanwhile. Where nothing changes, nothing is done.

        Args:
            sections: validated settings by section; plugins whose section is missing keep theirs.
        Raises:
            ConfigError: a plugin refused, its Fault names the section; nothing has changed.
        """
        wanted = {}
        for name, slot in self._slots.items():
            config = sections.get(slot.loaded.section)
            if config is not None and config is not slot.config and config != slot.config:
                wanted[name] = config
        transition = Transition(self._slots, wanted, self._machinery, self._adopt, self._list_routes)
        await transition.make_ready()
        return transition

    def issues(self) -> list[Issue]:
        """Ask every enabled plugin what it finds worth telling about its section."""
        hooks = self._of_enabled("config_issues")
        return [issue for hook in hooks for issue in ask_issues(hook, self._containment)]

    def identify(self, text: str, is_credential: bool) -> Identity | None:
        """Ask the enabled plugins, one after the other, whom a caller would be recognised as."""
        hooks = self._of_enabled("identify")
        answers = (ask_identity(hook, self._containment, text, is_credential) for hook in hooks)
        return next((found for found in answers if found is not None), None)

    async def reset(self) -> dict[str, JsonObject]:
        """Have every enabled plugin forget what it counted and kept; tell by plugin what that was."""
        hooks = self._of_enabled("reset")
        return {hook.plugin: await ask_reset(hook, RESET_TIMEOUT_S, self._containment) for hook in hooks}

    def _of_enabled(self, name: str) -> Sequence[Hook]:
        """Give the implementations of a hook that is called outside of requests."""
        return in_order(name, [slot for slot in self._slots.values() if slot.config.enabled])

    def enable(self, name: str) -> None:
        """Let a plugin that was switched off take part again, with a clean slate. Raises UnknownPath, Refused."""
        slot = self._find(name)
        if slot.successor is not None:
            slot.successor.off_reason = None
        if not slot.config.enabled:
            key = f"{slot.loaded.section}.enabled"
            raise Refused(f"{name} is off by configuration: set {key}", code="plugin_not_enabled", status=409)
        if slot.off_reason is None:
            return
        slot.off_reason = None
        for stats in slot.stats.values():
            stats.recent.clear()
        self._recompile()
        self._machinery.events.emit("INFO", "plugin_enabled", f"plugin {name} takes part again", plugin=name)

    def disable(self, name: str, reason: str = "by an operator's call") -> None:
        """Take a plugin out of requests until `enable`; its background work goes on. Raises UnknownPath."""
        slot = self._find(name)
        if slot.successor is not None:  # a change on its way must not let it in again
            slot.successor.off_reason = reason
        self._take_out(slot, reason)

    def _take_out(self, slot: Slot, reason: str) -> None:
        if not slot.is_active:
            return
        slot.off_reason = reason
        self._recompile()
        name = slot.loaded.name
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
        return self._list_routes(self._slots.values())

    def _list_routes(self, slots: Iterable[Slot]) -> list[AdminRoute]:
        return [
            AdminRoute("GET", "/plugins", self._show, "Every plugin with its state and what its hooks cost."),
            AdminRoute("POST", "/plugins/{name}/enable", self._enable, "Let a switched off plugin take part again."),
            AdminRoute("POST", "/plugins/{name}/disable", self._disable, "Take a plugin out of requests."),
            *guarded_routes(slots, self._find),
        ]

    async def _show(self, request: AdminRequest) -> object:
        return self.describe()

    async def _enable(self, request: AdminRequest) -> object:
        self.enable(request.params["name"])
        return self._describe(self._find(request.params["name"]))

    async def _disable(self, request: AdminRequest) -> object:
        self.disable(request.params["name"])
        return self._describe(self._find(request.params["name"]))

    def _describe(self, slot: Slot) -> dict[str, object]:
        name = slot.loaded.name
        state = "off" if not slot.config.enabled else "switched_off" if slot.off_reason else "on"
        return {
            "name": name,
            "section": slot.loaded.section,
            "state": state,
            "reason": slot.off_reason,
            "onFailure": slot.plugin.on_failure,
            "hooks": {hook: stats.describe() for hook, stats in slot.stats.items()},
        }

    def _find(self, name: str) -> Slot:
        if name not in self._slots:
            raise UnknownPath(f"no plugin {name}; there are {', '.join(self._slots) or 'none'}")
        return self._slots[name]

    def _switch_off(self, hook: Hook, reason: str) -> None:
        slot = self._slots[hook.plugin]
        if slot.stats.get(hook.name) is hook.stats:  # else a replaced one fails in an exchange still under way
            self._take_out(slot, reason)

    def _adopt(self, slots: dict[str, Slot]) -> None:
        self._slots = slots
        self._recompile()

    def _recompile(self) -> None:
        active = [slot for slot in self._slots.values() if slot.is_active]
        self.dispatch = Dispatch(self._containment, *(in_order(name, active) for name in REQUEST_HOOKS))
