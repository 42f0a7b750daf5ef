"""What is left to be taken back when other changes come between."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.patch import difference, is_same, merge
from proxy.config.revisions import Pending
from proxy.reload.pending import after_change

A = Pending(2, 100.0, {})
B = Pending(3, 200.0, {})

DOCUMENTS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("xy"), inner, max_size=2), max_leaves=4
    ),
    max_size=3,
)


def change(pending: tuple[Pending, ...], old: Any, new: Any, *made: Pending, touched: Any = None) -> Any:
    return after_change(pending, old, new, touched=touched, made=made)


def test_timed_change_takes_back_what_it_changed() -> None:
    pending = change((), {"a": 1, "b": {"x": 1, "y": 2}}, {"a": 1, "b": {"x": 5}, "c": 3}, A)

    assert pending == (replace(A, inverse={"b": {"x": 1, "y": 2}, "c": None}),)


def test_key_that_is_changed_again_stays_as_changed() -> None:
    pending = change((), {"a": 1, "b": 1}, {"a": 2, "b": 2}, A)

    assert change(pending, {"a": 2, "b": 2}, {"a": 3, "b": 2}) == (replace(A, inverse={"b": 1}),)


def test_change_all_of_whose_keys_were_changed_again_is_over() -> None:
    pending = change((), {"a": 1}, {"a": 2}, A)

    assert change(pending, {"a": 2}, {"a": 3}) == ()


def test_timed_change_over_a_timed_change_gives_back_what_was_before_both() -> None:
    pending = change((), {"a": 1}, {"a": 2}, A)

    pending = change(pending, {"a": 2}, {"a": 3}, B)

    assert pending == (replace(B, inverse={"a": 1}),)


def test_value_that_is_written_again_stays() -> None:
    pending = change((), {"a": 1, "b": 1}, {"a": 2, "b": 2}, A)

    assert change(pending, {"a": 2, "b": 2}, {"a": 2, "b": 2}, touched={"a": None}) == (replace(A, inverse={"b": 1}),)


def test_value_that_is_written_again_for_a_time_gives_back_what_was_before_both() -> None:
    pending = change((), {"a": 1}, {"a": 2}, A)

    assert change(pending, {"a": 2}, {"a": 2}, B, touched={"a": None}) == (replace(B, inverse={"a": 1}),)


def test_timed_change_that_changes_nothing_waits_for_nothing() -> None:
    assert change((), {"a": 1}, {"a": 1}, A) == ()


@given(DOCUMENTS, DOCUMENTS)
def test_timed_change_alone_is_taken_back_exactly(old: Any, new: Any) -> None:
    pending = change((), old, new, A)

    back = merge(new, pending[0].inverse) if pending else new

    assert is_same(back, old) or (not pending and is_same(old, new))


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_later_change_is_never_undone_by_an_earlier_ones_end(old: Any, timed: Any, later: Any) -> None:
    pending = change((), old, timed, A)
    pending = change(pending, timed, later)

    after = merge(later, pending[0].inverse) if pending else later

    kept = merge(after, difference(timed, later))
    assert is_same(kept, after)
