"""Files that are there whole or not at all, whenever the power fails: sealed with a checksum, written through."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson


def replace_file(path: Path, data: bytes) -> None:
    """Put a file, mode 0600, in the place of an older one in one step; for its name to last, flush the folder too.

    Raises:
        OSError: the disk is full or fails; then what was there before is untouched.
    """
    temporary = path.with_suffix(".tmp")
    try:
        _write_through(temporary, data)
        temporary.rename(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def flush_folder(folder: Path) -> None:
    """Make names last as well as contents. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> str:
    """Rename a damaged file to `….corrupt-…`, for somebody to look at; returns its new name. Raises OSError."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
    path.rename(aside)
    return aside.name


def seal(content: dict[str, Any]) -> bytes:  # Any: JSON
    """Write a mapping with a checksum over it."""
    return orjson.dumps({"sha256": _digest(content), **content}, option=orjson.OPT_INDENT_2)


def unseal(data: bytes) -> dict[str, Any]:  # Any: JSON
    """Read what `seal` wrote.

    Raises:
        ValueError: it is damaged, in words that follow the file's name.
    """
    try:
        content: Any = orjson.loads(data)  # Any: what a damaged file holds
        digest = content.pop("sha256")
        is_intact = digest == _digest(content)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, AttributeError, KeyError, TypeError):
        raise ValueError("it is not JSON as this program writes it") from None
    if not is_intact:
        raise ValueError("its checksum is another")
    found: dict[str, Any] = content
    return found


def _digest(content: Any) -> str:  # Any: what a damaged file holds
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _write_through(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # a leftover would keep its mode, and a link its target
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
