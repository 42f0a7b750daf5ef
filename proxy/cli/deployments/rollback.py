"""`deployments rollback ID`: make an old revision the newest."""

import argparse

from proxy.cli.changes import add_reason, show_change
from proxy.cli.deployments.show import revision
from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("id", type=revision, metavar="ID", help="number of the revision to go back to")
    add_reason(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Go back to a revision."""
    answer = session.send("POST", f"/deployments/{options.id}/rollback")
    show_change(session, answer, restart_hint="takes effect at the next start")
    return DONE
