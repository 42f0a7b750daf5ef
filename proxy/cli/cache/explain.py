"""`cache explain FILE`: whether a request would be answered from the cache, and which part of it makes it miss."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from proxy.cli.exits import DONE
from proxy.cli.pairs import pair
from proxy.cli.screen import Painted
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the JSON body of the request; - reads it from a pipe")
    parser.add_argument("--path", help="where it would be sent; /v1/chat/completions unless given")
    parser.add_argument(
        "--header", metavar="NAME=VALUE", type=pair, action="append", default=[], help="a header it would have"
    )
    parser.add_argument("--key-id", metavar="ID", help="the virtual key it would show")


def run(options: argparse.Namespace, session: Session) -> int:
    """Explain it."""
    try:
        text = sys.stdin.read() if str(options.file) == "-" else options.file.read_text("utf-8")
        body = json.loads(text)
    except (OSError, ValueError) as error:
        session.screen.error(f"{options.file} cannot be read as JSON: {error}")
        return 1
    asked: dict[str, Any] = {
        "path": options.path or "/v1/chat/completions",
        "headers": dict(options.header),
        "body": body,
    }  # Any: JSON
    if options.key_id:
        asked["keyId"] = options.key_id
    answer = session.send("POST", "/cache/explain", body=asked)
    screen = session.screen
    if session.wants_json:
        screen.json(answer)
        return DONE
    outcome, reason = str(answer.get("outcome")), answer.get("reason")
    screen.line(Painted(outcome, "green" if answer.get("wouldHit") else "yellow"), f": {reason}" if reason else "")
    if nearest := answer.get("nearest"):
        differs = ", ".join(nearest.get("differs") or ()) or "nothing: that answer is not kept any more"
        screen.line(f"nearest: {nearest.get('key')}, asked {nearest.get('ageS'):.0f} s ago; what differs: {differs}")
    elif answer.get("entry") is None:
        screen.line("nothing like it was asked lately")
    return DONE
