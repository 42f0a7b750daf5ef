"""Issues of what takes effect only at the next start."""

from collections.abc import Collection, Iterator
from typing import Final

from pydantic import BaseModel

from proxy.config.document import dotted
from proxy.config.export import effective
from proxy.config.faults import show
from proxy.config.issue_patches import nested, value_at
from proxy.config.loader import Document, Loaded
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.config.shape import KeyPath, Shape
from proxy.plugin import Issue
from proxy.values import printable

RESTART_COMMAND: Final = "python -m proxy deploy --restart"


def restart_issues(loaded: Loaded, running: Settings, plugins: Collection[str]) -> Iterator[Issue]:
    """Compare a configuration with what the process started with.

    Args:
        plugins: names of the plugins that are loaded in this process.
    """
    yield from _plugins(loaded, running, plugins)
    yield from _restarts(loaded, running)


def differing(one: object, other: object, path: KeyPath) -> Iterator[KeyPath]:
    """Find the settings that differ and take effect only at the next start.

    A place that only one of them has, such as a new provider, is no difference: nothing of it runs yet.
    """
    if isinstance(one, BaseModel) and type(one) is type(other):
        for name, field in type(one).model_fields.items():
            where = (*path, field.alias or name)
            before, after = getattr(one, name), getattr(other, name)
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("live") is False):
                yield from differing(before, after, where)
            elif before != after:
                yield where
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            if key in other:
                yield from differing(one[key], other[key], (*path, key))


def _restarts(loaded: Loaded, started: Settings) -> Iterator[Issue]:
    document = Document("", {}, {}, {})
    running, wanted = (effective(Loaded(document, settings, {}, Shape({}))) for settings in (started, loaded.settings))
    for path in differing(started, loaded.settings, ()):
        before, after = value_at(running, path), value_at(wanted, path)
        secret = loaded.shape.is_secret(path, before) or loaded.shape.is_secret(path, after)
        shown = [_shown(value, secret) for value in (before, after)]
        yield Issue(
            "restart_needed",
            "warning",
            dotted(path),
            f"{shown[1]} is configured, {shown[0]} is running",
            f"this setting takes effect at the next start, by {RESTART_COMMAND}; the patch puts back what is running",
            patch=None if secret else nested(path, before),
            command=RESTART_COMMAND if secret else None,
        )


def _shown(value: object, secret: bool) -> str:
    if isinstance(value, list) and not secret:
        return printable(f"[{', '.join(map(str, value))}]", 200)
    return show(value, secret=secret)


def _plugins(loaded: Loaded, running: Settings, names: Collection[str]) -> Iterator[Issue]:
    """A plugin of one's own may have another name than its module; what was listed at the start counts as loaded."""
    wanted, started = loaded.settings.plugins, running.plugins
    for position, name in enumerate(wanted):
        is_loaded = name.replace("-", "_") in names
        if not is_loaded and (name not in started or name in BUILT_IN_PLUGINS):
            yield Issue(
                "plugin_not_loaded",
                "warning",
                f"plugins.{position}",
                f"{show(name)} is listed and not loaded",
                "plugins are loaded at the start only, so it does nothing until the next one",
                command=RESTART_COMMAND,
            )
    unlisted = [name for name in started if name not in BUILT_IN_PLUGINS or name in names]
    unlisted += [name for name in BUILT_IN_PLUGINS if name in names and name not in unlisted]
    for name in unlisted:
        if name not in wanted:
            yield Issue(
                "plugin_unlisted",
                "info",
                "plugins",
                f"{show(name)} is loaded and no longer listed",
                "it goes on working until the next start",
                command=RESTART_COMMAND,
            )
