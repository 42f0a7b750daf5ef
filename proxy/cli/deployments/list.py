"""`deployments list`: the revisions of the configuration, newest first."""

import argparse
from typing import Any

from proxy.cli.exits import DONE
from proxy.cli.screen import Screen, shorten
from proxy.cli.session import Session
from proxy.cli.table import show_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes; without defaults, because `deployments` takes the same before `list`."""
    parser.add_argument(
        "--limit", type=count, metavar="N", default=argparse.SUPPRESS, help="the newest N only, instead of all"
    )


def count(text: str) -> int:
    """Read a number of lines."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def run(options: argparse.Namespace, session: Session) -> int:
    """List revisions."""
    answer = session.get("/deployments")
    deployments = (answer.get("deployments") or [])[: getattr(options, "limit", None)]
    if session.wants_json:
        session.screen.json({**answer, "deployments": deployments})
        return DONE
    rows = [
        [
            str(each.get("id", "")),
            session.screen.time(each.get("time", "")),
            str(each.get("author") or ""),
            str(each.get("cause") or ""),
            str(each.get("changes", "")),
            state_of(each, session.screen),
            shorten(str(each.get("reason") or "")) if session.screen.is_terminal else str(each.get("reason") or ""),
        ]
        for each in deployments
    ]
    show_table(session.screen, ("ID", "TIME", "AUTHOR", "CAUSE", "CHANGES", "STATE", "REASON"), rows)
    return DONE


def state_of(deployment: dict[str, Any], screen: Screen) -> str:  # Any: JSON
    """Say whether a revision is in force, and what may end it."""
    words = ["current"] if deployment.get("isCurrent") else []
    if expires := deployment.get("expiresAt"):
        words.append(f"reverts {screen.time(expires)}")
    if guarded := deployment.get("guardUntil"):
        words.append(f"guarded until {screen.time(guarded)}")
    return ", ".join(words)
