"""Durations, sizes and times as people write them: `"60s"`, `"5m"`, `"64MB"`, `"2026-01-31T14:00:00Z"`."""

import re
import sys
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Annotated

from pydantic import BeforeValidator, Field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LATEST_S = 253_402_300_799.0
"""The end of the year 9999, the last moment that can be written; seconds since 1970."""

MAX_DURATION_CHARS = 100
"""The patterns take quadratic time: 10,000 digits took five seconds."""

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)", re.IGNORECASE | re.ASCII)
_BYTES = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def parse_duration(value: object) -> float:
    """Read a duration.

    Args:
        value: seconds as a number, or text such as `250ms`, `60s`, `1h30m`.
    Returns:
        Seconds, finite and not negative.
    Raises:
        ValueError: anything else, in words for the operator.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError('a duration is seconds or text such as "60s", "5m", "2h"')
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_DURATION_CHARS:
            raise ValueError(f"a duration is at most {MAX_DURATION_CHARS} characters long")
        parts = _DURATION_PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            value = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        elif _NUMBER.fullmatch(text):
            value = float(text)
        else:
            raise ValueError('a duration is seconds or text such as "60s", "5m", "2h"')
    if not 0 <= value <= sys.float_info.max:
        raise ValueError("a duration is finite and not negative")
    return float(value)


def parse_timeout(value: object) -> float | None:
    """Read a duration that may be switched off: `none` gives None; zero is refused."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    seconds = parse_duration(value)
    if seconds == 0:
        raise ValueError('a timeout is above 0; write "none" for no limit')
    return seconds


def parse_size(value: object) -> int:
    """Read a size in bytes: a whole number, or text such as `64MB` (powers of 1,024)."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError('a size is bytes or text such as "64MB"')
    if isinstance(value, str):
        text = value.strip()
        if len(text) > 30:
            raise ValueError("a size is at most 30 characters long")
        if match := _SIZE.fullmatch(text):
            return int(float(match[1]) * _BYTES[match[2].lower()])
        if not (text.isascii() and text.isdecimal()):
            raise ValueError('a size is bytes or text such as "64MB"')
        value = int(text)
    if value < 0:
        raise ValueError("a size is not negative")
    return value


def format_size(size_bytes: float) -> str:
    """Write a size as `/health` shows it: `8.5MB`."""
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f}B" if unit == "B" else f"{size_bytes:.1f}{unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f}GB"


def format_duration(seconds: float) -> str:
    """Write a duration as `/health` shows it: `45s`, `2m 5s`, `2h 30m`, `3d 4h`."""
    whole = int(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def timestamp(time_s: float, *, is_exact: bool = False) -> str:
    """Write a wall clock time as RFC 3339 in UTC, to the second, or to the millisecond if it has to be exact."""
    whole_ms = round(time_s * 1000) if is_exact else floor(time_s) * 1000  # a float is a little below its milliseconds
    moment = EPOCH + timedelta(milliseconds=whole_ms)
    return moment.isoformat(timespec="milliseconds" if is_exact else "seconds").replace("+00:00", "Z")


Duration = Annotated[float, BeforeValidator(parse_duration), Field(json_schema_extra={"format": "duration"})]
"""Seconds in Python; a number or text such as `"60s"` in YAML and JSON."""

Timeout = Annotated[float | None, BeforeValidator(parse_timeout), Field(json_schema_extra={"format": "duration"})]
"""Like Duration, above 0; `none` (None in Python) means no limit."""

Size = Annotated[int, BeforeValidator(parse_size), Field(json_schema_extra={"format": "size"})]
"""Bytes in Python; a number or text such as `"64MB"` in YAML and JSON."""


def printable(text: str, limit: int = 80) -> str:
    """Make text fit for one line of a message: no control characters, no line ends, not too long."""
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
