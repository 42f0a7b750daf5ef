"""`deployments show ID`: who made a revision, when, why, and what it changed."""

import argparse

from proxy.cli.changes import show_diff
from proxy.cli.deployments.list import state_of
from proxy.cli.exits import DONE
from proxy.cli.screen import Painted
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("id", type=revision, metavar="ID", help="number of the revision")


def revision(text: str) -> int:
    """Read the number of a revision."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of a revision: see `deployments list`")
    return int(text)


def run(options: argparse.Namespace, session: Session) -> int:
    """Show one revision."""
    answer = session.get(f"/deployments/{options.id}")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    fields = {
        "revision": str(answer.get("id", options.id)),
        "time": screen.time(answer.get("time", "")),
        "author": str(answer.get("author") or ""),
        "cause": str(answer.get("cause") or ""),
        "reason": str(answer.get("reason") or ""),
        "state": state_of(answer, screen),
    }
    for name, text in fields.items():
        screen.line(Painted(f"{name:<9}", "bold"), text or "-")
    diff = answer.get("diff") or []
    screen.line(Painted(f"{'changes':<9}", "bold"), str(len(diff)))
    show_diff(screen, diff)
    return DONE
