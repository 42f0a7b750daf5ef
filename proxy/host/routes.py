"""The admin routes of all plugins: checked against each other, and answering 404 while their plugin is off."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from proxy.errors import ConfigError, Fault, Refused, UnknownPath
from proxy.host.containment import describe
from proxy.host.dispatch import ask_routes
from proxy.host.slot import Slot
from proxy.plugin import AdminHandler, AdminRequest, AdminRoute

HOST_PATHS: Final = ("/plugins", "/plugins/{}/enable", "/plugins/{}/disable")
"""Paths of the host's own routes, their parameters without names."""


def settle_routes(slots: Collection[Slot], newcomers: Collection[Slot]) -> None:
    """Ask the newcomers among the slots for their routes and keep them with the instance.

    Raises:
        ConfigError: one of them cannot name its routes, or wants a path that somebody has.
    """
    faults: list[Fault] = []
    owners = dict.fromkeys(HOST_PATHS, "the host")
    for slot in sorted(slots, key=lambda each: each in newcomers):  # a newcomer is to blame, wherever it stands
        name = slot.loaded.name
        if slot in newcomers:
            try:
                slot.instance.routes = routes_of(slot)
            except Exception as error:  # foreign code
                faults.append(Fault(slot.path, f"plugin {name} failed in admin_routes: {describe(error)}"))
        for _, path in slot.instance.routes:
            owner = owners.setdefault(re.sub(r"\{[^}]*\}", "{}", path), name)
            if owner != name:
                faults.append(Fault(slot.path, f"plugin {name} wants {path}, which {owner} has"))
    if faults:
        raise ConfigError("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults)


def routes_of(slot: Slot) -> dict[tuple[str, str], AdminRoute]:
    """Ask a plugin for its routes; by method and path. Raises whatever the plugin raises."""
    found = {}
    for hook in slot.hooks("admin_routes"):
        for route in ask_routes(hook):
            found[route.method, str(route.path)] = replace(route, handler=taking_the_request(route.handler))
    return found


def taking_the_request(handler: AdminHandler | Callable[[], object]) -> AdminHandler:
    """Make a handler of an AdminRequest from one that may take nothing."""
    takes_request = bool(inspect.signature(handler).parameters)

    async def answer(request: AdminRequest) -> object:
        return await (handler(request) if takes_request else handler())  # type: ignore[call-arg,misc]  # as was asked

    return answer


def guarded_routes(slots: Iterable[Slot], find: Callable[[str], Slot]) -> list[AdminRoute]:
    """List the routes of these slots; a handler asks whoever has the plugin's place at the time of the call.

    Args:
        find: tells by name which slot that is.
    """
    return [
        replace(route, handler=guard(slot.loaded.name, key, find))
        for slot in slots
        for key, route in slot.instance.routes.items()
    ]


def guard(name: str, key: tuple[str, str], find: Callable[[str], Slot]) -> AdminHandler:
    """Make the handler of one route; it holds no plugin."""

    async def answer(request: AdminRequest) -> object:
        slot = find(name)
        if not slot.is_active:
            raise Refused(f"the plugin {name} is switched off", code="plugin_disabled", status=404)
        if key not in slot.instance.routes:
            raise UnknownPath(f"the plugin {name} has no {' '.join(key)} any more")
        return await slot.instance.routes[key].handler(request)

    return answer
