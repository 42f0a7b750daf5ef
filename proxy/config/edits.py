"""What an operator can ask to be done to a document: merge, replace, delete, or a JSON Patch; pure."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import orjson
from jsonpatch import JsonPatch, JsonPatchConflict, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointerException

from proxy.config.document import MAX_DEPTH, MAX_FILE_BYTES, MAX_VALUES, dotted
from proxy.config.faults import nearest
from proxy.config.patch import Json, leaves, merge
from proxy.config.shape import KeyPath
from proxy.errors import BodyTooLarge, ConfigError, Fault, MalformedBody, UnknownPath
from proxy.values import printable


@dataclass(frozen=True, slots=True)
class Edit:
    """One thing to be done to a document. Both run in a thread: it may be large.

    Args:
        apply: makes the document that is wanted of the one that is shown; changes neither.
        touches: lists the places that it writes, also where the value stays as it was.
    """

    apply: Callable[[Json], Json]
    touches: Callable[[], Iterable[KeyPath]]


Keys = tuple[str, ...]

MAX_OPERATIONS: Final = 1000


def place(document: Json, path: Keys) -> Any:  # Any: JSON
    """Give what stands at a path. Raises UnknownPath if nothing does, with the nearest key."""
    found: Any = document
    for depth, key in enumerate(path):
        if isinstance(found, list) and key.isascii() and key.isdecimal() and len(key) < 7 and int(key) < len(found):
            found = found[int(key)]
            continue
        if not isinstance(found, dict) or key not in found:
            near = nearest(key, found) if isinstance(found, dict) else None
            hint = f" (did you mean {near}?)" if near else ""
            raise UnknownPath(f"there is no {dotted(path[: depth + 1])} in the configuration{hint}")
        found = found[key]
    return found


def merging(path: Keys, patch: object) -> Edit:
    """Merge a patch (RFC 7396) at a path; null deletes what is there. Raises MalformedBody for no patch."""
    if not path and not isinstance(patch, dict):
        raise MalformedBody("a merge patch of the whole configuration is a JSON object")

    whole: Any = patch
    for key in reversed(path):
        whole = {key: whole}

    def apply(document: Json) -> Json:
        check_size(patch)
        merged: Json = merge(document, whole)
        return merged

    return Edit(apply, lambda: leaves(whole))


def replacing(path: Keys, value: object) -> Edit:
    """Put a value in the place of what is at a path; keys that are null count as not written. Raises MalformedBody."""
    if not path and not isinstance(value, dict):
        raise MalformedBody("a whole configuration is a JSON object")
    if value is None:
        return merging(path, None)

    def apply(document: Json) -> Json:
        check_size(value)
        return _with(document, path, merge({}, value))

    return Edit(apply, lambda: [path])


def deleting(path: Keys) -> Edit:
    """Take away what is at a path, so that its default counts; the edit raises UnknownPath if nothing is there."""

    def delete(document: Json) -> Json:
        place(document, path)
        return gone.apply(document)

    gone = merging(path, None)
    return Edit(delete, gone.touches)


def patching(path: Keys, operations: object) -> Edit:
    """Apply a JSON Patch to what is at a path, all of it or nothing.

    Raises:
        MalformedBody: it is none.
    Source:
        RFC 6902.
    """
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise MalformedBody("a JSON Patch is a list of operations (RFC 6902)")
    if len(operations) > MAX_OPERATIONS:
        raise MalformedBody(f"a JSON Patch has {MAX_OPERATIONS} operations at most, this one has {len(operations)}")

    def apply(document: Json) -> Json:
        check_size(operations)
        found = deepcopy(place(document, path))
        for position, operation in enumerate(operations):
            found = _operate(found, operation, position)
        if not path and not isinstance(found, dict):
            raise MalformedBody("the JSON Patch leaves no JSON object")
        return _with(document, path, merge({}, found))

    def touches() -> Iterable[KeyPath]:
        writing = (one for one in operations if one.get("op") != "test")
        for one in writing:
            for name in ("path", "from") if one.get("op") == "move" else ("path",):
                yield (*path, *_pointed(str(one.get(name, ""))))

    return Edit(apply, touches)


def _operate(document: object, operation: dict[str, Any], position: int) -> object:  # Any: JSON
    try:
        found: object = JsonPatch([operation]).apply(document, in_place=True)
    except (JsonPatchException, JsonPointerException, TypeError, KeyError, ValueError) as error:
        where = str(operation.get("path", ""))
        what = printable(f"{str(operation.get('op'))[:20]} {where[:80]}", 110)
        message = f"operation {position} ({what}) cannot be applied: {_words(error)}"
        raise ConfigError(message, [Fault(dotted(_pointed(where)), message)]) from None
    if operation.get("op") == "copy":  # each may double the document
        check_size(found)
        check_bytes(found)
    return found


def _words(error: Exception) -> str:
    """Say what is wrong; the library's own text repeats values, which may be secret."""
    if isinstance(error, JsonPatchTestFailed):
        return "there is another value"
    if isinstance(error, JsonPatchConflict | JsonPointerException):
        return "the path leads to nothing"
    return "it is no operation of RFC 6902"


def _pointed(pointer: str) -> Keys:
    """Take a JSON pointer apart (RFC 6901)."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def _with(document: Json, path: Keys, value: Any) -> Json:  # Any: JSON
    """Copy a document with a value at a path; mappings on the way are made where they are missing."""
    if not path:
        whole: Json = value
        return whole
    below = document.get(path[0])
    inner = _with(below if isinstance(below, dict) else {}, path[1:], value) if path[1:] else value
    return {**document, path[0]: inner}


def check_size(value: object) -> None:
    """Refuse what no document can be. Raises MalformedBody.

    Bounds: `MAX_DEPTH` levels and `MAX_VALUES` values, as in a file.
    """
    left, level = MAX_VALUES, 0
    values: Sequence[object] = [value]
    while values:
        if level > MAX_DEPTH:
            raise MalformedBody(f"the configuration is nested more than {MAX_DEPTH} levels deep")
        left -= len(values)
        if left < 0:
            raise MalformedBody(f"the configuration has more than {MAX_VALUES:,} values")
        values = [
            inner
            for each in values
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        level += 1


def check_bytes(value: object) -> None:
    """Refuse a document that is too large to be written down. Raises BodyTooLarge."""
    size = len(orjson.dumps(value))
    if size > MAX_FILE_BYTES:
        raise BodyTooLarge(f"the whole configuration would have {size:,} bytes, the limit is {MAX_FILE_BYTES:,}")
