"""`config validate [FILE]`: check a file as the start would, or ask the running proxy about what it runs with."""

import argparse
from importlib import import_module
from pathlib import Path

from proxy.cli.exits import DONE, REFUSED
from proxy.cli.issues import show_issues
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="check this file here; without it the running proxy is asked"
    )


def run(options: argparse.Namespace, session: Session) -> int:
    """Check; what is not valid is a failure."""
    if options.file is not None:
        # by name: it needs the whole proxy, which the other verbs do without
        code: int = import_module("proxy.cli.file_check").check(options.file, session)
        return code
    answer = session.get("/config/validate")
    is_valid = answer.get("valid") is True
    if session.wants_json:
        session.screen.json(answer)
    else:
        session.screen.line(f"revision {answer.get('revision')} is {'valid' if is_valid else 'not valid'}")
        if issues := answer.get("issues"):
            show_issues(session.screen, issues)
    return DONE if is_valid else REFUSED
