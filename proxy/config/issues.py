"""What an operator should look at in a configuration that is valid and in force, each with what mends it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel

from proxy.config.document import dotted
from proxy.config.export import effective
from proxy.config.faults import show
from proxy.config.file_issues import file_issues
from proxy.config.issue_patches import nested, value_at
from proxy.config.loader import Document, Loaded
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.config.patch import Json
from proxy.config.provider_issues import provider_issues
from proxy.config.routing_issues import routing_issues
from proxy.config.shape import KeyPath, Shape, fields_of
from proxy.plugin import Issue

MIN_TOKEN_CHARS: Final = 16

RESTART_COMMAND: Final = "python -m proxy deploy --restart"

_ORDER: Final = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Facts:
    """What issues are found from.

    Args:
        loaded: the configuration in force.
        running: the settings the process started with, for keys that need a restart.
        base: the file as it was last accepted, references as written; it may hold secrets in clear.
        file: the configuration file, None where there is none.
        plugins: names of the plugins that are loaded in this process, snake_case.
        troubles: what the process noticed by itself, such as a file it refused.
        told: what plugins tell of their sections.
    """

    loaded: Loaded
    running: Settings
    base: Json
    file: Path | None
    plugins: Collection[str]
    troubles: Sequence[Issue] = ()
    told: Sequence[Issue] = ()


def find_issues(facts: Facts) -> list[Issue]:
    """Find everything that contradicts itself, differs from the file, or is open to others.

    Asks the disk who may read the configuration file and key files: call it from a thread.

    Returns:
        Errors first, then warnings, then what is worth knowing; within each what the process noticed, then by path.
        No issue holds a secret, neither in its words nor in its patch.
    """
    loaded = facts.loaded
    found = list(routing_issues(loaded))
    found += provider_issues(loaded)
    found += file_issues(loaded, facts.base, facts.file)
    found += _access(loaded)
    found += _plugins(facts)
    found += _restarts(facts)
    found += facts.told
    found.sort(key=lambda issue: issue.path)
    return sorted([*facts.troubles, *found], key=lambda issue: _ORDER.index(issue.severity))


def as_json(issue: Issue, url: str) -> dict[str, Any]:  # Any: JSON
    """Show an issue as `/config/issues` does.

    Args:
        url: where the admin side is reached, such as `http://127.0.0.1:8080`.
    Returns:
        `{"kind", "severity", "path", "message", "why", "patch", "fix"}`; `fix` is a line to paste into a shell,
        None where there is none.
    """
    return {
        "kind": issue.kind,
        "severity": issue.severity,
        "path": issue.path,
        "message": issue.message,
        "why": issue.why,
        "patch": issue.patch,
        "fix": issue.command if issue.patch is None else _curl(issue.patch, url),
    }


def _curl(patch: Json, url: str) -> str:
    body = orjson.dumps(patch).decode().replace("'", "'\\''")
    return f"curl -X PATCH {url}/config -H \"Content-Type: application/json\" -d '{body}'"


def restart_needed(running: Settings, wanted: Settings) -> list[str]:
    """List the settings that differ and take effect only at the next start.

    Args:
        running: what the process started with.
        wanted: what is in force, or would be.
    Returns:
        Dotted paths, in the order of the models.
    """
    return [dotted(path) for path in _differing(running, wanted, ())]


def _differing(one: object, other: object, path: KeyPath) -> Iterator[KeyPath]:
    """A place that only one of them has, such as a new provider, is no difference: nothing of it runs yet."""
    if isinstance(one, BaseModel) and type(one) is type(other):
        for key, field in fields_of(type(one)).items():
            name = next(name for name, each in type(one).model_fields.items() if each is field)
            before, after = getattr(one, name), getattr(other, name)
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and extra.get("live") is False):
                yield from _differing(before, after, (*path, key))
            elif before != after:
                yield (*path, key)
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            if key in other:
                yield from _differing(one[key], other[key], (*path, key))


def _restarts(facts: Facts) -> Iterator[Issue]:
    shape = facts.loaded.shape
    document = Document("", {}, {}, {})
    running, wanted = (
        effective(Loaded(document, settings, {}, Shape({}))) for settings in (facts.running, facts.loaded.settings)
    )
    for path in _differing(facts.running, facts.loaded.settings, ()):
        before, after = value_at(running, path), value_at(wanted, path)
        secret = shape.is_secret(path, before) or shape.is_secret(path, after)
        shown = [_listed(value) if isinstance(value, list) else show(value, secret=secret) for value in (before, after)]
        yield Issue(
            "restart_needed",
            "warning",
            dotted(path),
            f"{shown[1]} is configured, {shown[0]} is running",
            f"this setting takes effect at the next start, by {RESTART_COMMAND}; the patch puts back what is running",
            patch=None if secret else nested(path, before),
            command=RESTART_COMMAND if secret else None,
        )


def _listed(items: list[object]) -> str:
    return f"[{', '.join(map(str, items))}]"


def _plugins(facts: Facts) -> Iterator[Issue]:
    """A plugin of one's own may have another name than its module; what was listed at the start counts as loaded."""
    wanted, started = facts.loaded.settings.plugins, facts.running.plugins
    for position, name in enumerate(wanted):
        is_loaded = name.replace("-", "_") in facts.plugins
        if not is_loaded and (name not in started or name in BUILT_IN_PLUGINS):
            yield Issue(
                "plugin_not_loaded",
                "warning",
                f"plugins.{position}",
                f"{show(name)} is listed and not loaded",
                "plugins are loaded at the start only, so it does nothing until the next one",
                command=RESTART_COMMAND,
            )
    unlisted = [name for name in started if name not in BUILT_IN_PLUGINS or name in facts.plugins]
    unlisted += [name for name in BUILT_IN_PLUGINS if name in facts.plugins and name not in unlisted]
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


def _access(loaded: Loaded) -> Iterator[Issue]:
    token, origins = loaded.settings.admin.token, loaded.settings.server.allowed_origins
    if token is not None and len(token.get_secret_value()) < MIN_TOKEN_CHARS:
        yield Issue(
            "weak_token",
            "warning",
            "admin.token",
            f"the token (not shown, it is secret) is shorter than {MIN_TOKEN_CHARS} characters",
            "whoever guesses it can change this proxy and read what goes through it; make another one and put it there",
            command="openssl rand -hex 32",
        )
    if "*" in origins:
        written = value_at(loaded.document.raw, ("server", "allowedOrigins"))
        items = written if isinstance(written, list) else list(origins)
        kept = [item for item, origin in zip(items, origins, strict=True) if origin != "*"]
        yield Issue(
            "any_origin",
            "warning",
            "server.allowedOrigins",
            'holds "*", which is every web page',
            "any page that somebody in reach of this proxy opens in a browser may spend its keys; "
            "name the origins that should",
            patch=nested(("server", "allowedOrigins"), kept),
        )
