"""What keys spend: windows of the calendar, budgets under any order of requests, and amounts that add up exactly."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from plugins.keys.account import Account, Budget, Spent, to_nanos, to_usd
from plugins.keys.windows import Calendar, windows_at

START_S = datetime(2026, 1, 30, 22, tzinfo=UTC).timestamp()
LATEST_S = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}Z").timestamp()


@pytest.mark.parametrize(
    ("moment", "day", "month", "day_ends", "month_ends"),
    [
        ("2026-01-31T23:59:59", "2026-01-31", "2026-01", "2026-02-01T00:00:00", "2026-02-01T00:00:00"),
        ("2026-02-01T00:00:00", "2026-02-01", "2026-02", "2026-02-02T00:00:00", "2026-03-01T00:00:00"),
        ("2028-02-29T12:00:00", "2028-02-29", "2028-02", "2028-03-01T00:00:00", "2028-03-01T00:00:00"),
        ("2026-12-31T01:00:00", "2026-12-31", "2026-12", "2027-01-01T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_windows_are_days_and_months_of_the_calendar(
    moment: str, day: str, month: str, day_ends: str, month_ends: str
) -> None:
    windows = windows_at(at(moment))

    assert (windows.day, windows.month) == (day, month)
    assert (windows.day_ends_s, windows.month_ends_s) == (at(day_ends), at(month_ends))


@given(st.lists(st.floats(0, LATEST_S), min_size=1, max_size=20))
def test_calendar_knows_every_moment_whatever_it_was_asked_before(moments: list[float]) -> None:
    calendar = Calendar()

    for moment_s in moments:
        windows = calendar.at(moment_s)
        assert windows == windows_at(moment_s)
        assert windows.day_begins_s <= moment_s < windows.day_ends_s <= windows.month_ends_s
        assert calendar.at(windows.day_ends_s).day > windows.day


@given(st.floats(1e-9, 1e9))
def test_no_amount_of_money_counts_as_nothing_or_as_less(usd: float) -> None:
    nanos = to_nanos(usd)

    assert nanos >= 1
    assert to_usd(nanos) >= usd * (1 - 1e-9)


def test_plain_amounts_are_exact() -> None:
    assert [to_nanos(usd) for usd in (0.1, 0.07, 1.15, 20.0)] == [100_000_000, 70_000_000, 1_150_000_000, 20 * 10**9]


def test_clock_that_goes_back_brings_no_budget_back() -> None:
    account = Account(Spent())
    account.settle(0, 70, windows_at(at("2026-02-01T00:00:01")))

    shortage = account.shortage(Budget(100, None), 31, windows_at(at("2026-01-31T23:59:59")))

    assert shortage is not None
    assert shortage.spent == 70


@pytest.mark.parametrize("ahead", ["2026-04-01T00:00:00", "2099-12-31T23:00:00"])
def test_clock_that_was_far_ahead_for_a_moment_locks_nobody_out_for_years(ahead: str) -> None:
    """A day that was counted by a wrong clock is today, until tomorrow comes."""
    account, budget = Account(Spent()), Budget(100, 100)
    account.settle(0, 100, windows_at(at(ahead)))

    assert account.shortage(budget, 1, windows_at(at("2026-01-31T12:00:00"))) is not None
    assert account.shortage(budget, 1, windows_at(at("2026-02-01T00:00:00"))) is None


def test_next_day_has_a_budget_of_its_own_while_the_month_goes_on() -> None:
    account = Account(Spent())
    account.settle(0, 100, windows_at(at("2026-01-30T12:00:00")))
    next_day = windows_at(at("2026-01-31T00:00:00"))

    assert account.shortage(Budget(100, None), 100, next_day) is None
    shortage = account.shortage(Budget(100, 150), 100, next_day)
    assert shortage is not None
    assert (shortage.window, shortage.spent, shortage.limit) == ("month", 100, 150)


def test_both_windows_used_up_tell_of_the_one_that_ends_later() -> None:
    account = Account(Spent())
    now = windows_at(at("2026-01-10T12:00:00"))
    account.settle(0, 100, now)

    shortage = account.shortage(Budget(100, 100), 0, now)

    assert shortage is not None
    assert (shortage.window, shortage.is_spent, shortage.ends_s) == ("month", True, now.month_ends_s)


def test_budget_that_others_hold_is_not_yet_spent() -> None:
    account = Account(Spent())
    account.reserve(90)

    shortage = account.shortage(Budget(100, None), 20, windows_at(START_S))

    assert shortage is not None
    assert not shortage.is_spent


def test_what_is_written_down_holds_the_requests_in_work() -> None:
    account = Account(Spent())
    now = windows_at(START_S)
    account.settle(0, 10, now)
    account.reserve(5)

    again = Account(account.to_write())

    assert again.spent_at(now).day_nanos == again.spent_at(now).total_nanos == 15
    assert again.reserved == 0


AMOUNTS = st.integers(0, 120)


class Spending(RuleBasedStateMachine):
    """Requests begin and end in any order while days go by; a list of everything that happened is the reference."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S
        self.account = Account(Spent())
        self.settled: list[tuple[str, str, int]] = []
        self.held: list[int] = []
        self.excess = 0

    @property
    def windows(self) -> Any:
        return windows_at(self.now_s)

    def spent(self, place: int) -> int:
        label = (self.windows.day, self.windows.month)[place]
        return sum(cost for *labels, cost in self.settled if labels[place] == label)

    @rule(hours=st.integers(0, 40))
    def wait(self, hours: int) -> None:
        self.now_s += hours * 3600.0

    @rule(target=running, estimate=AMOUNTS, per_day=st.none() | st.just(200), per_month=st.none() | st.just(300))
    def begin(self, estimate: int, per_day: int | None, per_month: int | None) -> int | None:
        shortage = self.account.shortage(Budget(per_day, per_month), estimate, self.windows)

        fits = all(
            limit is None or (self.spent(place) < limit and self.spent(place) + sum(self.held) + estimate <= limit)
            for place, limit in enumerate((per_day, per_month))
        )
        assert (shortage is None) == fits
        if shortage is not None:
            return None
        self.account.reserve(estimate)
        self.held.append(estimate)
        return estimate

    @rule(estimate=consumes(running), cost=AMOUNTS)
    def end(self, estimate: int | None, cost: int) -> None:
        if estimate is None:
            return
        self.account.settle(estimate, cost, self.windows)
        self.held.remove(estimate)
        self.settled.append((self.windows.day, self.windows.month, cost))

    @invariant()
    def amounts_add_up(self) -> None:
        spent = self.account.spent_at(self.windows)
        assert (spent.day_nanos, spent.month_nanos) == (self.spent(0), self.spent(1))
        assert spent.total_nanos == sum(cost for *_, cost in self.settled)
        assert self.account.reserved == sum(self.held)


TestSpending = Spending.TestCase


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(1, 8)), max_size=60))
def test_budget_is_overrun_by_no_more_than_running_requests_were_underestimated(
    requests: list[tuple[int, int, int]],
) -> None:
    account, now, limit = Account(Spent()), windows_at(START_S), 400
    running: list[tuple[int, int, int]] = []
    underestimated = 0

    for place, (estimate, cost, length) in enumerate(requests):
        for one in [one for one in running if one[2] <= place]:
            running.remove(one)
            account.settle(one[0], one[1], now)
        if account.shortage(Budget(limit, None), estimate, now) is None:
            account.reserve(estimate)
            running.append((estimate, cost, place + length))
            underestimated += max(0, cost - estimate)
    for one in running:
        account.settle(one[0], one[1], now)

    assert account.spent_at(now).day_nanos <= limit + underestimated
    assert account.reserved == 0
