"""Differences between revisions, and what the proxy answers to a change."""

import argparse
from typing import Any

from proxy.cli.issues import show_issues
from proxy.cli.screen import Painted, Screen, value_text
from proxy.cli.session import Session


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add the option that every change takes."""
    parser.add_argument("--reason", metavar="TEXT", help="why; kept with the revision")


def show_diff(screen: Screen, diff: list[dict[str, Any]]) -> None:  # Any: JSON
    """Print a line for each changed place.

    Args:
        diff: list of {"path": str, "old": JSON, "new": JSON}; a side that is absent or null was or is not set.
    """
    for change in diff:
        path, old, new = str(change.get("path")), change.get("old"), change.get("new")
        if old is None:
            screen.line(Painted(f"+ {path}: {value_text(new)}", "green"))
        elif new is None:
            screen.line(Painted(f"- {path}: {value_text(old)}", "red"))
        else:
            screen.line(f"  {path}: ", Painted(value_text(old), "red"), " -> ", Painted(value_text(new), "green"))


def show_change(session: Session, answer: dict[str, Any], *, restart_hint: str) -> None:  # Any: JSON
    """Print the answer to a change.

    Args:
        restart_hint: what is said of settings that need a restart, after their names.
    """
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return
    diff = answer.get("diff") or []
    screen.line(Painted(_headline(answer, len(diff)), "bold"))
    show_diff(screen, diff)
    if expires := answer.get("expiresAt"):
        screen.line(f"reverts by itself: {screen.time(expires)}")
    if guarded := answer.get("guardUntil"):
        screen.line(f"reverts if errors or latency grow until: {screen.time(guarded)}")
    if needed := answer.get("restartNeeded"):
        screen.line(Painted("needs a restart: ", "yellow"), ", ".join(map(str, needed)), f" ({restart_hint})")
    if issues := answer.get("issues"):
        screen.line()
        show_issues(screen, issues)


def _headline(answer: dict[str, Any], changes: int) -> str:  # Any: JSON
    count = f"{changes} change{'' if changes == 1 else 's'}"
    if answer.get("dryRun"):
        return f"dry run, nothing was changed: {count}" if changes else "dry run: nothing would change"
    revision = answer.get("revision")
    return f"revision {revision}: {count}" if answer.get("changed") else f"nothing to change, revision {revision} stays"
