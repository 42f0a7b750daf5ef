"""What an operator should look at in a configuration that is valid and in force, each with what mends it."""

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.config.balancing_issues import balancing_issues
from proxy.config.document import dotted
from proxy.config.failover_issues import failover_issues
from proxy.config.file_issues import file_issues
from proxy.config.issue_patches import nested, value_at
from proxy.config.limit_issues import limit_issues
from proxy.config.loader import Loaded
from proxy.config.models import Settings
from proxy.config.patch import Json
from proxy.config.provider_issues import provider_issues
from proxy.config.restart_issues import differing, restart_issues
from proxy.config.routing_issues import routing_issues
from proxy.plugin import Issue

MIN_TOKEN_CHARS: Final = 16

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
    found += failover_issues(loaded)
    found += balancing_issues(loaded)
    found += limit_issues(loaded)
    found += provider_issues(loaded)
    found += file_issues(loaded, facts.base, facts.file)
    found += _access(loaded)
    found += restart_issues(loaded, facts.running, facts.plugins)
    found += facts.told
    found.sort(key=lambda issue: issue.path)
    return sorted([*facts.troubles, *found], key=lambda issue: _ORDER.index(issue.severity))


def as_json(issue: Issue, url: str, *, has_token: bool = False) -> dict[str, Any]:  # Any: JSON
    """Show an issue as `/config/issues` does.

    Args:
        url: where the admin side is reached, such as `http://127.0.0.1:8080`.
        has_token: it wants one.
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
        "fix": issue.command if issue.patch is None else _patching(issue.patch, url, has_token),
    }


def _patching(patch: Json, url: str, has_token: bool) -> str:
    body = shlex.quote(orjson.dumps(patch).decode())
    return f'{curl("PATCH", f"{url}/config", has_token=has_token)} -H "Content-Type: application/json" -d {body}'


def curl(method: str, url: str, *, has_token: bool) -> str:
    """Write a call of the admin side as a line to paste into a shell; the token is the one that the shell has."""
    token = ' -H "Authorization: Bearer $PROXY_ADMIN_TOKEN"' if has_token else ""
    return f"curl -X {method} {shlex.quote(url)}{token}"


def restart_needed(running: Settings, wanted: Settings) -> list[str]:
    """List the settings that differ and take effect only at the next start.

    Args:
        running: what the process started with.
        wanted: what is in force, or would be.
    Returns:
        Dotted paths, in the order of the models.
    """
    return [dotted(path) for path in differing(running, wanted, ())]


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
