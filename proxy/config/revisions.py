"""The history of the configuration on disk: one file a revision, there whole or not at all whenever the power fails."""

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from proxy.config.document import read_regular_file
from proxy.config.patch import Json, difference

MAX_FILE_BYTES: Final = 16 << 20
"""Larger ones are no revisions: a document has 1 MB at most, and a revision holds two."""

NAME: Final = re.compile(r"[0-9]{8,}\.json")

Cause = Literal["start", "api", "file", "timer", "guard", "rollback", "reset"]


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of the whole configuration. Secrets stand in it as ids, references as they were written.

    Args:
        number: from 1 up.
        time_s: wall clock, seconds since 1970.
        author: who made it: an address, a user, or what of this program.
        reason: why, in the author's words; may be empty.
        document: the whole document.
        base: what the file said then; the live changes over it are what is left.
    """

    number: int
    time_s: float
    author: str
    reason: str
    cause: Cause
    document: Json
    base: Json

    @property
    def overlay(self) -> Json:
        """The live changes over the file, as a merge patch."""
        return difference(self.base, self.document)


class Revisions:
    """The revisions of one state folder, which one process holds. Blocks on the disk: call it from a thread.

    Args:
        folder: made when it is missing, mode 0700.
        keep: how many are kept; the newest always is.
        on_corrupt: told of each file that is no whole revision, after it was set aside, in a line for the operator.
    """

    def __init__(self, folder: Path, keep: int, on_corrupt: Callable[[str], None]) -> None:
        self._folder = folder
        self._keep = max(1, keep)
        self._on_corrupt = on_corrupt

    def numbers(self) -> list[int]:
        """List the numbers there are, oldest first."""
        try:
            return sorted(int(path.stem) for path in self._folder.iterdir() if NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []

    def newest(self) -> Revision | None:
        """Read the newest whole revision; newer ones that are not whole are set aside first.

        Raises:
            OSError: the folder cannot be read.
        """
        self._remove_leftovers()
        for number in reversed(self.numbers()):
            found = self.get(number)
            if found is not None:
                return found
        return None

    def get(self, number: int) -> Revision | None:
        """Read one revision; None if it is not there, or not whole: then its file is set aside as `.corrupt-…`."""
        path = self._path(number)
        try:
            return _read(read_regular_file(path, MAX_FILE_BYTES), number)
        except FileNotFoundError:
            return None
        except ValueError as error:
            aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
            path.rename(aside)
            self._on_corrupt(f"{path} is no whole revision ({error}); it was set aside as {aside.name}")
            return None

    def add(self, revision: Revision) -> None:
        """Write a revision; when this returns, it survives a crash of the machine.

        Raises:
            OSError: the disk is full or fails; then it is not there, and nothing else has changed.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(revision.number)
        temporary = path.with_suffix(".tmp")
        try:
            _write_through(temporary, _write(revision))
            temporary.rename(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            raise
        try:
            _flush_folder(self._folder)
        except OSError:
            with suppress(OSError):  # it must not come up as the newest at the next start
                path.unlink()
            raise
        for number in self.numbers()[: -self._keep]:
            with suppress(OSError):  # an old one too many does no harm
                self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.json"

    def _remove_leftovers(self) -> None:
        """Remove what a crash left half written."""
        for path in self._folder.glob("*.tmp"):
            path.unlink(missing_ok=True)


def _write(revision: Revision) -> bytes:
    fields = asdict(revision)
    return orjson.dumps({"sha256": _digest(fields), "revision": fields}, option=orjson.OPT_INDENT_2)


def _read(data: bytes, number: int) -> Revision:
    """Raises ValueError with what is wrong."""
    try:
        whole: Any = orjson.loads(data)  # Any: what a damaged file holds
        fields = whole["revision"]
        is_intact = whole["sha256"] == _digest(fields)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, KeyError, TypeError):
        raise ValueError("it is not JSON as this program writes it") from None
    if not isinstance(fields, dict):
        raise ValueError("it holds no revision")
    if not is_intact:
        raise ValueError("its checksum is another")
    if fields.get("number") != number:
        raise ValueError(f"it holds revision {fields.get('number')}")
    try:
        return Revision(**fields)
    except TypeError:
        raise ValueError("it was written by another version of this program") from None


def _digest(fields: Any) -> str:  # Any: what a damaged file holds
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Make names last as well as contents."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
