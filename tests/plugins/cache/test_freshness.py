"""Which kept answer a request gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.freshness import (
    EXPIRED,
    EXPIRED_IN_RESERVE,
    HIT,
    NO_CACHE,
    NOT_FRESH_ENOUGH,
    STALE_ALLOWED,
    STALE_MEANWHILE,
    TOO_OLD,
    Verdict,
    Windows,
    age_s,
    judge,
)
from plugins.cache.wishes import Wishes, read_wishes

NO_WINDOWS = Windows()
BOTH = Windows(revalidate_s=30.0, error_s=300.0)


def judge_at(age: float, control: bytes = b"", windows: Windows = NO_WINDOWS, ttl_s: float = 60.0) -> Verdict:
    wishes = read_wishes({b"cache-control": control} if control else {})
    return judge(1000.0, ttl_s, 1000.0 + age, windows, wishes)


@pytest.mark.parametrize(("age", "verdict"), [(0, HIT), (59.9, HIT), (60, EXPIRED), (1e9, EXPIRED), (-5, HIT)])
def test_entry_is_fresh_while_its_ttl_is_above_its_age(age: float, verdict: Verdict) -> None:
    assert judge_at(age) == verdict


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(59, HIT), (60, STALE_MEANWHILE), (89.9, STALE_MEANWHILE), (90, EXPIRED_IN_RESERVE), (360, EXPIRED)],
)
def test_expired_entry_is_served_within_its_windows(age: float, verdict: Verdict) -> None:
    assert judge_at(age, windows=BOTH) == verdict


def test_window_for_errors_may_be_the_shorter_one() -> None:
    windows = Windows(revalidate_s=30.0, error_s=10.0)

    assert judge_at(85, windows=windows) == STALE_MEANWHILE
    assert judge_at(95, windows=windows) == EXPIRED
    assert windows.grace_s == 30.0


@pytest.mark.parametrize(
    ("control", "age", "verdict"),
    [
        (b"no-cache", 1, NO_CACHE),
        (b"no-cache, max-stale", 1, NO_CACHE),
        (b"no-store", 1, HIT),
        (b"no-store", 70, STALE_MEANWHILE),
        (b"only-if-cached", 1, HIT),
        (b"max-age=10", 10, HIT),
        (b"max-age=10", 10.1, TOO_OLD),
        (b"max-age=0", 0, HIT),
        (b"max-age=0", 0.1, TOO_OLD),
        (b"max-age=1000", 70, EXPIRED),
        (b"max-age=1000, max-stale=20", 70, STALE_ALLOWED),
        (b"max-age=65, max-stale=20", 70, TOO_OLD),
        (b"min-fresh=20", 40, HIT),
        (b"min-fresh=20", 40.1, NOT_FRESH_ENOUGH),
        (b"min-fresh=0", 60, EXPIRED),
        (b"min-fresh=100", 0, NOT_FRESH_ENOUGH),
        (b"max-stale=20", 59, HIT),
        (b"max-stale=20", 80, STALE_ALLOWED),
        (b"max-stale=20", 80.1, EXPIRED),
        (b"max-stale=0", 60, STALE_ALLOWED),
        (b"max-stale=0", 70, EXPIRED),
        (b"max-stale", 1e9, STALE_ALLOWED),
    ],
)
def test_client_may_ask_for_less_or_allow_more(control: bytes, age: float, verdict: Verdict) -> None:
    assert judge_at(age, control, BOTH) == verdict


def test_age_is_never_negative() -> None:
    assert age_s(1000.0, 1012.5) == 12.5
    assert age_s(1000.0, 900.0) == 0.0


AMOUNTS = st.floats(0, 1e6)
WISHES = st.builds(
    Wishes,
    no_cache=st.booleans(),
    no_store=st.booleans(),
    max_age_s=st.none() | AMOUNTS,
    min_fresh_s=st.none() | AMOUNTS,
    max_stale_s=st.none() | AMOUNTS,
)


@given(AMOUNTS, AMOUNTS, WISHES, st.builds(Windows, AMOUNTS, AMOUNTS))
def test_no_answer_is_older_than_anybody_allows(age: float, ttl_s: float, wishes: Wishes, windows: Windows) -> None:
    verdict = judge(0.0, ttl_s, age, windows, wishes)

    if verdict.outcome == "hit":
        assert age < ttl_s
    if verdict.outcome == "stale":
        allowed = windows.revalidate_s if wishes.max_stale_s is None else wishes.max_stale_s
        assert ttl_s <= age
        assert age - ttl_s <= allowed
    if verdict.outcome in ("hit", "stale"):
        assert not wishes.no_cache
        assert wishes.max_age_s is None or age <= wishes.max_age_s
        assert wishes.min_fresh_s is None or ttl_s - age >= wishes.min_fresh_s
    assert (verdict.outcome == "hit") == (verdict.reason == "")
