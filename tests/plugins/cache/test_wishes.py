"""Headers by which a client says how it wants to be answered from the cache."""

import time
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.wishes import NONE, Wishes, read_wishes


@pytest.mark.parametrize(
    ("control", "wishes"),
    [
        (b"", NONE),
        (b"no-cache", Wishes(no_cache=True)),
        (b"No-Store", Wishes(no_store=True)),
        (b"only-if-cached, max-stale", Wishes(only_if_cached=True, max_stale_s=inf)),
        (b"max-age=0", Wishes(max_age_s=0.0)),
        (b"max-age = 10 ,min-fresh=5,\tmax-stale=7", Wishes(max_age_s=10.0, min_fresh_s=5.0, max_stale_s=7.0)),
        (b'max-age="10"', Wishes(max_age_s=10.0)),
        (b'private, foo="no-store, no-cache", community="UCI"', NONE),
        (b'foo="a\\", no-store", no-cache', Wishes(no_cache=True)),
        (b"no-transform,,, ,no-cache", Wishes(no_cache=True)),
        (b"no-cache=1", Wishes(no_cache=True)),
        (b"xno-store no-cachex", NONE),
    ],
)
def test_control_is_read_as_the_rfc_has_it(control: bytes, wishes: Wishes) -> None:
    assert read_wishes({b"cache-control": control}) == wishes


@pytest.mark.parametrize(
    ("control", "wishes"),
    [
        (b"max-age=5, max-age=3, max-age=9", Wishes(max_age_s=3.0)),
        (b"min-fresh=5, min-fresh=9", Wishes(min_fresh_s=9.0)),
        (b"max-stale=5, max-stale", Wishes(max_stale_s=5.0)),
        (b"max-age", Wishes(max_age_s=0.0)),
        (b"max-age=", Wishes(max_age_s=0.0)),
        (b"max-age=-1", Wishes(max_age_s=0.0)),
        (b"max-age=1.5", Wishes(max_age_s=0.0)),
        (b"max-age=\xc2\xb2", Wishes(max_age_s=0.0)),
        (b"min-fresh=soon", Wishes(min_fresh_s=inf)),
        (b"max-stale=abc", Wishes(max_stale_s=0.0)),
    ],
)
def test_what_is_unclear_counts_as_the_strictest(control: bytes, wishes: Wishes) -> None:
    assert read_wishes({b"cache-control": control}) == wishes


@pytest.mark.parametrize("digits", [b"2147483648", b"99999999999", b"9" * 100_000])
def test_number_that_is_too_large_counts_as_the_largest(digits: bytes) -> None:
    assert read_wishes({b"cache-control": b"max-age=" + digits}).max_age_s == 2.0**31


def test_leading_zeros_make_no_number_large() -> None:
    assert read_wishes({b"cache-control": b"max-age=" + b"0" * 50 + b"7"}).max_age_s == 7.0


@pytest.mark.parametrize(
    ("value", "ttl_s"), [(b"60", 60.0), (b"60s", 60.0), (b" 5m ", 300.0), (b"250ms", 0.25), (b"0", 0.0)]
)
def test_ttl_is_seconds_or_a_duration(value: bytes, ttl_s: float) -> None:
    assert read_wishes({b"x-cache-ttl": value}) == Wishes(ttl_s=ttl_s)


@pytest.mark.parametrize("value", [b"soon", b"-1", b"", b"nan", b"inf", b"\xff", b"9" * 1000])
def test_ttl_that_is_none_is_ignored(value: bytes) -> None:
    assert read_wishes({b"x-cache-ttl": value}) == NONE


def test_salt_and_bypass_are_headers_of_ours() -> None:
    assert read_wishes({b"x-cache-salt": b"user 7"}) == Wishes(salt=b"user 7")
    assert read_wishes({b"x-cache": b" Bypass "}) == Wishes(is_bypass=True)
    assert read_wishes({b"x-cache": b"please"}) == NONE


def test_request_without_such_headers_has_no_wishes_and_makes_no_object() -> None:
    assert read_wishes({b"accept": b"*/*", b"content-type": b"application/json"}) is NONE


HEADERS = st.sampled_from([b"cache-control", b"x-cache", b"x-cache-ttl", b"x-cache-salt"])
PIECES = st.sampled_from(
    [b"max-age", b"max-stale", b"min-fresh", b"no-cache", b"=", b'"', b"\\", b",", b" ", b"1", b"-", b"e", b"\xff"]
)


@given(st.dictionaries(HEADERS, st.binary(max_size=60) | st.lists(PIECES, max_size=15).map(b"".join)))
def test_whatever_headers_say_nothing_raises_and_figures_are_not_negative(fields: dict[bytes, bytes]) -> None:
    wishes = read_wishes(fields)

    for seconds in (wishes.max_age_s, wishes.min_fresh_s, wishes.max_stale_s, wishes.ttl_s):
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize("piece", [b'a="', b"a=", b'"\\', b"=", b"a ", b'a="\\"', b" ="], ids=repr)
def test_long_header_takes_linear_time(piece: bytes) -> None:
    def seconds_for(repeats: int) -> float:
        begun = time.perf_counter()
        read_wishes({b"cache-control": piece * repeats})
        return time.perf_counter() - begun

    assert seconds_for(20_000) < 0.5
