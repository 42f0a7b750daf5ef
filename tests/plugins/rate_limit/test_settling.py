"""What was reserved is settled by what was spent: given back where it was taken from, and never more than that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit.limit import SECOND_US, Limit
from plugins.rate_limit.meter import Reserved
from tests.plugins.rate_limit.meters import AnyMeter, Counting
from tests.plugins.rate_limit.reference import take
from tests.plugins.rate_limit.test_meters import ALGORITHMS, BEGIN_US, arrivals

MINUTE_US = 60 * SECOND_US
BEGIN_OF_MINUTE_US = BEGIN_US - BEGIN_US % MINUTE_US


def limit_of(algorithm: str, amount: int = 100) -> Limit:
    return Limit(algorithm, amount, MINUTE_US, amount)  # type: ignore[arg-type]  # one of the literals


def reserve(meter: AnyMeter, amount: int, now_us: int) -> Reserved:
    return Reserved(amount, now_us, meter.reserve(amount, now_us))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_was_not_spent_is_there_again(counting: Counting, algorithm: str) -> None:
    meter = counting.new(limit_of(algorithm))
    reserved = reserve(meter, 100, BEGIN_OF_MINUTE_US)

    meter.settle(-60, reserved, BEGIN_OF_MINUTE_US + 1)

    assert meter.remaining(BEGIN_OF_MINUTE_US + 1) == 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_was_spent_beyond_the_reserve_counts_also_above_the_limit(counting: Counting, algorithm: str) -> None:
    meter = counting.new(limit_of(algorithm))
    reserved = reserve(meter, 90, BEGIN_OF_MINUTE_US)

    meter.settle(30, reserved, BEGIN_OF_MINUTE_US)

    assert meter.remaining(BEGIN_OF_MINUTE_US) == 0
    assert meter.wait_us(0, BEGIN_OF_MINUTE_US) > 0
    assert meter.wait_us(1, BEGIN_OF_MINUTE_US) > 0


@pytest.mark.parametrize("algorithm", ["fixed-window", "sliding-window", "sliding-log"])
def test_what_was_taken_long_ago_gives_nothing_back_now(counting: Counting, algorithm: str) -> None:
    meter = counting.new(limit_of(algorithm))
    later_us = BEGIN_OF_MINUTE_US + 2 * MINUTE_US
    reserved = reserve(meter, 100, BEGIN_OF_MINUTE_US)
    meter.add(100, later_us)

    meter.settle(-60, reserved, later_us)

    assert meter.remaining(later_us) == 0


def test_sliding_window_gives_back_to_the_window_before(counting: Counting) -> None:
    meter = counting.new(limit_of("sliding-window"))
    next_us = BEGIN_OF_MINUTE_US + MINUTE_US
    reserved = reserve(meter, 100, BEGIN_OF_MINUTE_US)
    meter.add(0, next_us)

    meter.settle(-60, reserved, next_us)

    assert meter.remaining(next_us) == 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_reserving_admits_no_more_than_the_true_amount(counting: Counting, algorithm: str, data: st.DataObject) -> None:
    """One meter reserves two more than is spent and settles at some later time, the other knew it from the start."""
    limit = limit_of(algorithm, 12)
    reserving, knowing = counting.new(limit), counting.new(limit)
    in_work: list[Reserved] = []

    for now_us, amount in data.draw(arrivals(MINUTE_US)):
        if data.draw(st.booleans()) and in_work:
            reserved = in_work.pop(data.draw(st.integers(0, len(in_work) - 1)))
            reserving.settle(-2, reserved, now_us)
        if reserving.wait_us(amount + 2, now_us) == 0:
            assert knowing.wait_us(amount, now_us) == 0
            in_work.append(reserve(reserving, amount + 2, now_us))
            knowing.add(amount, now_us)
        assert reserving.remaining(now_us) <= knowing.remaining(now_us)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_refused_take_takes_nothing(counting: Counting, algorithm: str) -> None:
    meter = counting.new(limit_of(algorithm))
    meter.add(60, BEGIN_OF_MINUTE_US)

    refused = [take(meter, 41, BEGIN_OF_MINUTE_US) for _ in range(5)]

    assert not any(refused)
    assert meter.remaining(BEGIN_OF_MINUTE_US) == 40


def test_a_busy_bucket_gets_back_all_that_was_reserved_too_much(counting: Counting) -> None:
    """Twenty seconds of work that reserve twice what they spend: the whole rate can be used."""
    limit = limit_of("token-bucket", 60)
    meter, in_work, spent = counting.new(limit), [], 0

    for second in range(600):
        now_us = BEGIN_OF_MINUTE_US + second * SECOND_US
        while in_work and now_us - in_work[0].taken_us >= 20 * SECOND_US:
            meter.settle(-2, in_work.pop(0), now_us)
        while meter.wait_us(4, now_us) == 0:
            in_work.append(reserve(meter, 4, now_us))
            spent += 2

    assert 600 - 80 < spent <= 600 + 60


def test_a_bucket_that_was_full_meanwhile_gets_nothing_back(counting: Counting) -> None:
    """Had less been taken at first, it would be no fuller now: it was full before the second came."""
    meter = counting.new(limit_of("token-bucket", 12))
    first = reserve(meter, 12, BEGIN_OF_MINUTE_US)
    reserve(meter, 12, BEGIN_OF_MINUTE_US + MINUTE_US)

    meter.settle(-6, first, BEGIN_OF_MINUTE_US + MINUTE_US)

    assert meter.remaining(BEGIN_OF_MINUTE_US + MINUTE_US) == 0
