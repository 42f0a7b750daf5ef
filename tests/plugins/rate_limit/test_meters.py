"""Each algorithm against a slow and obvious reference: nobody is admitted above the limit or refused below it."""

from itertools import accumulate
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.rate_limit.limit import NEVER, SECOND_US, Algorithm, Limit
from plugins.rate_limit.meter import Reserved
from plugins.rate_limit.meters import METERS, new_meter
from tests.plugins.rate_limit.meters import Counting
from tests.plugins.rate_limit.reference import REFERENCES, take

BEGIN_US = 1_790_000_000 * SECOND_US
ALGORITHMS = sorted(REFERENCES)

PERIODS_US = st.sampled_from([1, 7, 60, 1000, SECOND_US, 3600 * SECOND_US])


@st.composite
def limits(draw: st.DrawFn, algorithm: str) -> Limit:
    return Limit(algorithm, draw(st.integers(1, 12)), draw(PERIODS_US), draw(st.integers(1, 15)))  # type: ignore[arg-type]  # drawn from the literals


@st.composite
def arrivals(draw: st.DrawFn, period_us: int, most: int = 40) -> list[tuple[int, int]]:
    """Times and amounts: crowds, trickles, whole periods of silence, and the very edges of windows."""
    edges = [0, 1, period_us // 2, period_us - 1, period_us, period_us + 1, 2 * period_us, 3 * period_us]
    gap = st.one_of(st.just(0), st.integers(0, max(period_us // 3, 1)), st.sampled_from(edges))
    gaps = draw(st.lists(gap, min_size=1, max_size=most))
    spent = draw(st.lists(st.integers(1, 3), min_size=len(gaps), max_size=len(gaps)))
    return list(zip(accumulate(gaps, initial=BEGIN_US + draw(st.integers(0, period_us))), spent, strict=False))


def test_every_algorithm_has_a_meter_and_all_with_a_period_a_reference() -> None:
    assert set(METERS) == set(get_args(Algorithm))
    assert set(METERS) - set(REFERENCES) == {"concurrent"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_decides_as_the_reference_does(counting: Counting, algorithm: str, data: st.DataObject) -> None:
    limit = data.draw(limits(algorithm))
    meter, reference = counting.new(limit), REFERENCES[algorithm](limit)

    for now_us, amount in data.draw(arrivals(limit.period_us)):
        assert take(meter, amount, now_us) == reference.take(amount, now_us)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_wait_is_exact_to_the_microsecond(counting: Counting, algorithm: str, data: st.DataObject) -> None:
    limit = data.draw(limits(algorithm))
    meter, reference = counting.new(limit), REFERENCES[algorithm](limit)

    for now_us, amount in data.draw(arrivals(limit.period_us)):
        if reference.take(amount, now_us):
            meter.add(amount, now_us)
            continue
        wait_us = meter.wait_us(amount, now_us)
        if wait_us == NEVER:
            assert amount > limit.most
        else:
            assert not reference.admits(amount, now_us + wait_us - 1)
            assert reference.admits(amount, now_us + wait_us)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_what_remains_can_be_taken_and_no_more(counting: Counting, algorithm: str, data: st.DataObject) -> None:
    limit = data.draw(limits(algorithm))
    meter = counting.new(limit)

    for now_us, amount in data.draw(arrivals(limit.period_us)):
        left = meter.remaining(now_us)
        assert meter.wait_us(left, now_us) == 0
        assert meter.wait_us(left + 1, now_us) > 0
        take(meter, amount, now_us)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_everything_is_there_at_the_reset_and_not_before(
    counting: Counting, algorithm: str, data: st.DataObject
) -> None:
    limit = data.draw(limits(algorithm))
    meter = counting.new(limit)
    for now_us, amount in data.draw(arrivals(limit.period_us)):
        take(meter, amount, now_us)

    reset_us = meter.reset_us(now_us)

    if reset_us:
        assert meter.reset_us(now_us + reset_us - 1) == 1
    assert meter.reset_us(now_us + reset_us) == 0
    assert meter.remaining(now_us + reset_us) == limit.most


@given(data=st.data())
def test_sliding_window_keeps_its_documented_bounds(counting: Counting, data: st.DataObject) -> None:
    limit = data.draw(limits("sliding-window"))
    meter, period_us = counting.new(limit), limit.period_us
    taken: list[tuple[int, int]] = []

    for now_us, amount in data.draw(arrivals(period_us)):
        window = now_us // period_us
        in_both = sum(each for time_us, each in taken if time_us // period_us >= window - 1)
        is_taken = take(meter, amount, now_us)
        if is_taken:
            taken.append((now_us, amount))
        assert is_taken or in_both + amount > limit.amount
        assert sum(each for time_us, each in taken if time_us // period_us == window) <= limit.amount
        assert sum(each for time_us, each in taken if time_us > now_us - period_us) < 2 * limit.amount + (
            period_us == 1
        )


@given(data=st.data())
def test_leaky_bucket_lets_its_queue_go_at_a_constant_rate(counting: Counting, data: st.DataObject) -> None:
    limit = data.draw(limits("leaky-bucket"))
    meter = counting.new(limit)
    gone_us: int | None = None

    for now_us, _ in data.draw(arrivals(limit.period_us)):
        if meter.wait_us(1, now_us):
            continue
        goes_us = now_us + meter.queue_us(now_us)
        meter.add(1, now_us)
        assert goes_us - now_us <= -(-(limit.depth - 1) * limit.period_us // limit.amount)
        if gone_us is not None:
            assert goes_us - gone_us >= limit.period_us // limit.amount
        gone_us = goes_us


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_spending_one_is_adding_one_and_telling_what_is_left(algorithm: str, data: st.DataObject) -> None:
    limit = data.draw(limits(algorithm))
    spending, adding = new_meter(limit), new_meter(limit)

    for now_us, _ in data.draw(arrivals(limit.period_us)):
        spent = spending.spend(now_us)
        if not take(adding, 1, now_us):
            assert spent is None
        else:
            assert spent == (adding.remaining(now_us), -(-adding.reset_us(now_us) // SECOND_US))
            if data.draw(st.booleans()):
                spending.unspend(now_us)
                spending.spend(now_us)
        assert spending.spent(now_us) == adding.spent(now_us)
        assert spending.remaining(now_us) == adding.remaining(now_us)


def test_fixed_window_begins_with_the_minute_of_the_clock(counting: Counting) -> None:
    meter = counting.new(Limit("fixed-window", 1, 60 * SECOND_US))
    at_ten_to = 1_790_000_030 * SECOND_US - 1_790_000_030 * SECOND_US % (60 * SECOND_US) + 50 * SECOND_US

    assert take(meter, 1, at_ten_to)
    assert meter.wait_us(1, at_ten_to) == 10 * SECOND_US
    assert take(meter, 1, at_ten_to + 10 * SECOND_US)


def test_nothing_drifts_in_many_takes() -> None:
    limit = Limit("token-bucket", 7, SECOND_US, 2)
    meter, now_us = new_meter(limit), BEGIN_US

    for _ in range(200_000):
        now_us += meter.wait_us(1, now_us)
        meter.add(1, now_us)

    assert now_us - BEGIN_US == -(-199_998 * SECOND_US // 7)


class TestInWork:
    limit = Limit("concurrent", 2)

    def test_admits_as_many_as_the_limit_says(self) -> None:
        meter = new_meter(self.limit)

        assert [take(meter, 1, BEGIN_US) for _ in range(3)] == [True, True, False]
        assert meter.remaining(BEGIN_US) == 0

    def test_makes_room_when_one_ends(self) -> None:
        meter = new_meter(self.limit)
        for _ in range(2):
            meter.add(1, BEGIN_US)

        meter.settle(-1, Reserved(1, BEGIN_US), BEGIN_US + 5)

        assert take(meter, 1, BEGIN_US + 5)
        assert not meter.is_idle(BEGIN_US)
