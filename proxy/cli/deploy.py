"""`deploy`: have the running proxy read its file again, check it, and apply it as a revision."""

import argparse

from proxy.cli.changes import add_reason, show_change
from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--restart", action="store_true", help="restart the proxy if a changed setting needs it")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    add_reason(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Apply the file."""
    query = {"restart": "true" if options.restart else None, "dryRun": "true" if options.dry_run else None}
    answer = session.send("POST", "/deployments", query=query)
    if options.restart:
        hint = "--restart would do it" if options.dry_run else "the proxy restarts now"
    else:
        hint = "`python -m proxy deploy --restart` does it"
    show_change(session, answer, restart_hint=hint)
    return DONE
