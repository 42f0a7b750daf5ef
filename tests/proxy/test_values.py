"""Durations and sizes are read as people write them, and refused in plain words otherwise."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.values import format_duration, format_size, parse_duration, parse_size, parse_timeout, timestamp


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (60, 60),
        (1.5, 1.5),
        ("60", 60),
        ("250ms", 0.25),
        ("60s", 60),
        (" 5m ", 300),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d", 86400),
        ("2w", 1209600),
    ],
)
def test_duration_is_read(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1,
        "-1",
        "",
        "s",
        "5x",
        "5 s",
        "1h 30m",
        "nan",
        "inf",
        float("inf"),
        "1e999",
        "1_0",
        "infinity",
        "1" * 400,
        "1" * 400 + "s",
        "1" * 1_000_000 + "x",
        10**400,
        [],
        {},
        "५s",
    ],
)
def test_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(value)


@pytest.mark.parametrize(("value", "seconds"), [("none", None), ("NONE", None), (None, None), ("5s", 5), (0.1, 0.1)])
def test_timeout_may_be_none(value: object, seconds: float | None) -> None:
    assert parse_timeout(value) == seconds


def test_timeout_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match='write "none" for no limit'):
        parse_timeout(0)


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (5, 5), ("5", 5), ("5B", 5), ("2KB", 2048), ("64MB", 64 << 20), ("1.5 MiB", 3 << 19), ("1gb", 1 << 30)],
)
def test_size_is_read_in_powers_of_1024(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", [None, True, -1, 1.5, "", "5X", "MB", "-1", "1e3", "9" * 400, "9" * 400 + "MB", [], "²", "٣"]
)
def test_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a size is"):
        parse_size(value)


@given(st.one_of(st.text(max_size=20), st.text("0123456789.smhdwKMGiB ", max_size=12)))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_timeout):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert value is None or 0 <= value < float("inf")


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (1023, "1023B"), (1024, "1.0KB"), (8.5 * (1 << 20), "8.5MB"), (3 << 30, "3.0GB")]
)
def test_size_is_shown(size: float, shown: str) -> None:
    assert format_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (45.9, "45s"), (125, "2m 5s"), (9000, "2h 30m"), (3 * 86400 + 14400, "3d 4h")]
)
def test_duration_is_shown(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_time_is_written_in_utc_as_exact_as_it_is_asked_for() -> None:
    written = timestamp(1769868000.1254), timestamp(1769868000.1254, is_exact=True)

    assert written == ("2026-01-31T14:00:00Z", "2026-01-31T14:00:00.125Z")


@given(st.integers(0, 253_402_300_799_000))
def test_exact_time_is_read_back_to_the_millisecond(time_ms: int) -> None:
    written = timestamp(time_ms / 1000, is_exact=True)

    assert (datetime.fromisoformat(written) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == time_ms
