"""Merge patches by the cases of their RFC and by their laws, and an overlay that gives way to its file."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.patch import Change, changes, difference, give_way, is_same, merge

KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.sampled_from([0, 1, True, False, "x", "", 1.5, [], [1], [1, 2], [{"a": 1}]])
DOCUMENTS = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=3),
    lambda inner: st.dictionaries(KEYS, LEAVES | inner, max_size=3),
    max_leaves=8,
)
PATCHES = st.recursive(
    st.dictionaries(KEYS, LEAVES | st.none(), max_size=3),
    lambda inner: st.dictionaries(KEYS, LEAVES | st.none() | inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("document", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_cases_of_the_rfc(document: Any, patch: Any, merged: Any) -> None:
    assert merge(document, patch) == merged


@given(DOCUMENTS, PATCHES)
def test_merging_changes_neither_side_and_twice_is_once(document: Any, patch: Any) -> None:
    before = repr((document, patch))

    merged = merge(document, patch)

    assert repr((document, patch)) == before
    assert is_same(merge(merged, patch), merged)


@given(DOCUMENTS, DOCUMENTS)
def test_difference_leads_from_one_document_to_the_other(old: Any, new: Any) -> None:
    patch = difference(old, new)

    assert is_same(merge(old, patch), new)
    assert bool(patch) is not is_same(old, new)


@given(DOCUMENTS, DOCUMENTS)
def test_changes_are_listed_exactly_where_documents_differ(old: Any, new: Any) -> None:
    found = list(changes(old, new))

    assert bool(found) is not is_same(old, new)
    assert len({change.path for change in found}) == len(found)
    for change in found:
        assert is_same(at(old, change.path), change.old)
        assert is_same(at(new, change.path), change.new)
        assert not is_same(change.old, change.new)


def test_changes_are_told_in_the_order_of_the_new_document() -> None:
    old = {"x": 1, "y": {"z": 1, "w": True}, "gone": {"a": 1}}
    new = {"added": [1], "y": {"z": 2, "w": 1}, "x": 1}

    assert list(changes(old, new)) == [
        Change(("added",), None, [1]),
        Change(("y", "z"), 1, 2),
        Change(("y", "w"), True, 1),
        Change(("gone",), {"a": 1}, None),
    ]


@pytest.mark.parametrize(
    ("overlay", "edit", "left"),
    [
        ({"a": 1, "b": 2}, {"a": 5}, {"b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 5}}, {"a": {"y": 2}}),
        ({"a": {"x": 1}}, {"a": {"x": 5}}, {}),
        ({"a": {"x": 1}}, {"a": None}, {}),
        ({"a": {"x": 1}}, {"a": [1]}, {}),
        ({"a": None}, {"a": {"x": 1}}, {}),
        ({"a": [1]}, {"a": {"x": 1}}, {}),
        ({"a": {"x": {"deep": 1}}}, {"a": {"y": 1}}, {"a": {"x": {"deep": 1}}}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_overlay_gives_way_where_the_file_was_edited(overlay: Any, edit: Any, left: Any) -> None:
    assert give_way(overlay, edit) == left


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_after_an_edit_each_value_is_the_files_where_it_changed_and_the_live_one_elsewhere(
    old_file: Any, new_file: Any, live: Any
) -> None:
    overlay = difference(old_file, live)
    edit = difference(old_file, new_file)

    now = merge(new_file, give_way(overlay, edit))

    for change in changes(old_file, new_file):
        if not isinstance(change.new, dict) and not isinstance(change.old, dict):
            assert is_same(at(now, change.path), change.new)
    for change in changes(old_file, live):
        if not touches(edit, change.path):
            assert is_same(at(now, change.path), change.new)


def at(document: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path, None where there is none."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def touches(patch: Any, path: tuple[Any, ...]) -> bool:
    """Whether a merge patch changes a path, something above it or something below it."""
    for key in path:
        if not isinstance(patch, dict):
            return True
        if key not in patch:
            return False
        patch = patch[key]
    return True
