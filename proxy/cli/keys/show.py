"""`keys show ID`: one virtual key with its settings."""

import argparse
from collections.abc import Iterator
from typing import Any

from proxy.cli.exits import DONE
from proxy.cli.keys.list import dollars, spent_of, state_of
from proxy.cli.keys.target import add_id, path_of
from proxy.cli.screen import Part, Screen
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_id(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Show it."""
    key = session.get(path_of(options.id))
    if session.wants_json:
        session.screen.json(key)
        return DONE
    for name, value in _lines(session.screen, key):
        session.screen.line(f"{name + ':':<12} ", value)
    return DONE


def _lines(screen: Screen, key: dict[str, Any]) -> Iterator[tuple[str, Part]]:  # Any: JSON
    yield "key", str(key.get("key"))
    yield "name", str(key.get("name"))
    yield "state", state_of(key)
    yield "models", ", ".join(map(str, key.get("models") or ())) or "all"
    for name, value in (key.get("limits") or {}).items():
        yield "limit", f"{name} {value:g}" if isinstance(value, int | float) else str(name)
    yield "today", spent_of(key, "today", "perDay")
    yield "this month", spent_of(key, "thisMonth", "perMonth")
    yield "in all", dollars((key.get("spend") or {}).get("total"))
    for name, value in (key.get("metadata") or {}).items():
        yield "metadata", f"{name}: {value}"
    times = {"created": "createdAt", "rotated": "rotatedAt", "last used": "lastUsedAt", "expires": "expiresAt"}
    for title, field in {**times, "earlier one": "earlierWorksUntil"}.items():
        if key.get(field):
            yield title, f"{'works until ' if title == 'earlier one' else ''}{screen.time(key[field])}"
