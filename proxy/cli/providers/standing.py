"""Changing by hand whether a provider is asked."""

import argparse
from typing import Any
from urllib.parse import quote

from proxy.cli.session import Session


def add_name(parser: argparse.ArgumentParser) -> None:
    """Add the name of the provider."""
    parser.add_argument("name", metavar="NAME", help="the provider, as in `providers:`")


def change(session: Session, name: str, verb: str) -> dict[str, Any]:  # Any: JSON
    """Have the proxy do it; prints the answer where JSON is wanted."""
    answer = session.send("POST", f"/providers/{quote(name, safe='')}/{verb}")
    if session.wants_json:
        session.screen.json(answer)
    return answer
