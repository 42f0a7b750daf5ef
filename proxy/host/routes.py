"""The admin routes of all plugins: checked against each other, and answering 404 while their plugin is off."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from proxy.errors import ConfigError, Fault, Refused
from proxy.host.containment import describe
from proxy.host.dispatch import ask_routes
from proxy.host.hooks import Hook
from proxy.plugin import AdminRequest, AdminRoute

HOST_PATHS: Final = ("/plugins", "/plugins/{}/enable", "/plugins/{}/disable")
"""Paths of the host's own routes, their parameters without names."""


class RouteTable:
    """All routes that plugins want, their handlers taking an AdminRequest each.

    Args:
        hooks: by plugin, its implementations of `admin_routes`.
        paths: by plugin, where the configuration names it.
        is_active: tells whether a plugin takes part.
    Raises:
        ConfigError: a plugin cannot name its routes, or two plugins want one path.
    """

    def __init__(
        self, hooks: Mapping[str, Sequence[Hook]], paths: Mapping[str, str], is_active: Callable[[str], bool]
    ) -> None:
        self.routes: list[AdminRoute] = []
        self._is_active = is_active
        faults: list[Fault] = []
        owners = dict.fromkeys(HOST_PATHS, "the host")
        for name, hook in ((name, hook) for name, each in hooks.items() for hook in each):
            try:
                wanted = ask_routes(hook)
            except Exception as error:  # foreign code
                faults.append(Fault(paths[name], f"plugin {name} failed in admin_routes: {describe(error)}"))
                continue
            for route in wanted:
                owner = owners.setdefault(re.sub(r"\{[^}]*\}", "{}", route.path), name)
                if owner != name:
                    faults.append(Fault(paths[name], f"plugin {name} wants {route.path}, which {owner} has"))
                self.routes.append(replace(route, handler=self._guard(name, route)))
        if faults:
            raise ConfigError("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults)

    def _guard(self, name: str, route: AdminRoute) -> Callable[[AdminRequest], Awaitable[object]]:
        takes_request = bool(inspect.signature(route.handler).parameters)

        async def answer(request: AdminRequest) -> object:
            if not self._is_active(name):
                raise Refused(f"the plugin {name} is switched off", code="plugin_disabled", status=404)
            return await (route.handler(request) if takes_request else route.handler())

        return answer
