"""Finds the plugins that the configuration names and checks what can be checked before any of them is made."""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final, get_args, get_origin

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from proxy.config.models import Settings
from proxy.errors import ConfigError, Fault
from proxy.host.hook_rules import hook_faults
from proxy.plugin import Plugin, PluginConfig

ENTRY_POINT_GROUP: Final = "proxy.plugins"
BUILT_IN_PACKAGE: Final = "plugins"


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin's class and what follows from it.

    Args:
        path: where the configuration names it, such as `plugins[2]`.
        section: key of its settings, camelCase.
    """

    path: str
    name: str
    section: str
    plugin_class: type[Plugin[Any]]  # Any: each plugin has its own config model
    config_model: type[PluginConfig]


class NotUsable(Exception):
    """A plugin cannot be used; the text says why."""


def load(names: Sequence[str]) -> tuple[LoadedPlugin, ...]:
    """Find every plugin of the list `plugins:`.

    Args:
        names: built-in names, entry points of the group `proxy.plugins`, or modules; the first is called first.
    Raises:
        ConfigError: with a Fault for everything wrong with any of them.
    """
    loaded: list[LoadedPlugin] = []
    faults: list[Fault] = []
    for index, name in enumerate(names):
        path = f"plugins[{index}]"
        if name in names[:index]:
            faults.append(Fault(path, f"{name} is in the list already, at plugins[{names.index(name)}]", got=name))
            continue
        try:
            plugin = describe_class(find_class(name), path)
            check_clashes(plugin, loaded)
            loaded.append(plugin)
        except NotUsable as error:
            faults.append(Fault(path, str(error), got=name))
    if faults:
        raise ConfigError("; ".join(f"{fault.path}: {fault.message}" for fault in faults), faults)
    return tuple(loaded)


def config_models(loaded: Iterable[LoadedPlugin]) -> dict[str, type[PluginConfig]]:
    """Map each plugin's section to the model that validates it."""
    return {plugin.section: plugin.config_model for plugin in loaded}


def find_class(name: str) -> type[Plugin[Any]]:
    """Find the Plugin class that a name of the list stands for.

    Raises:
        NotUsable: nothing of this name, it cannot be imported, or it is not one plugin.
    """
    if "." not in name and (module := import_if_there(f"{BUILT_IN_PACKAGE}.{name}")) is not None:
        return only_plugin_in(import_if_there(f"{module.__name__}.plugin") or module)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        found = guarded(entry_point.load, f"entry point {name} ({entry_point.value})")
        if isinstance(found, ModuleType):
            return only_plugin_in(found)
        if isinstance(found, type) and issubclass(found, Plugin):
            return found
        raise NotUsable(f"the entry point {name} is {found!r}, neither a module nor a Plugin class")
    module = import_if_there(name)
    if module is None:
        raise NotUsable(f"no plugin {name}: not built in, no entry point of {ENTRY_POINT_GROUP}, and no module {name}")
    return only_plugin_in(module)


def import_if_there(name: str) -> ModuleType | None:
    """Import a module; None if it, or a package it is in, does not exist."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise NotUsable(f"{name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:  # foreign code runs here
        raise NotUsable(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def guarded(act: Any, what: str) -> object:  # Any: EntryPoint.load has no useful type
    """Run foreign code that imports. Raises NotUsable with the reason when it fails."""
    try:
        return act()
    except (Exception, SystemExit) as error:
        raise NotUsable(f"{what} cannot be imported: {type(error).__name__}: {error}") from error


def only_plugin_in(module: ModuleType) -> type[Plugin[Any]]:
    """Find the one Plugin subclass that is defined in a module; imported ones do not count."""
    found = {
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    }
    if not found:
        raise NotUsable(f"{module.__name__} holds no subclass of proxy.plugin.Plugin")
    if len(found) > 1:
        names = " and ".join(sorted(each.__name__ for each in found))
        raise NotUsable(f"{module.__name__} holds {names}: one file, one plugin")
    return found.pop()


def describe_class(plugin_class: type[Plugin[Any]], path: str) -> LoadedPlugin:
    """Check a Plugin class and read off its name, section and config model. Raises NotUsable."""
    title = plugin_class.__name__
    name = getattr(plugin_class, "name", None)
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower() or name.startswith("_"):
        raise NotUsable(f'{title} needs a name in snake_case, such as name = "output_cap", not {name!r}')
    if plugin_class.on_failure not in ("open", "closed"):
        raise NotUsable(f'{title}.on_failure is "open" or "closed", not {plugin_class.on_failure!r}')
    model = config_model_of(plugin_class)
    if model is None:
        raise NotUsable(
            f"{title} does not name its settings: class {title}(Plugin[{title.removesuffix('Plugin')}Config])"
        )
    try:
        model()
    except ValidationError as error:
        keys = ", ".join(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
        raise NotUsable(f"{model.__name__} needs a valid default for every setting: {keys}") from error
    for fault in hook_faults(plugin_class):
        raise NotUsable(fault)
    return LoadedPlugin(path, name, to_camel(name), plugin_class, model)


def config_model_of(plugin_class: type[Plugin[Any]]) -> type[PluginConfig] | None:
    """Read the model from `Plugin[Model]` among the bases of a class or its parents."""
    for each in plugin_class.__mro__:
        for base in getattr(each, "__orig_bases__", ()):
            arguments = get_args(base)
            if get_origin(base) is Plugin and isinstance(arguments[0], type) and issubclass(arguments[0], PluginConfig):
                return arguments[0]
    return None


def check_clashes(plugin: LoadedPlugin, earlier: Iterable[LoadedPlugin]) -> None:
    """Refuse a name or section that is taken. Raises NotUsable."""
    for other in earlier:
        if plugin.section == other.section:
            raise NotUsable(f"its name {plugin.name} is that of {other.path} ({other.plugin_class.__module__})")
    core_keys = {field.alias or key for key, field in Settings.model_fields.items()}
    if plugin.section in core_keys:
        raise NotUsable(f"its section {plugin.section} is a key of the core; give the plugin another name")
