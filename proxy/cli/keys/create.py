"""`keys create NAME`: make a virtual key; its text is printed this once."""

import argparse
from typing import Any

from proxy.cli.exits import DONE
from proxy.cli.keys.target import show_text
from proxy.cli.pairs import pair
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("name", metavar="NAME", help="for people; no two keys have the same")
    parser.add_argument(
        "--models", metavar="PATTERN", nargs="+", default=[], help="models it may use; unless given: all"
    )
    parser.add_argument(
        "--limit",
        dest="limits",
        metavar="NAME=NUMBER",
        type=limit,
        action="append",
        default=[],
        help="such as requestsPerMinute=60 or concurrent=5; may be repeated",
    )
    parser.add_argument("--budget-day", metavar="USD", type=float, help="what it may spend in a day, UTC")
    parser.add_argument("--budget-month", metavar="USD", type=float, help="what it may spend in a calendar month, UTC")
    parser.add_argument(
        "--metadata", metavar="NAME=VALUE", type=pair, action="append", default=[], help="to be noted; may be repeated"
    )
    parser.add_argument(
        "--expires", metavar="WHEN", help="after how long it ends (90d), or when (2026-12-31T00:00:00Z)"
    )


def limit(text: str) -> tuple[str, float]:
    """Read a limit."""
    name, value = pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None


def run(options: argparse.Namespace, session: Session) -> int:
    """Make it."""
    show_text(session, session.send("POST", "/keys", body=_settings(options)))
    return DONE


def _settings(options: argparse.Namespace) -> dict[str, Any]:  # Any: JSON
    budget = {"perDay": options.budget_day, "perMonth": options.budget_month}
    settings: dict[str, Any] = {
        "name": options.name,
        "models": options.models,
        "limits": dict(options.limits),
        "budget": {name: amount for name, amount in budget.items() if amount is not None},
        "metadata": dict(options.metadata),
    }
    if options.expires is not None:
        is_moment = options.expires[:4].isdecimal() and options.expires[4:5] == "-"
        settings["expiresAt" if is_moment else "expiresIn"] = options.expires
    return settings
