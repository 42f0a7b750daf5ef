"""Checking a configuration file in this process, exactly as the start of the proxy does."""

from pathlib import Path

from proxy.cli.exits import DONE, REFUSED
from proxy.cli.session import Session
from proxy.errors import ConfigError
from proxy.reload.prepare import prepare_file


def check(path: Path, session: Session) -> int:
    """Print every fault with file and line to the error output, or that there is none; returns the exit code."""
    try:
        prepare_file(path, session.environ)
    except ConfigError as error:
        if session.wants_json:
            errors = [{"path": each.path, "message": each.message, "line": each.line} for each in error.faults]
            session.screen.json({"valid": False, "file": str(path), "errors": errors or [{"message": error.message}]})
        session.screen.error(error.message)
        return REFUSED
    if session.wants_json:
        session.screen.json({"valid": True, "file": str(path), "errors": []})
    else:
        session.screen.line(f"{path} is valid")
    return DONE
