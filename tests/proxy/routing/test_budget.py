"""How many extra attempts there may be, and how long one waits."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.budget import HEDGE_BURST, RetryBudget, backoff_s


def test_full_budget_pays_for_its_capacity_and_no_more() -> None:
    budget = RetryBudget(0.2, 3.0)

    paid = [budget.withdraw() for _ in range(5)]

    assert paid == [True, True, True, False, False]
    assert budget.level == 0.0


def test_five_requests_pay_for_one_more_attempt() -> None:
    budget = RetryBudget(0.2, 1.0)
    budget.withdraw()

    paid = []
    for _ in range(10):
        budget.deposit()
        paid.append(budget.withdraw())

    assert paid == [False, False, False, False, True] * 2


def test_refused_withdrawal_takes_nothing() -> None:
    budget = RetryBudget(0.2, 5.0)

    assert not budget.withdraw(6.0)
    assert budget.level == 5.0


@pytest.mark.parametrize(("ratio", "capacity"), [(0.0, 2.0), (1.0, 0.0)])
def test_nothing_is_paid_from_what_is_not_there(ratio: float, capacity: float) -> None:
    budget = RetryBudget(ratio, capacity)

    paid = 0
    for _ in range(100):
        budget.deposit()
        paid += budget.withdraw()

    assert paid == capacity


def test_hedges_stay_near_their_share_of_the_requests() -> None:
    budget, hedges = RetryBudget(5.0 / 100, HEDGE_BURST), 0

    for _ in range(10_000):
        budget.deposit()
        hedges += budget.withdraw()

    assert 500 - 1 <= hedges <= 500 + HEDGE_BURST


@pytest.mark.parametrize(
    ("spent", "capacity", "level"), [(30, 60.0, 30.0), (30, 25.0, 0.0), (10, 45.0, 35.0), (0, 10.0, 10.0)]
)
def test_other_capacity_does_not_give_back_what_was_spent(spent: int, capacity: float, level: float) -> None:
    budget = RetryBudget(0.2, 50.0)
    for _ in range(spent):
        budget.withdraw()

    budget.resettle(0.5, capacity)

    assert (budget.level, budget.ratio, budget.capacity) == (level, 0.5, capacity)


@given(
    st.floats(0.0, 1.0),
    st.floats(0.0, 100.0),
    st.lists(st.one_of(st.none(), st.floats(0.01, 5.0)), max_size=200),
)
def test_never_more_is_paid_than_capacity_and_deposits(
    ratio: float, capacity: float, steps: list[float | None]
) -> None:
    budget, paid, deposits = RetryBudget(ratio, capacity), 0.0, 0

    for cost in steps:
        if cost is None:
            budget.deposit()
            deposits += 1
        elif budget.withdraw(cost):
            paid += cost

        assert 0.0 <= budget.level <= capacity
        assert paid <= capacity + ratio * deposits + 1e-9


@given(st.integers(0, 5000), st.floats(0.001, 100.0), st.floats(0.0, 1000.0), st.integers())
def test_wait_is_within_the_doubled_base_and_the_longest(attempt: int, base_s: float, most_s: float, seed: int) -> None:
    wait_s = backoff_s(attempt, base_s, most_s, Random(seed))

    assert 0.0 <= wait_s <= most_s
    assert attempt > 60 or wait_s <= base_s * 2**attempt


def test_waits_are_spread_evenly_over_the_whole_range() -> None:
    random = Random(7)

    waits = [backoff_s(2, 0.25, 10.0, random) for _ in range(10_000)]

    assert min(waits) < 0.01
    assert max(waits) > 0.99
    assert sum(waits) / len(waits) == pytest.approx(0.5, rel=0.02)
