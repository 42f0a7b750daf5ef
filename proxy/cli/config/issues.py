"""`config issues`: what is wrong or doubtful in the running configuration, with what mends it."""

import argparse

from proxy.cli.exits import DONE, REFUSED
from proxy.cli.issues import has_error, show_issues
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """List issues; an error among them is a failure."""
    answer = session.get("/config/issues")
    issues = answer.get("issues") or []
    if session.wants_json:
        session.screen.json(answer)
    elif issues:
        show_issues(session.screen, issues)
    else:
        session.screen.line(f"no issues in revision {answer.get('revision')}")
    return REFUSED if has_error(issues) else DONE
