"""`config export`: the running configuration as a YAML file to commit."""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from proxy.cli.defaults import without_defaults
from proxy.cli.exits import DONE, REFUSED, Failed
from proxy.cli.screen import escape, json_text
from proxy.cli.session import Session
from proxy.cli.yaml_text import yaml_text

SCHEMA_LINE: Final = "# yaml-language-server: $schema=proxy.schema.json\n"
MARKER: Final = "$export"
SECRET: Final = "$secret"  # noqa: S105  # a key of the document, no secret


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this verb takes."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead of printing it")
    parser.add_argument("--all", action="store_true", help="also what has its default value")


def run(options: argparse.Namespace, session: Session) -> int:
    """Write the whole document; what only repeats a default is left out."""
    whole = session.get("/config")
    revision = (whole.get(MARKER) or {}).get("revision")
    document = {key: value for key, value in whole.items() if key != MARKER}
    shown = document if options.all else without_defaults(document, session.get("/config/schema"))
    if session.wants_json:
        text = json_text(shown) + "\n"
    else:
        text = SCHEMA_LINE + secrets_line(shown) + (yaml_text(shown) if shown else "{}\n")
    if options.output is None:
        session.screen.text(text)
        return DONE
    write_file(options.output, text)
    session.screen.line(f"revision {revision} is written to {options.output}")
    if secrets := list(secret_places(shown)):
        session.screen.error(f"to be replaced by ${{NAME}} before it can be used: {', '.join(secrets)}")
    return DONE


def secrets_line(document: dict[str, Any]) -> str:  # Any: JSON
    """Tell in a comment which secrets the document cannot hold; empty if there is none."""
    places = list(secret_places(document))
    if not places:
        return ""
    names = escape(", ".join(places))  # a line end in a key must not end the comment
    return f"# Secrets that stand for themselves, to be replaced by ${{NAME}} of the environment: {names}\n"


def secret_places(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:  # Any: JSON
    """Find each `{"$secret": id}`."""
    if isinstance(value, dict):
        if set(value) == {SECRET}:
            yield ".".join(path)
        for key, item in value.items():
            yield from secret_places(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from secret_places(item, (*path, str(position)))


def write_file(path: Path, text: str) -> None:
    """Replace a file in one step, because the proxy may be watching it; a link keeps leading to it.

    Raises:
        Failed: it cannot be written.
    """
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            draft.chmod(mode)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {(error.strerror or str(error)).lower()}", REFUSED) from None
