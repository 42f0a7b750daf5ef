"""`cache entries`: what is kept, newest first; never its content."""

import argparse
from typing import Any, Final
from urllib.parse import urlencode

from proxy.cli.exits import DONE
from proxy.cli.screen import Screen, shorten
from proxy.cli.session import Session
from proxy.cli.table import show_table

HEADER: Final = ("KEY", "MODEL", "OPERATION", "FORM", "CALLER", "STORED", "FRESH FOR", "HITS")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    add_filters(parser)
    parser.add_argument(
        "--limit", type=int, default=argparse.SUPPRESS, metavar="N", help="how many at most; 100 unless given"
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add what says which entries are meant."""
    parser.add_argument("--model", metavar="NAME", help="of this model, as asked for or as served")
    parser.add_argument("--key", metavar="KEY", help="the one with this key, as listed")
    parser.add_argument("--caller", metavar="NAME", help="of this caller, as listed")
    parser.add_argument("--older-than", metavar="TIME", help="stored longer ago than this, such as 1h")


def filters_of(options: argparse.Namespace) -> dict[str, str]:
    """Write the filters as the query has them."""
    given = {"model": options.model, "key": options.key, "caller": options.caller, "olderThan": options.older_than}
    return {name: value for name, value in given.items() if value is not None}


def run(options: argparse.Namespace, session: Session) -> int:
    """List them."""
    answer = session.get(
        f"/cache/entries?{urlencode({**filters_of(options), 'limit': str(getattr(options, 'limit', 100))})}"
    )
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    entries = answer.get("entries") or []
    if not entries:
        screen.line("no such answer is kept")
        return DONE
    show_table(screen, HEADER, [_row(screen, entry) for entry in entries])
    if (total := answer.get("total")) is not None and total > len(entries):
        screen.line(f"the newest {len(entries)} of {total}")
    return DONE


def _row(screen: Screen, entry: dict[str, Any]) -> list[str]:  # Any: JSON
    fresh_s, hits = entry.get("freshS", 0), entry.get("hits")
    return [
        str(entry.get("key", "")),
        shorten(str(entry.get("model") or ""), 30),
        str(entry.get("operation", "")),
        str(entry.get("shape", "")),
        str(entry.get("caller", "")),
        screen.time(entry["storedAt"]) if entry.get("storedAt") else "",
        f"{fresh_s:.0f} s" if fresh_s > 0 else "stale",
        "" if hits is None else str(hits),
    ]
