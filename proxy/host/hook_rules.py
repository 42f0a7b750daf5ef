"""The rules that a plugin's hooks keep, checked on its class: known names, known arguments, plain where it must be."""

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

import pluggy

from proxy import hookspecs
from proxy.host.hooks import ARGUMENTS
from proxy.plugin import Plugin

PLAIN: Final = frozenset({"select_provider", "stream_filter", "admin_routes", "identify", "config_issues"})
"""Hooks whose answer is used at once, so that a coroutine would itself count as the answer."""


def new_plugin_manager() -> pluggy.PluginManager:
    """Make a pluggy manager that knows our hooks."""
    plugins = pluggy.PluginManager("proxy")
    plugins.add_hookspecs(hookspecs)
    return plugins


def hook_faults(plugin_class: type[Plugin[Any]]) -> Iterator[str]:  # Any: each plugin has its own config model
    """Find what is wrong with a plugin's hooks, one line each."""
    plugins = new_plugin_manager()
    has_faults = False
    for attribute in dir(plugin_class):
        options = plugins.parse_hookimpl_opts(plugin_class, attribute)
        if options is not None:
            fault = hook_fault(plugin_class, attribute, dict(options))
        elif attribute in ARGUMENTS:
            fault = f"{attribute} lacks @hookimpl, so it would never be called"
        else:
            continue
        if fault:
            has_faults = True
            yield f"{plugin_class.__name__}: {fault}"
    if not has_faults:
        try:
            plugins.register(object.__new__(plugin_class), plugin_class.__name__)  # pluggy wants bound methods
        except pluggy.PluginValidationError as error:
            yield f"{plugin_class.__name__}: {' '.join(str(error).split())}"


def hook_fault(plugin_class: type[Plugin[Any]], attribute: str, options: dict[str, Any]) -> str | None:
    """Find what is wrong with one implementation; Any: pluggy's options are of several types."""
    hook = options.get("specname") or attribute
    if hook not in ARGUMENTS:
        if options.get("optionalhook"):
            return None
        nearest = get_close_matches(hook, ARGUMENTS, n=1, cutoff=0.0)
        return f"there is no hook {hook}; the nearest is {nearest[0]}"
    if options.get("wrapper") or options.get("hookwrapper"):
        return f"{hook} is a hook wrapper; wrappers end before an asynchronous hook runs, so there are none"
    function = inspect.unwrap(getattr(plugin_class, attribute))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return f"{hook} contains a yield; it returns its answer"
    if hook in PLAIN and inspect.iscoroutinefunction(function):
        return f"{hook} is asynchronous; make it a plain function, because its coroutine would be taken as the answer"
    return None
