"""`config get PATH`: one value, for a person or a script."""

import argparse
import json

from proxy.cli.exits import DONE
from proxy.cli.places import split_place, value_at
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("path", metavar="PATH", help="place in the document, such as cache.ttl")


def run(options: argparse.Namespace, session: Session) -> int:
    """Print the value: text as it is, everything else as JSON."""
    split_place(options.path)  # a wrong one is told before anybody is asked
    value = value_at(session.get("/config"), options.path)
    if session.wants_json or isinstance(value, dict | list):
        session.screen.json(value)
    else:
        session.screen.text((value if isinstance(value, str) else json.dumps(value)) + "\n")
    return DONE
