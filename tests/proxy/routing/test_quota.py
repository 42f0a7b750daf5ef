"""What the head of a response says about limits."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.routing.quota import MOST_WAIT_S, Quota, read_quota, retry_after_s, should_retry

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
WALL_S = NOW.timestamp()
PLAIN = [b"content-type: application/json", b"x-request-id: req_1", b"x-ratelimiter: on", b"server: cloudflare"]
NAMES = [
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
    b"anthropic-ratelimit-tokens-remaining",
    b"anthropic-ratelimit-tokens-reset",
    b"anthropic-ratelimit-requests-reset",
    b"retry-after",
    b"Retry-After-Ms",
    b"x-should-retry",
]
HINTS = [b"0", b"12ms", b"6m0s", b"2026-03-01T12:00:00Z", b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00"]
HINTS += [b"Sun, 01 Mar 2026 12:00:30 GMT", b"nan", b"inf", b"1e999", b"true", b"9" * 400, b"1_0s", b"s", b".s", b"ms"]
header_lines = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.builds(lambda name, value: name + b": " + value, st.sampled_from(NAMES), st.binary(max_size=40)),
        st.builds(lambda name, value: name + b":" + value, st.sampled_from(NAMES), st.sampled_from(HINTS)),
        st.builds(
            lambda name, value: name + b": " + value.encode("ascii"),
            st.sampled_from(NAMES),
            st.text("0123456789.,:-+TZGMT hmsSunMar", max_size=40),
        ),
    ),
    max_size=12,
)


# -- quota ----------------------------------------------------------------------------------------------------------


def test_head_without_rate_limits_says_nothing() -> None:
    assert read_quota(PLAIN, WALL_S) is None
    assert read_quota([], WALL_S) is None


def test_quota_of_openai_is_read() -> None:
    lines = [
        *PLAIN,
        b"x-ratelimit-limit-requests: 10000",
        b"x-ratelimit-limit-tokens: 200000",
        b"X-RateLimit-Remaining-Requests:9999 ",
        b"x-ratelimit-remaining-tokens: 199980",
        b"x-ratelimit-reset-requests: 8.64s",
        b"x-ratelimit-reset-tokens: 6ms",
    ]

    assert read_quota(lines, WALL_S) == Quota(9999, 199980, 8.64, 0.006)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"12ms", 0.012),
        (b"1s", 1.0),
        (b"6m0s", 360.0),
        (b"1h2m3.5s", 3723.5),
        (b"0s", 0.0),
        (b"7", 7.0),
        (b"400h0m0s", MOST_WAIT_S),
        (b"999999999s", MOST_WAIT_S),
        (b"soon", None),
        (b"-1s", None),
        (b"", None),
        (b"1_0s", None),
        (b"nans", None),
    ],
)
def test_duration_is_read_as_go_writes_it(text: bytes, seconds: float | None) -> None:
    lines = [b"x-ratelimit-remaining-requests: 0", b"x-ratelimit-reset-requests: " + text]

    assert read_quota(lines, WALL_S) == Quota(0, None, seconds, None)


def test_quota_of_anthropic_is_that_of_the_scarcest_tokens() -> None:
    lines = [
        *PLAIN,
        b"anthropic-ratelimit-requests-limit: 50",
        b"anthropic-ratelimit-requests-remaining: 49",
        b"anthropic-ratelimit-requests-reset: 2026-03-01T12:00:02Z",
        b"anthropic-ratelimit-tokens-remaining: 40000",
        b"anthropic-ratelimit-tokens-reset: 2026-03-01T12:00:05Z",
        b"Anthropic-Ratelimit-Input-Tokens-Remaining: 30000",
        b"Anthropic-Ratelimit-Input-Tokens-Reset: 2026-03-01T13:00:10+01:00",
        b"anthropic-ratelimit-output-tokens-remaining: 35000",
        b"anthropic-ratelimit-output-tokens-reset: 2026-03-01T12:00:20Z",
    ]

    assert read_quota(lines, WALL_S) == Quota(49, 30000, 2.0, 10.0)


@pytest.mark.parametrize(("first", "second"), [(b"50", b"20"), (b"20", b"50")])
def test_of_two_kinds_that_are_used_up_the_later_reset_counts(first: bytes, second: bytes) -> None:
    lines = [
        b"anthropic-ratelimit-input-tokens-remaining: 0",
        b"anthropic-ratelimit-input-tokens-reset: 2026-03-01T12:00:%bZ" % first,
        b"anthropic-ratelimit-output-tokens-remaining: 0",
        b"anthropic-ratelimit-output-tokens-reset: 2026-03-01T12:00:%bZ" % second,
    ]

    assert read_quota(lines, WALL_S) == Quota(None, 0, None, 50.0)


def test_reset_in_the_past_is_now_and_one_far_away_a_day() -> None:
    past = [b"anthropic-ratelimit-requests-remaining: 1", b"anthropic-ratelimit-requests-reset: 2020-01-01T00:00:00Z"]
    future = [b"anthropic-ratelimit-requests-remaining: 1", b"anthropic-ratelimit-requests-reset: 2099-01-01T00:00:00Z"]

    assert read_quota(past, WALL_S) == Quota(1, None, 0.0, None)
    assert read_quota(future, WALL_S) == Quota(1, None, MOST_WAIT_S, None)


@pytest.mark.parametrize("value", [b"", b"-1", b"12.5", b"many", b"9" * 19])
def test_remainder_that_is_no_count_is_not_known(value: bytes) -> None:
    assert read_quota([b"x-ratelimit-remaining-tokens: " + value], WALL_S) is None


# -- when to come back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"30", 30.0),
        (b"1.5", 1.5),
        (b"999999999", MOST_WAIT_S),
        (b"-5", None),
        (b"nan", None),
        (b"inf", None),
        (b"1e5", None),
        (b"later", None),
        (b"", None),
        (b"Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        (b"Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        (b"Sun Mar  1 12:00:30 2026", 30.0),
        (b"Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (b"Fri, 01 Jan 2100 00:00:00 GMT", MOST_WAIT_S),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    assert retry_after_s([*PLAIN, b"Retry-After: " + value], WALL_S) == seconds


def test_milliseconds_go_before_seconds_unless_they_are_rubbish() -> None:
    both = [b"retry-after: 2", b"Retry-After-Ms: 1250.5"]

    assert retry_after_s(both, WALL_S) == 1.2505
    assert retry_after_s([b"retry-after: 2", b"retry-after-ms: soon"], WALL_S) == 2.0
    assert retry_after_s([b"retry-after-ms: 250"], WALL_S) == 0.25
    assert retry_after_s(PLAIN, WALL_S) is None


@given(st.integers(0, 86_000), st.integers(-14 * 60, 14 * 60))
def test_dates_of_every_zone_are_understood(later_s: int, zone_minutes: int) -> None:
    there = (NOW + timedelta(seconds=later_s)).astimezone(timezone(timedelta(minutes=zone_minutes)))
    quota = [b"anthropic-ratelimit-requests-remaining: 3"]
    quota.append(b"anthropic-ratelimit-requests-reset: " + there.isoformat().encode())

    assert retry_after_s([b"retry-after: " + format_datetime(there).encode()], WALL_S) == later_s
    assert read_quota(quota, WALL_S) == Quota(3, None, later_s, None)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([b"X-Should-Retry: true"], True),
        ([b"x-should-retry: False"], False),
        ([b"x-should-retry: perhaps"], None),
        (PLAIN, None),
    ],
)
def test_provider_may_say_whether_to_retry(lines: list[bytes], says: bool | None) -> None:
    assert should_retry(lines) is says


# -- rubbish --------------------------------------------------------------------------------------------------------


@given(header_lines, st.floats(0.0, 4e9))
@example([b"anthropic-ratelimit-requests-remaining: 1", b"anthropic-ratelimit-requests-reset: " + HINTS[4]], 0.0)
@example([b"retry-after: Sun, 01 Mar 0000 12:00:30 GMT"], 0.0)
@example([b"retry-after: 0 0 0 0 0"], 0.0)
@example([b"retry-after: Mon, 1 Jan 9999 00:00:00 -9999"], 0.0)
def test_rubbish_raises_nothing_and_gives_nothing_absurd(lines: list[bytes], wall_s: float) -> None:
    quota, wait_s, says = read_quota(lines, wall_s), retry_after_s(lines, wall_s), should_retry(lines)

    assert says in (True, False, None)
    assert wait_s is None or 0.0 <= wait_s <= MOST_WAIT_S
    if quota is not None:
        assert any(left is not None for left in quota[:2])
        assert all(left is None or left >= 0 for left in quota[:2])
        assert all(reset_s is None or 0.0 <= reset_s <= MOST_WAIT_S for reset_s in quota[2:])
