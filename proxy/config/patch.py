"""Changes of a document as JSON Merge Patch, and an overlay of live changes that follows its file; pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.config.shape import KeyPath

Json = dict[str, Any]  # Any: JSON of whatever shape; no document holds null, only a patch does


@dataclass(frozen=True, slots=True)
class Change:
    """One place in which two documents differ; None where one of them has nothing there."""

    path: KeyPath
    old: object
    new: object


def merge(document: object, patch: object) -> Any:  # Any: JSON, a mapping if the patch is one
    """Apply a merge patch: mappings are merged, anything else replaces, null deletes.

    Neither argument is changed; the result shares with them what it did not have to change.

    Source:
        RFC 7396, section 2.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Json:
    """Find the smallest merge patch that makes the one document of the other: `merge(old, it) == new`."""
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := difference(before, value):
                patch[key] = inner
        elif not is_same(before, value):
            patch[key] = value
    return patch


def is_same(one: object, other: object) -> bool:
    """Compare as JSON does: 1 and true are two values, 1 and 1.0 are one."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def changes(old: Mapping[str, Any], new: Mapping[str, Any], path: KeyPath = ()) -> Iterator[Change]:
    """List where two documents differ, in the order of the new one; what is gone comes last.

    A list counts as one value; so does a mapping that only one of them has.
    """
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            yield from changes(before, value, (*path, key))
        elif not is_same(before, value):
            yield Change((*path, key), before, value)
    for key, before in old.items():
        if key not in new:
            yield Change((*path, key), before, None)


def give_way(overlay: Mapping[str, Any], edit: Mapping[str, Any]) -> Json:
    """Take out of an overlay every key that an edit of the file below it has changed: the newest change wins.

    Args:
        overlay: live changes over the file, as a merge patch.
        edit: what became of the file, as a merge patch from its old to its new content.
    Returns:
        What is left of the overlay. Where it replaced or deleted as a whole what the edit changed a part of, the
        file's new whole stands; where the edit did so, nothing of the overlay below it is left.
    """
    left: Json = {}
    for key, value in overlay.items():
        if key not in edit:
            left[key] = value
        elif isinstance(value, Mapping) and isinstance(edit[key], Mapping) and (inner := give_way(value, edit[key])):
            left[key] = inner
    return left


def inverse(patch: Mapping[str, Any], document: Mapping[str, Any]) -> Json:
    """Make the merge patch that takes a merge patch back: where that one writes, it writes what a document has."""
    back: Json = {}
    for key, value in patch.items():
        before = document.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            back[key] = inverse(value, before)
        else:
            back[key] = before
    return back


def leaves(patch: Mapping[str, Any], path: KeyPath = ()) -> Iterator[KeyPath]:
    """List the places that a merge patch writes."""
    for key, value in patch.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def at_places(places: Iterable[KeyPath]) -> Json:
    """Make a merge patch that takes away what is at some places."""
    patch: Json = {}
    for path in places:
        patch = both(patch, _nested([str(key) for key in path])) if path else patch
    return patch


def both(one: Mapping[str, Any], other: Mapping[str, Any]) -> Json:
    """Join two merge patches; where both write, the other counts."""
    joined: Json = dict(one)
    for key, value in other.items():
        before = joined.get(key)
        joined[key] = both(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return joined


def _nested(path: list[str]) -> Json:
    return {path[0]: _nested(path[1:]) if path[1:] else None}
