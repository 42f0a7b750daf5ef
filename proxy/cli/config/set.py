"""`config set PATH=VALUE …`: change values of the running configuration, all in one revision."""

import argparse
import json
from typing import Any, NoReturn

from proxy.cli.changes import add_reason, show_change
from proxy.cli.exits import DONE, USAGE, Failed
from proxy.cli.places import split_place
from proxy.cli.session import Session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument(
        "assignments",
        nargs="+",
        metavar="PATH=VALUE",
        help="or PATH VALUE; VALUE is read as JSON, else as text, and null deletes",
    )
    parser.add_argument("--ttl", metavar="TIME", help="take it back by itself after this time, such as 15m")
    parser.add_argument("--guard", metavar="TIME", help="take it back if errors or latency grow within this time")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--if-match", type=int, metavar="N", help="only if the revision is still N")
    add_reason(parser)


def run(options: argparse.Namespace, session: Session) -> int:
    """Send all assignments as one merge patch (RFC 7396)."""
    patch = merge_patch(read_assignments(options.assignments))
    query = {"ttl": options.ttl, "guard": options.guard, "dryRun": "true" if options.dry_run else None}
    headers = {} if options.if_match is None else {"If-Match": f'"{options.if_match}"'}
    answer = session.send("PATCH", "/config", query=query, headers=headers, body=patch)
    show_change(session, answer, restart_hint="takes effect at the next start")
    return DONE


def read_assignments(words: list[str]) -> list[tuple[str, Any]]:  # Any: JSON
    """Read `a=1 b=2` or `a 1`.

    Raises:
        Failed: something else.
    """
    if len(words) == 2 and "=" not in words[0]:
        return [(words[0], read_value(words[1]))]
    found = []
    for word in words:
        path, mark, value = word.partition("=")
        if not mark or not path:
            raise Failed(f"{word!r} is not PATH=VALUE", USAGE)
        found.append((path, read_value(value)))
    return found


def read_value(text: str) -> Any:  # Any: JSON
    """Read JSON, or take the text itself where it is none: `true`, `[1]`, `"5"`, `5m`."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text


def _not_json(word: str) -> NoReturn:
    """Python's reader knows NaN and Infinity, JSON does not."""
    raise ValueError(word)


def merge_patch(assignments: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    """Put values in their places.

    Raises:
        Failed: two of them are for the same place, or one is inside of another.
    """
    patch: dict[str, Any] = {}  # Any: JSON
    taken: list[tuple[str, ...]] = []
    for path, value in assignments:
        keys = split_place(path)
        for other in taken:
            if keys[: len(other)] == other[: len(keys)]:
                raise Failed(f"{path} is set twice, or is a part of something else that is set", USAGE)
        taken.append(keys)
        place = patch
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return patch
