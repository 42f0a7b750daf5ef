"""`providers explain MODEL`: who would be asked for a model now, and why the others would not."""

import argparse
from typing import Any, Final
from urllib.parse import urlencode

from proxy.cli.exits import DONE
from proxy.cli.pairs import pair
from proxy.cli.providers.status import milliseconds
from proxy.cli.screen import Painted, Screen
from proxy.cli.session import Session
from proxy.cli.table import show_table

HEADER: Final = ("CANDIDATE", "ROLE", "IN", "SHARE", "IN FLIGHT", "LATENCY", "UNTIL", "WHY")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("model", metavar="MODEL", help="a model, an alias, or provider/model")
    parser.add_argument("--format", metavar="NAME", help="format of the request: openai (unless given), anthropic, …")
    parser.add_argument("--stream", action="store_true", help="the request asks for a stream")
    parser.add_argument("--size", metavar="SIZE", help="size of its body, such as 64KB")
    parser.add_argument(
        "--header", metavar="NAME=VALUE", type=pair, action="append", default=[], help="a header it has; no secret"
    )


def run(options: argparse.Namespace, session: Session) -> int:
    """Explain who would be asked."""
    given = {"model": options.model, "format": options.format, "size": options.size}
    query = {name: value for name, value in given.items() if value is not None}
    if options.stream:
        query["stream"] = "true"
    query |= {f"header.{name}": value for name, value in options.header}
    answer = session.get(f"/providers/explain?{urlencode(query)}")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    screen.line(Painted(str(answer.get("summary")), "red" if answer.get("panic") else "bold"))
    rows = [_row(screen, each, "candidate") for each in answer.get("candidates") or ()]
    rows += [_row(screen, each, "fallback") for each in answer.get("fallbacks") or ()]
    show_table(screen, HEADER, rows)
    for other in answer.get("notCandidates") or ():
        screen.line(f"no candidate: {other.get('provider')} ({other.get('why')})")
    if balancer := answer.get("balancer"):
        screen.line("balancer: ", ", ".join(f"{name} {value}" for name, value in balancer.items() if value))
    for note in answer.get("notes") or ():
        screen.line("note: ", str(note))
    screen.line("policy: ", _policy(answer.get("policy") or {}))
    return DONE


def _row(screen: Screen, row: dict[str, Any], role: str) -> list[Painted | str]:  # Any: JSON
    is_in, share = row.get("in"), row.get("share")
    return [
        str(row.get("candidate", "")),
        role,
        Painted("in", "green") if is_in else Painted("out", "yellow"),
        f"{share:.0%}" if isinstance(share, int | float) else "",
        str(row.get("inFlight", "")),
        milliseconds(row.get("latencyMs")),
        screen.time(row["until"]) if row.get("until") else "",
        str(row.get("why") or ""),
    ]


def _policy(policy: dict[str, Any]) -> str:  # Any: JSON
    failover = f"failover on {', '.join(policy.get('on') or ())}" if policy.get("failover") else "no failover"
    return f"{policy.get('attempts')} attempts within {policy.get('deadline'):g} s; {failover}"
