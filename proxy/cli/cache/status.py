"""`cache status`: how full it is, how often it answers, and what that saved."""

import argparse
from typing import Any

from proxy.cli.exits import DONE
from proxy.cli.screen import Painted
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """Show it."""
    answer = session.get("/cache/status")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    rate = answer.get("hitRate")
    shown_rate = "nothing was asked yet" if rate is None else f"{rate:.1%} of the requests were answered from the cache"
    screen.line(Painted(shown_rate, "bold"))
    counts = ", ".join(f"{answer.get(name, 0)} {name}" for name in ("hits", "stale", "coalesced", "misses", "bypassed"))
    screen.line("requests:  ", counts)
    for label, name in (("missed:    ", "missesByReason"), ("bypassed:  ", "bypassedByReason")):
        if reasons := answer.get(name):
            screen.line(label, _reasons(reasons))
    if declined := answer.get("notKeptByReason"):
        screen.line("not kept:  ", _reasons(declined))
    screen.line("kept:      ", _kept(answer))
    saved: dict[str, Any] = answer.get("saved") or {}  # Any: JSON
    without = saved.get("answersWithoutPrice")
    screen.line(
        "saved:     ",
        f"${saved.get('usd', 0):,.4f}, {saved.get('seconds', 0):,.1f} s, {saved.get('tokens', 0):,} tokens",
        f" ({without} answers have no known price)" if without else "",
    )
    return DONE


def _kept(answer: dict[str, Any]) -> str:  # Any: JSON
    if answer.get("store") == "shared":
        return "in the shared store"
    megabytes, most = (answer.get(name, 0) / (1 << 20) for name in ("bytes", "maxBytes"))
    gone = {name: count for name, count in (answer.get("evictions") or {}).items() if count}
    left = f"; gone: {_reasons(gone)}" if gone else ""
    return f"{answer.get('size')} of {answer.get('maxSize')} answers, {megabytes:.1f} of {most:.1f} MB{left}"


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
