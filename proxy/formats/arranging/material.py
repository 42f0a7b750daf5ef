"""Reading and writing recorded replies exactly: JSON without rounding, streams without a stray byte."""

import json
import math
import re
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn

import orjson

from proxy.exchange import JsonObject
from proxy.formats.arranging.base import Unarrangeable
from proxy.formats.fields import Json, kind_of
from proxy.formats.sse import BOM, EventSplitter, parse_event, write_event

PIECE_CHARS: Final = 1024
"""Longest text of one event written here: clients that read by lines have limits from 64 KiB up."""
DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
LONG_NUMBER: Final = b"0" * 19
"""Where this is after all digits are made 0, whole numbers of more than 64 bits may be: orjson would round them.
A regular expression finds them too, in 14 times the time."""
STRAY_LINE: Final = re.compile(rb"[\r\n](?!(?:data|event|id|retry)(?::|[\r\n]|\Z)|[:\r\n]|\Z)")
"""A line that no field of an event begins: readers pass over it, but here it means that the record is damaged."""
DONE: Final = b"[DONE]"


class Event(NamedTuple):
    """One event of a stream."""

    name: str | None
    document: JsonObject


class Recorded(NamedTuple):
    """The events of a stream, and whether `[DONE]` ended it."""

    events: list[Event]
    is_done: bool


def load(data: bytes | str) -> Json:
    """Parse JSON with every whole number as it stands. Raises Unarrangeable."""
    try:
        data = data if isinstance(data, bytes) else data.encode()
        if LONG_NUMBER in data.translate(DIGITS):
            return json.loads(data.decode(), parse_constant=_refuse, parse_float=_finite)
        return orjson.loads(data)
    except (ValueError, RecursionError):
        raise Unarrangeable("no JSON") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def load_object(data: bytes | str) -> JsonObject:
    """Parse a JSON object. Raises Unarrangeable."""
    return object_in(load(data))


def dump_exactly(document: Json) -> bytes:
    """Write JSON, whole numbers of any size as they stand. Raises Unarrangeable for what no JSON can hold."""
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        pass  # too deep or too large for it
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        raise Unarrangeable("cannot be written as JSON") from None


def read_events(body: bytes) -> Recorded:
    """Read the events of a whole stream; comments and events without data are passed over.

    Raises:
        Unarrangeable: a line is no field of an event, data is no JSON object, or something follows `[DONE]`.
    """
    body = body.removeprefix(BOM)
    if STRAY_LINE.search(b"\n" + body):
        raise Unarrangeable("a line that belongs to no event")
    splitter = EventSplitter(len(body))
    events: list[Event] = []
    is_done = False
    for block in (*splitter.feed(body), splitter.rest()):
        name, data = parse_event(block)
        if not data.strip():
            continue
        if is_done:
            raise Unarrangeable("an event after the end")
        is_done = data.strip() == DONE
        if not is_done:
            events.append(Event(name, load_object(data)))
    return Recorded(events, is_done)


def object_in(value: Json) -> JsonObject:
    """Return a value that must be an object. Raises Unarrangeable."""
    if isinstance(value, dict):
        return value
    raise Unarrangeable(f"an object is needed, got {kind_of(value)}")


def objects_in(value: Json) -> list[JsonObject]:
    """Return a value that must be a list of objects. Raises Unarrangeable."""
    return [object_in(item) for item in list_in(value)]


def list_in(value: Json) -> list[Json]:
    """Return a value that must be a list. Raises Unarrangeable."""
    if isinstance(value, list):
        return value
    raise Unarrangeable(f"a list is needed, got {kind_of(value)}")


def text_in(value: Json) -> str:
    """Return a value that must be a string. Raises Unarrangeable."""
    if isinstance(value, str):
        return value
    raise Unarrangeable(f"a string is needed, got {kind_of(value)}")


def number_in(value: Json) -> int:
    """Return a value that must be a whole number from 0 up. Raises Unarrangeable."""
    if value.__class__ is int and value >= 0:
        return int(value)
    raise Unarrangeable(f"a whole number is needed, got {kind_of(value)}")


def agree(known: JsonObject, key: str, value: Json) -> None:
    """Take in a field that any event may repeat, null saying nothing. Raises Unarrangeable if two say different."""
    if known.get(key) is None:
        known[key] = value
    elif value is not None and known[key] != value:
        raise Unarrangeable(f"{key} is not the same in all events")


def take_once(known: JsonObject, key: str, value: Json) -> None:
    """Take in a field that nobody here can put together: one event may hold it. Raises Unarrangeable at the second."""
    if known.get(key) is None:
        known[key] = value
    elif value is not None:
        raise Unarrangeable(f"{key} comes in pieces")


def extend(known: dict[str, list[Json]], key: str, value: Json) -> None:
    """Take in a further piece of a field that is put together at the end."""
    known.setdefault(key, []).append(value)


def joined(pieces: list[Json]) -> str | None:
    """Join pieces of text, null for none; null if all are. Raises Unarrangeable if one is no text."""
    texts = [text_in(piece) for piece in pieces if piece is not None]
    return "".join(texts) if texts else None


def chained(pieces: list[Json]) -> list[Json] | None:
    """Join pieces of a list, null for none; null if all are. Raises Unarrangeable if one is no list."""
    lists = [list_in(piece) for piece in pieces if piece is not None]
    return [item for items in lists for item in items] if lists else None


def pieces_of(text: str) -> list[str]:
    """Cut a text into pieces of a size for one event; none for an empty one."""
    return [text[begin:end] for begin, end in pairwise([*range(0, len(text), PIECE_CHARS), len(text)])]


def write_document(document: JsonObject, name: str | None = None) -> bytes:
    """Write one event."""
    return write_event(dump_exactly(document), name)
