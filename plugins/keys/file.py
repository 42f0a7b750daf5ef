"""The file that keeps the keys, `keys.json` in the state folder: digests, settings and what was spent, never a key."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, NoReturn

from pydantic import Field

from plugins.keys.account import Account, Spent
from plugins.keys.book import Earlier, VirtualKey
from plugins.keys.settings import KeySettings
from proxy.durable import flush_folder, replace_file, seal, set_aside, unseal
from proxy.plugin import Section

NAME: Final = "keys.json"
VERSION: Final = 1

Row = tuple[VirtualKey, Spent]
"""A key, and what of its spending is to be written down."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Nanos = Annotated[int, Field(ge=0)]


class Unusable(Exception):
    """The keys cannot be read, so that nobody can be let in; the text says why and what mends it."""


class SpentRecord(Section):
    """What a key has spent, in billionths of a US dollar."""

    day: str
    day_nanos: Nanos
    month: str
    month_nanos: Nanos
    total_nanos: Nanos
    last_used: float | None


class EarlierRecord(Section):
    """The key before the last rotation."""

    digest: Digest
    until: float


class KeyRecord(Section):
    """A key as it stands in the file; times are seconds since 1970."""

    id: str
    digest: Digest
    created: float
    rotated: float | None
    earlier: EarlierRecord | None
    settings: KeySettings
    spent: SpentRecord


class Content(Section):
    """The whole file."""

    version: int
    keys: tuple[KeyRecord, ...]


def read(folder: Path) -> list[VirtualKey]:
    """Read the keys; none where there is no file.

    Raises:
        Unusable: there is one, and it cannot be used; a damaged one was set aside.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        damaged = sorted(each.name for each in folder.glob(f"{NAME}.corrupt-*"))
        if damaged:  # since when, this process does not know: what they held must not be forgotten by a restart
            raise Unusable(_how_to_mend(folder, damaged[-1])) from None
        return []
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unusable(f"{path} cannot be read: {reason}; mend that, then switch the plugin off and on") from error
    try:
        document = unseal(data)
        if document.get("version") == VERSION:
            return [_key_of(record) for record in Content.model_validate(document).keys]
    except ValueError:  # pydantic's is one, too
        _set_aside(folder, path)
    raise Unusable(f"{path} was written by another version of this program, {document.get('version')!r}")


def encode(rows: Iterable[Row]) -> bytes:
    """Write the content of the file; to be called in a thread where there are many keys."""
    return seal({"version": VERSION, "keys": [_record_of(key, spent) for key, spent in rows]})


def write(folder: Path, data: bytes) -> None:
    """Put the file in place in one step, and through to the disk; mode 0600. Raises OSError."""
    replace_file(folder / NAME, data)
    flush_folder(folder)


def _set_aside(folder: Path, path: Path) -> NoReturn:
    try:
        name = set_aside(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unusable(f"{path} is damaged and cannot be set aside: {reason}") from error
    raise Unusable(_how_to_mend(folder, name))


def _how_to_mend(folder: Path, damaged: str) -> str:
    return (
        f"{NAME} in {folder} was damaged and is set aside as {damaged}: put a sound copy in its place, or remove "
        f"{damaged} to begin without keys; then switch the plugin off and on, or restart"
    )


def _key_of(record: KeyRecord) -> VirtualKey:
    earlier, spent = record.earlier, record.spent
    return VirtualKey(
        record.id,
        bytes.fromhex(record.digest),
        record.settings,
        record.created,
        record.rotated,
        None if earlier is None else Earlier(bytes.fromhex(earlier.digest), earlier.until),
        Account(Spent(spent.day, spent.day_nanos, spent.month, spent.month_nanos, spent.total_nanos, spent.last_used)),
    )


def _record_of(key: VirtualKey, spent: Spent) -> dict[str, object]:
    earlier = key.earlier
    return {
        "id": key.id,
        "digest": key.digest.hex(),
        "created": key.created_s,
        "rotated": key.rotated_s,
        "earlier": None if earlier is None else {"digest": earlier.digest.hex(), "until": earlier.until_s},
        "settings": key.document,
        "spent": {
            "day": spent.day,
            "dayNanos": spent.day_nanos,
            "month": spent.month,
            "monthNanos": spent.month_nanos,
            "totalNanos": spent.total_nanos,
            "lastUsed": spent.last_used_s,
        },
    }
