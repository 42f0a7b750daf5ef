"""`keys list`: the virtual keys and what each has spent."""

import argparse
from typing import Any, Final

from proxy.cli.exits import DONE
from proxy.cli.screen import Colour, Painted, Screen, shorten
from proxy.cli.session import Session
from proxy.cli.table import show_table

HEADER: Final = ("ID", "NAME", "STATE", "MODELS", "TODAY", "THIS MONTH", "EXPIRES", "LAST USED")
COLOURS: Final[dict[str, Colour]] = {"active": "green", "disabled": "yellow", "expired": "red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """List the keys."""
    answer = session.get("/keys")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    keys = answer.get("keys") or []
    if not keys:
        screen.line("there are no keys; `keys create NAME` makes one")
        return DONE
    show_table(screen, HEADER, [_row(screen, key) for key in keys])
    return DONE


def state_of(key: dict[str, Any]) -> Painted | str:  # Any: JSON
    """Write a key's state in its colour."""
    name = str(key.get("state", ""))
    return Painted(name, COLOURS[name]) if name in COLOURS else name


def spent_of(key: dict[str, Any], window: str, budget: str) -> str:  # Any: JSON
    """Write what was spent in a window, and of how much: `$1.25 of $5.00`."""
    spent, limit = (key.get("spend") or {}).get(window), (key.get("budget") or {}).get(budget)
    return dollars(spent) if limit is None else f"{dollars(spent)} of {dollars(limit)}"


def dollars(amount: object) -> str:
    """Write an amount; empty where it is not known."""
    if not isinstance(amount, int | float):
        return ""
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.6f}"


def _row(screen: Screen, key: dict[str, Any]) -> list[Painted | str]:  # Any: JSON
    return [
        str(key.get("id", "")),
        shorten(str(key.get("name", "")), 30),
        state_of(key),
        shorten(", ".join(map(str, key.get("models") or ("all",))), 30),
        spent_of(key, "today", "perDay"),
        spent_of(key, "thisMonth", "perMonth"),
        screen.time(key["expiresAt"]) if key.get("expiresAt") else "",
        screen.time(key["lastUsedAt"]) if key.get("lastUsedAt") else "",
    ]
