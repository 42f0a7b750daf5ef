"""`config schema`: the JSON Schema of the configuration, for editors."""

import argparse

from proxy.cli.exits import DONE
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """Print it."""
    session.screen.json(session.get("/config/schema"))
    return DONE
