"""What is wrong or doubtful in a configuration, as a table."""

from collections.abc import Sequence
from typing import Any, Final

from proxy.cli.screen import Colour, Painted, Screen
from proxy.cli.table import show_table

COLOURS: Final[dict[str, Colour]] = {"error": "red", "warn": "yellow", "warning": "yellow"}


def has_error(issues: Sequence[dict[str, Any]]) -> bool:  # Any: JSON
    """Tell whether one of them is an error."""
    return any(issue.get("severity") == "error" for issue in issues)


def show_issues(screen: Screen, issues: Sequence[dict[str, Any]]) -> None:  # Any: JSON
    """Print issues, each with what mends it on lines of their own below.

    Args:
        issues: list of {"severity": str, "path": str, "message": str, "fix": str | None, ...}.
    """
    rows = []
    below = []
    for issue in issues:
        severity = str(issue.get("severity", ""))
        shown = Painted(severity, COLOURS[severity]) if severity in COLOURS else severity
        rows.append([shown, str(issue.get("path") or ""), str(issue.get("message", ""))])
        below.append([f"    fix: {line}" for line in str(issue.get("fix") or "").splitlines()])
    show_table(screen, ("SEVERITY", "PATH", "MESSAGE"), rows, below)
