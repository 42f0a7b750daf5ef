"""`config show [PATH]`: the running configuration or a part of it, to be read."""

import argparse
import json

from proxy.cli.exits import DONE
from proxy.cli.places import split_place, value_at
from proxy.cli.session import Session
from proxy.cli.yaml_text import yaml_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="a part only, such as providers.openai")


def run(options: argparse.Namespace, session: Session) -> int:
    """Show it as YAML."""
    if options.path is not None:
        split_place(options.path)  # a wrong one is told before anybody is asked
    document = session.get("/config")
    shown = document if options.path is None else value_at(document, options.path)
    if session.wants_json:
        session.screen.json(shown)
        return DONE
    if shown is document:
        marker = document.get("$export") or {}
        session.screen.line(f"# revision {marker.get('revision')}, {session.screen.time(marker.get('time'))}")
        shown = {key: value for key, value in document.items() if key != "$export"}
    session.screen.text(yaml_text(shown) if isinstance(shown, dict | list) else json.dumps(shown) + "\n")
    return DONE
