"""The same news once in a while, and nothing of it lost count of."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.events import MOST_SUBJECTS, Seldom


def test_same_news_is_told_once_in_a_while_with_the_number_kept_back() -> None:
    seldom = Seldom(1.0)

    assert [seldom.admit("a", now_s) for now_s in (5.0, 5.0, 5.99, 6.0, 6.5, 7.5, 9.0)] == [
        0,
        None,
        None,
        2,
        None,
        1,
        0,
    ]


def test_each_subject_has_its_own_turn() -> None:
    seldom = Seldom(1.0)

    assert [seldom.admit(name, 5.0) for name in "abab"] == [0, 0, None, None]
    assert (seldom.admit("b", 6.0), seldom.told_since(5.5)) == (1, ["b"])


def test_subjects_are_bounded_and_the_one_told_longest_ago_goes() -> None:
    seldom = Seldom(1.0)
    for number in range(MOST_SUBJECTS):
        seldom.admit(number, 5.0)
    seldom.admit(0, 6.0)

    seldom.admit("new", 6.0)

    assert len(seldom.told_since(0.0)) == MOST_SUBJECTS
    assert (seldom.admit(0, 6.0), seldom.admit(1, 6.0)) == (None, 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3))))
def test_all_are_told_or_counted(moves: list[tuple[str, float]]) -> None:
    seldom, now_s = Seldom(1.0), 0.0
    asked: Counter[str] = Counter()
    accounted: Counter[str] = Counter()

    for name, pause_s in moves:
        now_s += pause_s
        asked[name] += 1
        kept_back = seldom.admit(name, now_s)
        accounted[name] += 0 if kept_back is None else kept_back + 1
    for name in asked:
        kept_back = seldom.admit(name, now_s + 10)
        accounted[name] += kept_back or 0

    assert accounted == asked
