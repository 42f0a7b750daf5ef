"""`providers drain NAME`: have a provider take no new calls; those that run go on."""

import argparse

from proxy.cli.exits import DONE
from proxy.cli.providers.standing import add_name, change
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_name(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Drain a provider."""
    answer = change(session, options.name, "drain")
    if not session.wants_json:
        running = f"{answer.get('inFlight')} in flight, {answer.get('queued')} queued"
        session.screen.line(f"{options.name} takes no new calls ({running}); `providers enable` undoes it")
    return DONE
