"""`deployments diff A B`: what differs between two revisions."""

import argparse

from proxy.cli.changes import show_diff
from proxy.cli.deployments.show import revision
from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("a", type=revision, metavar="A", help="the revision to begin with")
    parser.add_argument("b", type=revision, metavar="B", help="the one that it became")


def run(options: argparse.Namespace, session: Session) -> int:
    """Show what differs."""
    answer = session.get(f"/deployments/{options.a}/diff/{options.b}")
    if session.wants_json:
        session.screen.json(answer)
    elif diff := answer.get("diff"):
        show_diff(session.screen, diff)
    else:
        session.screen.line(f"revisions {options.a} and {options.b} do not differ")
    return DONE
