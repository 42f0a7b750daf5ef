"""`inflight list`: the requests in work, oldest first."""

import argparse
from typing import Any, Final

from proxy.cli.exits import DONE
from proxy.cli.screen import shorten
from proxy.cli.session import Session
from proxy.cli.table import show_table

HEADER: Final = ("ID", "PHASE", "AGE", "MODEL", "PROVIDER", "OPERATION", "BYTES", "ATTEMPTS", "CALLER", "LAST FAILURE")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """List the requests."""
    answer = session.get("/inflight")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    requests = answer.get("requests") or []
    if not requests:
        screen.line("no request is in work")
        return DONE
    show_table(screen, HEADER, [_row(each) for each in requests])
    if (total := answer.get("total", 0)) > len(requests):
        screen.line(f"the oldest {len(requests)} of {total}")
    return DONE


def _row(request: dict[str, Any]) -> list[str]:  # Any: JSON
    caller, peer = request.get("caller"), request.get("peer") or ""
    return [
        str(request.get("id", "")),
        str(request.get("phase", "")),
        f"{(request.get('ageMs') or 0) / 1000:.1f} s",
        shorten(str(request.get("model") or "")),
        str(request.get("provider") or ""),
        str(request.get("operation", "")),
        str(request.get("bytesOut", "")),
        str(request.get("attempts", "")),
        f"{peer} {caller}" if caller else str(peer),
        shorten(str(request.get("lastFailure") or "")),
    ]
