"""Entries as bytes for the second store: one line of JSON, the raw parts, a checksum."""

from typing import Final
from zlib import crc32

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plugins.cache.entry import Entry

VERSION: Final = 1
"""Of the layout; another one is as good as no entry, so that programs of two versions may share a store."""

CHECKSUM_BYTES: Final = 4

MOST_LINE_BYTES: Final = 65_536
"""A longer first line is not parsed; ours are below 1 KB unless a client made up a model name."""


class Line(BaseModel):
    """The first line: what an entry says of itself, and how long its raw parts are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    v: int = Field(ge=VERSION, le=VERSION)
    key: str
    partition: str
    format: str
    operation: str
    model: str | None
    status: int = Field(ge=200, le=299)
    shape: str
    stored_s: float = Field(ge=0)
    ttl_s: float = Field(ge=0)
    served_model: str | None
    input_tokens: int | None = Field(ge=0)
    output_tokens: int | None = Field(ge=0)
    cost_usd: float | None = Field(ge=0)
    latency_s: float = Field(ge=0)
    head_bytes: int = Field(ge=0)
    pace_bytes: int = Field(ge=0, multiple_of=8)


def encode(entry: Entry) -> bytes | None:
    """Write an entry; None if it holds what JSON cannot say, an integer of more than 64 bits for one."""
    line = {
        **{name: getattr(entry, name) for name in NAMES_AS_THEY_ARE},
        "v": VERSION,
        "key": entry.key.hex(),
        "head_bytes": len(entry.head),
        "pace_bytes": len(entry.pace),
    }
    try:
        content = b"".join((orjson.dumps(line), b"\n", entry.head, entry.pace, entry.body))
    except orjson.JSONEncodeError:
        return None
    return content + crc32(content).to_bytes(CHECKSUM_BYTES)


def decode(data: bytes, key: bytes) -> Entry | None:
    """Read an entry that was found under a key.

    Returns:
        None for what is damaged, of another version, or the entry of another key; whatever the bytes, it raises
        nothing, and the head of what it returns holds whole header lines only.
    """
    content = data[:-CHECKSUM_BYTES]
    if crc32(content).to_bytes(CHECKSUM_BYTES) != data[-CHECKSUM_BYTES:]:
        return None
    line, end = line_of(content), content.find(b"\n")
    if line is None:
        return None
    head_end = end + 1 + line.head_bytes
    body_begin = head_end + line.pace_bytes
    head = content[end + 1 : head_end]
    if line.key != key.hex() or body_begin > len(content) or not _are_header_lines(head):
        return None
    return Entry(
        key=key,
        head=head,
        pace=content[head_end:body_begin],
        body=content[body_begin:],
        **line.model_dump(include=set(NAMES_AS_THEY_ARE)),
    )


def line_of(beginning: bytes) -> Line | None:
    """Read what an entry says of itself, from its first bytes; None where they hold no whole first line of ours.

    Nothing tells here that the rest is whole: `decode` does.
    """
    end = beginning.find(b"\n", 0, MOST_LINE_BYTES)
    try:
        return Line.model_validate(orjson.loads(beginning[: max(end, 0)]))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def _are_header_lines(head: bytes) -> bool:
    """Tell whether it is nothing that would end the head of an answer early, or begin another."""
    if not head:
        return True
    lines = head.count(b"\r\n")
    is_clean = head.count(b"\r") == lines == head.count(b"\n") and b"\0" not in head
    return is_clean and head.endswith(b"\r\n") and b"\r\n\r\n" not in head and not head.startswith(b"\r\n")


NAMES_AS_THEY_ARE: Final = tuple(name for name in Line.model_fields if name in Entry.__slots__ and name != "key")
"""What stands in the line as in the entry."""
