"""`keys revoke ID`: take a virtual key away."""

import argparse

from proxy.cli.exits import DONE
from proxy.cli.keys.target import add_id, path_of
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_id(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Revoke it."""
    answer = session.send("DELETE", path_of(options.id))
    if session.wants_json:
        session.screen.json(answer)
        return DONE
    session.screen.line(f"{answer.get('name')} is revoked: no new request passes with it; those in work go on")
    return DONE
