"""The history of the configuration on disk: one file a revision, there whole or not at all whenever the power fails."""

import errno
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of_class
from pathlib import Path
from typing import Final, Literal

from proxy.config.document import read_regular_file
from proxy.config.patch import Json
from proxy.durable import flush_folder, replace_file, seal, set_aside, unseal

MAX_FILE_BYTES: Final = 16 << 20
"""Larger ones are no revisions: a document has 1 MB at most, and a revision holds two."""

NAME: Final = re.compile(r"[0-9]{8,}\.json")
USED_NAME: Final = re.compile(r"([0-9]{8,})\.json")

Cause = Literal["start", "api", "file", "timer", "guard", "rollback", "reset"]


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that ends by itself.

    Args:
        number: the revision that made it.
        at_s: when, wall clock, seconds since 1970.
        inverse: merge patch that takes back what is left of it; later changes take their keys out of it.
        baseline: for a guarded change: how things were before it; None if it just ends at its time.
    """

    number: int
    at_s: float
    inverse: Json
    baseline: dict[str, float] | None = None


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
        diff: `[{"path", "old", "new"}]` against the revision before, defaults filled in.
        pending: the changes, made by this revision and earlier ones, that were to end by themselves.
    """

    number: int
    time_s: float
    author: str
    reason: str
    cause: Cause
    document: Json
    base: Json
    diff: tuple[Json, ...] = ()
    pending: tuple[Pending, ...] = ()


REVISION_FIELDS: Final = frozenset(each.name for each in fields_of_class(Revision))


class Revisions:
    """The revisions of one state folder, which one process holds. Blocks on the disk: call it from a thread.

    Args:
        folder: made when it is missing, mode 0700.
        on_corrupt: told of each file that is no whole revision, after it was set aside, in a line for the operator.
    """

    def __init__(self, folder: Path, on_corrupt: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_corrupt = on_corrupt

    def numbers(self) -> list[int]:
        """List the numbers there are, oldest first."""
        try:
            return sorted(int(path.stem) for path in self._folder.iterdir() if NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []

    def highest(self) -> int:
        """Give the highest number that was ever used, as far as names tell, also of those set aside; 0 for none."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return 0
        return max((int(found[1]) for name in names if (found := USED_NAME.match(name))), default=0)

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
            self._on_corrupt(f"{path} is no whole revision ({error}); it was set aside as {set_aside(path)}")
            return None

    def add(self, revision: Revision, keep: int) -> None:
        """Write a revision; when this returns, it survives a crash of the machine.

        Args:
            keep: how many may be there afterwards; the oldest go first, the newest always stays.
        Raises:
            OSError: the disk is full or fails; then it is not there, and nothing else has changed.
        """
        data = seal({"revision": asdict(revision)})
        if len(data) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"the revision has {len(data):,} bytes, the limit is {MAX_FILE_BYTES:,}")
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True)
            flush_folder(self._folder.parent)
        path = self._path(revision.number)
        replace_file(path, data)
        try:
            flush_folder(self._folder)
        except OSError:
            with suppress(OSError):  # it must not come up as the newest at the next start
                path.unlink()
            raise
        for number in self.numbers()[: -max(1, keep)]:
            with suppress(OSError):  # an old one too many does no harm
                self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.json"

    def _remove_leftovers(self) -> None:
        """Remove what a crash left half written."""
        for path in self._folder.glob("*.tmp"):
            path.unlink(missing_ok=True)


def _read(data: bytes, number: int) -> Revision:
    """Raises ValueError with what is wrong."""
    fields = unseal(data).get("revision")
    if not isinstance(fields, dict):
        raise ValueError("it holds no revision")
    if fields.get("number") != number:
        raise ValueError(f"it holds revision {fields.get('number')}")
    try:
        known = {name: value for name, value in fields.items() if name in REVISION_FIELDS}  # a newer program wrote more
        lists = {"diff": tuple(fields["diff"]), "pending": tuple(Pending(**one) for one in fields["pending"])}
        return Revision(**{**known, **lists})
    except (TypeError, KeyError):
        raise ValueError("it was written by another version of this program") from None
