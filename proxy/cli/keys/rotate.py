"""`keys rotate ID`: give a virtual key another text; it is printed this once."""

import argparse

from proxy.cli.exits import DONE
from proxy.cli.keys.target import add_id, path_of, show_text
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_id(parser)
    parser.add_argument(
        "--grace", metavar="TIME", help="how much longer the earlier text works, such as 1h; not at all"
    )


def run(options: argparse.Namespace, session: Session) -> int:
    """Rotate it."""
    show_text(session, session.send("POST", f"{path_of(options.id)}/rotate", query={"grace": options.grace}))
    return DONE
