"""`providers enable NAME`: let a provider take calls again, its failures forgotten."""

import argparse

from proxy.cli.exits import DONE
from proxy.cli.providers.standing import add_name, change
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_name(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Enable a provider."""
    answer = change(session, options.name, "enable")
    if not session.wants_json:
        forgotten = answer.get("forgotten") or {}
        undone = f"{len(forgotten.get('circuits') or ())} circuits closed, {forgotten.get('cooldowns')} cooldowns ended"
        session.screen.line(f"{options.name} takes calls again ({undone})")
    return DONE
