"""`providers status`: how each provider does, and below it which of its keys and models do not."""

import argparse
from collections.abc import Iterator
from typing import Any, Final

from proxy.cli.exits import DONE
from proxy.cli.screen import Colour, Painted, Screen
from proxy.cli.session import Session
from proxy.cli.table import show_table

COLOURS: Final[dict[str, Colour]] = {
    "ok": "green",
    "degraded": "yellow",
    "half_open": "yellow",
    "drained": "cyan",
    "failing": "red",
    "open": "red",
}

HEADER: Final = ("PROVIDER", "STATE", "IN FLIGHT", "QUEUED", "CALLS", "ERRORS", "P50", "P95", "FIRST BYTE", "WHY")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(options: argparse.Namespace, session: Session) -> int:
    """Show the providers."""
    answer = session.get("/providers/status")
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    providers = answer.get("providers") or []
    rows = [_row(each) for each in providers]
    show_table(screen, HEADER, rows, [list(_below(screen, each)) for each in providers])
    budget = answer.get("retryBudget") or {}
    screen.line(f"retry budget: {budget.get('left')} of {budget.get('capacity')} extra attempts")
    return DONE


def state_of(state: object) -> Painted | str:
    """Write a state in its colour."""
    name = str(state)
    return Painted(name, COLOURS[name]) if name in COLOURS else name


def milliseconds(value: object) -> str:
    """Write a time; empty where it is not known."""
    return f"{value:,.0f} ms" if isinstance(value, int | float) else ""


def _row(provider: dict[str, Any]) -> list[Painted | str]:  # Any: JSON
    most, latency = provider.get("maxConcurrency"), provider.get("latencyMs") or {}
    limit = provider.get("adaptiveLimit") or most
    in_flight = str(provider.get("inFlight", ""))
    return [
        str(provider.get("name", "")),
        state_of(provider.get("state", "")),
        in_flight if limit is None else f"{in_flight} of {limit}",
        str(provider.get("queued", "")),
        str(provider.get("calls", "")),
        f"{provider.get('errorRate', 0):.1%}" if provider.get("calls") else "",
        milliseconds(latency.get("p50")),
        milliseconds(latency.get("p95")),
        milliseconds((provider.get("timeToFirstByteMs") or {}).get("p50")),
        str(provider.get("why") or ""),
    ]


def _below(screen: Screen, provider: dict[str, Any]) -> Iterator[str]:  # Any: JSON
    if probe := provider.get("nextProbe"):
        yield f"    next probe {screen.time(probe)}"
    for key in provider.get("keys") or ():
        if key.get("state") != "ok":
            models = ", ".join(str(model) for model in key.get("models") or ())
            yield f"    key {key.get('key')}: {_told(screen, key, 'reason')} [{models}]"
    for model in provider.get("modelStates") or ():
        if model.get("state") != "ok":
            yield f"    model {model.get('model')}: {_told(screen, model, 'why')}"
    if error := provider.get("lastError"):
        yield f"    last error {screen.time(error.get('at'))}: {error.get('message')} ({error.get('code')})"


def _told(screen: Screen, found: dict[str, Any], why: str) -> str:  # Any: JSON
    until = f" until {screen.time(found['until'])}" if found.get("until") else ""
    return f"{found.get('state')}{until}: {found.get(why)}"
