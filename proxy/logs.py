"""The process's log: loguru set up once, each record one line without secrets, never in its caller's way."""

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import orjson
from loguru import logger

from proxy.config.models import LogSettings
from proxy.events import LEVELS, Event, Events, Level
from proxy.redaction import Redactor, is_secret_name
from proxy.values import timestamp

if TYPE_CHECKING:
    from loguru import Message

MAX_LINE_BYTES: Final = 16 << 10
MAX_TEXT_LENGTH: Final = 64 << 10
"""Longer texts are cut before they are searched for secrets, so that a line costs a bounded time."""
MARGIN_LENGTH: Final = 4 << 10
"""Cut off at the end of such a text: a secret that the cut split would not be recognised there."""

_NAMES: Final[Mapping[str, Level]] = {"TRACE": "DEBUG", "SUCCESS": "INFO", "WARNING": "WARN", "CRITICAL": "ERROR"}
_OWN_KEYS: Final = frozenset(("timestamp", "level", "event", "message", "exception"))
# C0 and C1 controls, line and paragraph separators, and marks that reverse the direction of text.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[^\s\"=]+")


class Writer:
    """Writes whole lines to a stream; what cannot be written is dropped and counted."""

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._is_torn = False
        try:
            # Past Python's buffer: after a failed write it would keep the bytes and fail again at exit.
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._descriptor = None

    def is_json(self, settings: LogSettings) -> bool:
        """Tell whether lines are to be JSON: by the settings, else unless somebody looks on."""
        return settings.format == "json" or (settings.format == "auto" and not self._stream.isatty())

    def write(self, line: bytes) -> None:
        """Write one line, or count it as dropped: a full disk or a closed pipe is no reason to fail a request."""
        try:
            if self._descriptor is None:
                self._stream.write(line.decode())
                self._stream.flush()
                return
            if self._is_torn:
                line = b"\n" + line
            while line:
                line = line[os.write(self._descriptor, line) :]
                self._is_torn = bool(line)
        except (OSError, ValueError):
            self.dropped += 1


class Logs:
    """The log of this process while it runs.

    Args:
        writer: where lines go.
        redactor: takes secrets out of every line; secrets may be registered with it at any time.
        is_json: JSON lines, else text for people.
    """

    def __init__(self, writer: Writer, redactor: Redactor, *, level: Level, is_json: bool) -> None:
        self.redactor = redactor
        self._writer = writer
        self._format = json_line if is_json else text_line
        self._failed = 0
        self._threshold = LEVELS[level]
        self._handler: int | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._earlier = (logging.root.handlers[:], logging.root.level)

    @property
    def dropped(self) -> int:
        """How many lines could not be written."""
        return self._writer.dropped + self._failed

    def start(self, events: Events) -> None:
        """Take over loguru, the standard library's logging, and the events."""
        logger.remove()
        logging.root.handlers[:] = [_Intercept()]
        self._unsubscribe = events.subscribe(self.write_event)
        self._listen()

    def follow(self, settings: LogSettings) -> None:
        """Write as the settings say, from now on."""
        self._format = json_line if self._writer.is_json(settings) else text_line
        if LEVELS[level_of(settings.level)] != self._threshold:
            self.set_level(level_of(settings.level))

    def set_level(self, level: Level) -> None:
        """Change what is written, from now on. Calls below the level cost next to nothing."""
        self._threshold = LEVELS[level]
        self._listen()

    def close(self) -> None:
        """Give back what `start` took."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._handler is not None:
            logger.remove(self._handler)
            self._handler = None
        logging.root.handlers[:], level = self._earlier
        logging.root.setLevel(level)

    def write_event(self, event: Event) -> None:
        """Write an event as a line."""
        if LEVELS[event.level] >= self._threshold:
            self._write(event.time_s, event.level, event.kind, event.message, event.fields, None)

    def _listen(self) -> None:
        earlier = self._handler
        # diagnose would write the values of local variables, prompts and keys among them.
        self._handler = logger.add(
            self._write_message,
            level=self._threshold,
            format=lambda record: "{exception}",
            backtrace=False,
            diagnose=False,
            catch=True,
        )
        logging.root.setLevel(self._threshold)
        if earlier is not None:
            logger.remove(earlier)

    def _write_message(self, message: "Message") -> None:
        record = message.record
        fields: dict[str, object] = dict(record["extra"])
        name = record["level"].name
        level = _NAMES.get(name) or (name if name in LEVELS else "INFO")
        kind = str(fields.pop("event", "log"))
        exception = str(message) if record["exception"] is not None else None
        self._write(record["time"].timestamp(), level, kind, record["message"], fields, exception)

    def _write(
        self, time_s: float, level: str, kind: str, message: str, fields: Mapping[str, object], exception: str | None
    ) -> None:
        try:
            own = {
                "timestamp": timestamp(time_s, is_exact=True),
                "level": level,
                "event": kind,
                "message": self._clean(message),
            }
            others = {
                (f"field_{key}" if key in _OWN_KEYS else key): self._field(key, value) for key, value in fields.items()
            }
            if exception:
                own["exception"] = self._clean(exception)
            line = self._format(own, others)
        except Exception:
            # What is logged may be any object, whose text may fail; the caller only wanted to log.
            self._failed += 1
            return
        self._writer.write(line)

    def _field(self, name: str, value: object) -> object:
        if isinstance(value, str) and not is_secret_name(name):
            return self._clean(value)
        return self.redactor.value(value, name)

    def _clean(self, text: str) -> str:
        redacted = self.redactor.text(text[:MAX_TEXT_LENGTH])
        return redacted if len(text) <= MAX_TEXT_LENGTH else redacted[:-MARGIN_LENGTH]


class _Intercept(logging.Handler):
    """Hands records of the standard library's logging, aiohttp's and asyncio's among them, to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            # Wrong arguments for the format string; a library's slip must not fail its caller.
            message = str(record.msg)
        level = next((name for name, number in reversed(LEVELS.items()) if record.levelno >= number), "DEBUG")
        name = "WARNING" if level == "WARN" else level
        logger.bind(event=record.name).opt(exception=record.exc_info).log(name, message)


def setup(
    settings: LogSettings,
    events: Events,
    *,
    redactor: Redactor | None = None,
    stream: TextIO | None = None,
) -> Logs:
    """Start logging; called once, before anything else that could log.

    Args:
        settings: section `log`.
        events: each becomes a line with its kind.
        redactor: knows the secrets; without one only what looks like a secret is taken out.
        stream: where to write, by default the error output.
    """
    out = stream if stream is not None else sys.stderr
    writer = Writer(out)
    is_json = writer.is_json(settings)
    logs = Logs(writer, redactor or Redactor(), level=level_of(settings.level), is_json=is_json)
    logs.start(events)
    return logs


def level_of(name: Literal["debug", "info", "warn", "error"]) -> Level:
    """Translate the spelling of the settings to that of events."""
    levels: Mapping[str, Level] = {"debug": "DEBUG", "info": "INFO", "warn": "WARN", "error": "ERROR"}
    return levels[name]


def json_line(own: Mapping[str, str], fields: Mapping[str, object]) -> bytes:
    """Write a record as one JSON object of at most 16 KiB, long texts cut as far as that needs.

    Args:
        own: timestamp, level, event, message and perhaps exception.
        fields: whatever else; JSON-like.
    """
    for limit in (8192, 2048, 512, 128):
        line = _dump({**_shorten(own, limit), **_shorten(fields, limit)})
        if len(line) < MAX_LINE_BYTES:
            return line + b"\n"
    return _dump({**_shorten(own, 128), "truncated": True}) + b"\n"


def text_line(own: Mapping[str, str], fields: Mapping[str, object]) -> bytes:
    """Write a record for people: `2026-01-31T12:00:00.000Z WARN  upstream_auth: message provider=openai`."""
    words = [f"{own['timestamp']} {own['level']:<5} {own['event']}: {own['message']}"]
    for key, value in fields.items():
        shown = value if isinstance(value, str) and _PLAIN.fullmatch(value) else _dump(value).decode()
        words.append(f"{key}={shown}")
    if "exception" in own:
        words.append(own["exception"])
    line = _UNSAFE.sub(_escape, " ".join(words)).encode()
    if len(line) >= MAX_LINE_BYTES:
        line = line[: MAX_LINE_BYTES - 5].decode("utf-8", "ignore").encode() + "…".encode()
    return line + b"\n"


def _dump(value: object) -> bytes:
    text = orjson.dumps(_for_json(value), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return _UNSAFE.sub(_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    return "\\n" if match[0] == "\n" else f"\\u{ord(match[0]):04x}"


def _for_json(value: Any) -> Any:  # Any: JSON
    if isinstance(value, dict):
        return {_for_json(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _shorten(value: Any, limit: int) -> Any:  # Any: JSON
    if isinstance(value, str):
        return value if len(value) <= limit else f"{value[:limit]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return {_shorten(key, limit): _shorten(item, limit) for key, item in list(value.items())[:limit]}
    return [_shorten(item, limit) for item in value[:limit]] if isinstance(value, list) else value
