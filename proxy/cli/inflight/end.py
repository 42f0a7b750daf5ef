"""`inflight end ID`: end a request; its client is told."""

import argparse
from urllib.parse import quote

from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("id", metavar="ID", help="id of the request, as `inflight list` shows it")


def run(options: argparse.Namespace, session: Session) -> int:
    """End it."""
    answer = session.send("DELETE", f"/inflight/{quote(options.id, safe='')}")
    if session.wants_json:
        session.screen.json(answer)
        return DONE
    already = f", {answer['endingAlready']} are ending already" if answer.get("endingAlready") else ""
    session.screen.line(f"requests ended: {answer.get('ended')}{already}")
    return DONE
