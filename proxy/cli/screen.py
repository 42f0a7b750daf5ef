"""What verbs print: values that cannot steer a terminal, colours and local times only where a person reads them."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

Colour = Literal["red", "green", "yellow", "cyan", "bold"]
CODES: Final[dict[Colour, str]] = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1"}

VALUE_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Painted:
    """Text in a colour, where there are colours."""

    text: str
    colour: Colour


Part = str | Painted


def escape(text: str) -> str:
    """Write control characters, line ends and what reorders text as `\\x1b`, so that a value stays on its line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shorten(text: str, limit: int = VALUE_LENGTH) -> str:
    """Cut text that is too long for a line."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def value_text(value: object) -> str:
    """Write a value of the configuration for a line of its own: as JSON, cut where it is long."""
    return shorten(json.dumps(value, ensure_ascii=False))


def json_text(document: object) -> str:
    """Write a document as indented JSON; what is not printable is escaped as JSON has it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


class Screen:
    """The two outputs of a verb.

    Args:
        environ: `NO_COLOR` and `TERM` count.
        now_s: seconds since 1970, for "3m ago".
    """

    def __init__(self, output: TextIO, errors: TextIO, environ: Mapping[str, str], *, now_s: float) -> None:
        self._output = output
        self._errors = errors
        self._now_s = now_s
        self._has_reader = True
        self.is_terminal = output.isatty()
        self.has_colours = self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"

    def line(self, *parts: Part) -> None:
        """Print one line; every part is escaped."""
        self._write("".join(self._show(part) for part in parts).rstrip() + "\n")

    def json(self, document: Any) -> None:  # Any: JSON
        """Print a document as indented JSON."""
        self._write(json_text(document) + "\n")

    def text(self, text: str) -> None:
        """Print lines for a file or another program as they are; on a terminal they are escaped."""
        if self.is_terminal:
            text = "\n".join(map(escape, text.split("\n")))
        self._write(text)

    def error(self, message: str) -> None:
        """Print a message of one or more lines to the error output."""
        try:
            for line in message.split("\n"):
                self._errors.write(escape(line) + "\n")
            self._errors.flush()
        except BrokenPipeError:
            _silence(self._errors)

    def time(self, text: object) -> str:
        """Write a time as RFC 3339 has it, on a terminal in local time and relative: `2026-01-31 14:00:00 (3m ago)`."""
        if not self.is_terminal or not isinstance(text, str):
            return str(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return text
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({relative(moment.timestamp() - self._now_s)})"

    def close(self) -> None:
        """Hand over what is still buffered."""
        if self._has_reader:
            self._write("")
            try:
                self._output.flush()
            except BrokenPipeError:
                self._leave()

    def _show(self, part: Part) -> str:
        if isinstance(part, str):
            return escape(part)
        return f"\x1b[{CODES[part.colour]}m{escape(part.text)}\x1b[0m" if self.has_colours else escape(part.text)

    def _write(self, text: str) -> None:
        if not self._has_reader:
            return
        try:
            self._output.write(text)
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        """`… | head` has read enough: the rest goes nowhere, and the exit code stays what the verb found."""
        self._has_reader = False
        _silence(self._output)


def _silence(stream: TextIO) -> None:
    """Point a stream without a reader at nothing, so that the interpreter's own flush at the end does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def relative(seconds: float) -> str:
    """Write a distance in time: `3m ago`, `in 2h`, `now`."""
    distance = abs(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if distance >= size:
            text = f"{int(distance // size)}{unit}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "now"


def wall_clock_s() -> float:
    """Seconds since 1970."""
    return time.time()
