"""A change of algorithm or amount forgets nothing: old and new together never exceed what the new limit allows."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.rate_limit.limit import SECOND_US, Limit
from plugins.rate_limit.meter import Reserved
from plugins.rate_limit.meters import new_meter, resumed
from tests.plugins.rate_limit.meters import Counting
from tests.plugins.rate_limit.reference import take
from tests.plugins.rate_limit.test_meters import ALGORITHMS, BEGIN_US, arrivals

PERIOD_US = 3600 * SECOND_US
WINDOW_US = BEGIN_US - BEGIN_US % PERIOD_US
PAIRS = list(product(ALGORITHMS, ALGORITHMS))


def limit_of(algorithm: str, amount: int = 100, depth: int = 100, period_us: int = PERIOD_US) -> Limit:
    return Limit(algorithm, amount, period_us, depth)  # type: ignore[arg-type]  # one of the literals


def exceeds(limit: Limit, taken: list[tuple[int, int]], now_us: int) -> bool:
    """Whether a request at `now` was one too many by what the new limit promises of any period, or of any window."""
    in_period = sum(amount for time_us, amount in taken if time_us > now_us - limit.period_us)
    in_window = sum(amount for time_us, amount in taken if time_us // limit.period_us == now_us // limit.period_us)
    if limit.algorithm == "fixed-window":
        return in_window > limit.amount
    if limit.algorithm == "sliding-window":
        return in_window > limit.amount or in_period >= 2 * limit.amount
    if limit.algorithm == "sliding-log":
        return in_period > limit.amount
    return in_period > limit.amount + limit.depth


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(pauses=st.lists(st.integers(0, PERIOD_US // 4), min_size=1, max_size=20))
def test_no_part_of_what_was_spent_is_remembered_as_earlier_than_it_was(algorithm: str, pauses: list[int]) -> None:
    meter, taken, now_us = new_meter(limit_of(algorithm)), [], BEGIN_US
    for pause_us in pauses:
        now_us += pause_us
        assert meter.spend(now_us) is not None
        taken.append(now_us)

    remembered = [time_us for time_us, amount in meter.spent(now_us) for _ in range(amount)]
    recent = [time_us for time_us in taken if time_us > now_us - PERIOD_US]

    assert len(remembered) >= len(recent)
    assert all(noted >= true for noted, true in zip(remembered[-len(recent) :], recent, strict=True))
    assert remembered[-1] <= now_us


@pytest.mark.parametrize(("before", "after"), PAIRS)
@settings(max_examples=50)
@given(data=st.data())
def test_switch_admits_nothing_above_the_limit(
    counting: Counting, before: str, after: str, data: st.DataObject
) -> None:
    amounts = st.integers(2, 12)
    meter = counting.new(limit_of(before, data.draw(amounts), data.draw(amounts)))
    taken = []
    for now_us, amount in data.draw(arrivals(PERIOD_US)):
        if take(meter, amount, now_us):
            taken.append((now_us, amount))
    limit = limit_of(after, data.draw(amounts), data.draw(amounts))

    meter = counting.resumed(meter, limit, now_us)

    begin_us = now_us - BEGIN_US
    for later_us, amount in data.draw(arrivals(PERIOD_US)):
        if take(meter, amount, later_us + begin_us):
            taken.append((later_us + begin_us, amount))
            assert not exceeds(limit, taken, later_us + begin_us)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_was_spent_at_once_is_missing_after_the_switch(counting: Counting, before: str, after: str) -> None:
    meter = counting.new(limit_of(before))
    meter.add(40, WINDOW_US + 5)

    meter = counting.resumed(meter, limit_of(after), WINDOW_US + 10)

    assert meter.remaining(WINDOW_US + 10) == 60


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_there_and_back_gains_nothing(counting: Counting, before: str, after: str) -> None:
    meter = counting.new(limit_of(before))
    meter.add(40, WINDOW_US + 5)

    for algorithm in (after, before) * 5:
        meter = counting.resumed(meter, limit_of(algorithm), WINDOW_US + 10)

    assert meter.remaining(WINDOW_US + 10) == 60


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_nobody_waits_longer_than_for_a_period_and_one_more(counting: Counting, before: str, after: str) -> None:
    meter = counting.new(limit_of(before, 10_000, 10_000))
    meter.add(10_000, WINDOW_US + 5)

    meter = counting.resumed(meter, limit_of(after, 10, 10), WINDOW_US + 10)

    most_us = 2 * PERIOD_US if after == "sliding-window" else PERIOD_US + PERIOD_US // 10
    assert 0 < meter.wait_us(1, WINDOW_US + 10) <= most_us


@pytest.mark.parametrize("after", ALGORITHMS)
def test_a_steady_caller_is_not_shut_out_by_the_switch_from_a_window(counting: Counting, after: str) -> None:
    """It spent half of its hour evenly; the bucket's level is known to a sixteenth of the period, not to the hour."""
    meter = counting.new(limit_of("fixed-window", 1000))
    for second in range(0, 3600, 8):
        now_us = WINDOW_US + second * SECOND_US
        meter.add(1, now_us)

    meter = counting.resumed(meter, limit_of(after, 1000, 100), now_us)

    assert meter.remaining(now_us) >= 1000 / 16


def test_deeper_bucket_keeps_the_level_exactly(counting: Counting) -> None:
    meter = counting.new(limit_of("token-bucket", 1000, 50))
    for second in range(0, 1800, 4):
        meter.add(1, WINDOW_US + second * SECOND_US)
    missing = 50 - meter.remaining(WINDOW_US + 1800 * SECOND_US)

    meter = counting.resumed(meter, limit_of("leaky-bucket", 1000, 60), WINDOW_US + 1800 * SECOND_US)

    assert meter.remaining(WINDOW_US + 1800 * SECOND_US) == 60 - missing


def test_slower_bucket_counts_what_came_back_too_fast(counting: Counting) -> None:
    """It is full again after 450 in half an hour; by the new limit of 100 an hour the next may come in an hour."""
    meter = counting.new(limit_of("token-bucket", 1000, 50))
    for second in range(0, 1800, 4):
        now_us = WINDOW_US + second * SECOND_US
        meter.add(1, now_us)

    meter = counting.resumed(meter, limit_of("token-bucket", 100, 50), now_us)

    assert meter.wait_us(1, now_us) > PERIOD_US


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lower_amount_counts_what_was_spent(counting: Counting, algorithm: str) -> None:
    meter = counting.new(limit_of(algorithm))
    meter.add(40, WINDOW_US + 5)

    meter = counting.resumed(meter, limit_of(algorithm, 50, 50), WINDOW_US + 10)

    assert meter.remaining(WINDOW_US + 10) == 10


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_other_period_counts_what_was_spent_within_it(counting: Counting, before: str, after: str) -> None:
    meter = counting.new(limit_of(before))
    meter.add(40, WINDOW_US + 5)

    meter = counting.resumed(meter, limit_of(after, 50, 50, 2 * PERIOD_US), WINDOW_US + 10)

    assert meter.remaining(WINDOW_US + 10) == 10


def test_number_of_requests_in_work_survives_a_change_of_the_limit() -> None:
    meter = new_meter(Limit("concurrent", 5))
    meter.add(3, BEGIN_US)

    changed = resumed(meter, Limit("concurrent", 2), BEGIN_US)

    assert changed is meter
    assert changed.wait_us(1, BEGIN_US) > 0
    changed.settle(-2, Reserved(2, BEGIN_US), BEGIN_US)
    assert changed.wait_us(1, BEGIN_US) == 0
