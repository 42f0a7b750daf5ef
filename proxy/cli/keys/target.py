"""Naming a virtual key on the command line, and printing the one time its text is told."""

import argparse
from typing import Any
from urllib.parse import quote

from proxy.cli.screen import Painted
from proxy.cli.session import Session


def add_id(parser: argparse.ArgumentParser) -> None:
    """Add the key that is meant."""
    parser.add_argument("id", metavar="KEY", help="its id or name, as `keys list` shows them")


def path_of(key_id: str) -> str:
    """Give the path of a key."""
    return f"/keys/{quote(key_id, safe='')}"


def show_text(session: Session, key: dict[str, Any]) -> None:  # Any: JSON
    """Print a key's text alone on the first line, for scripts to take; what is to be known of it below."""
    if session.wants_json:
        session.screen.json(key)
        return
    session.screen.line(str(key.get("key")))
    if session.screen.is_terminal:
        session.screen.line(Painted("this is shown only now: whoever has it, uses it", "yellow"))
