"""What is kept with `smartCache`: what saves most for its bytes, for as long as it is repeated, with the reason."""

from random import Random
from typing import Any

import pytest

from plugins.cache.entry import Entry
from plugins.cache.savings import Savings
from plugins.cache.smart import TTL_INTERVALS, Decision, SmartAdmission, SmartLimits, kind_of
from tests.plugins.cache.entries import make_entry
from tests.plugins.cache.traffic import alike, mixed, saved_by_all, saved_by_smart

LIMITS = SmartLimits(ttl_s=3600.0, min_ttl_s=60.0, max_ttl_s=86_400.0)


def seen(admission: SmartAdmission, entry: Entry, *times_s: float) -> Entry:
    for now_s in times_s:
        admission.see(entry.key, kind_of(entry), now_s)
    return entry


def decide(first: Entry, second: Entry, now_s: float, admission: SmartAdmission) -> Decision:
    return admission.decide(first, second, now_s, is_deterministic=True)


def dear(name: str, **fields: Any) -> Entry:
    return make_entry(name, **{"cost_usd": 0.01, "latency_s": 2.0} | fields)


def test_what_would_be_another_answer_is_kept_only_when_allowed() -> None:
    strict = SmartAdmission(LIMITS)
    lax = SmartAdmission(SmartLimits(3600.0, 60.0, 86_400.0, allows_drawn=True))

    refused = strict.decide(dear("a"), None, 0.0, is_deterministic=False)
    allowed = lax.decide(dear("a"), None, 0.0, is_deterministic=False)

    assert (refused.is_kept, refused.why) == (False, "not_deterministic")
    assert (allowed.is_kept, allowed.why) == (True, "room_enough")


def test_unknown_request_is_kept_for_the_usual_time_while_there_is_room() -> None:
    decision = SmartAdmission(LIMITS).decide(dear("a"), None, 0.0, is_deterministic=True)

    assert decision == Decision(True, 3600.0, "room_enough")


@pytest.mark.parametrize(("interval_s", "ttl_s"), [(100.0, 100.0 * TTL_INTERVALS), (2.0, 60.0), (50_000.0, 86_400.0)])
def test_ttl_follows_the_interval_within_its_bounds(interval_s: float, ttl_s: float) -> None:
    admission = SmartAdmission(LIMITS)
    entry = seen(admission, dear("a"), *[number * interval_s for number in range(5)])

    assert admission.decide(entry, None, 5 * interval_s, is_deterministic=True).ttl_s == ttl_s


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"cost_usd": 0.05}, {"cost_usd": 0.001}),
        ({"latency_s": 60.0}, {"latency_s": 0.5}),
        ({"body": b"x" * 500}, {"body": b"x" * 50_000}),
    ],
    ids=["price", "time", "size"],
)
def test_room_goes_to_what_saves_more_for_its_bytes(better: dict[str, Any], worse: dict[str, Any]) -> None:
    admission = SmartAdmission(LIMITS)
    good, bad = seen(admission, dear("a", **better), 0.0), seen(admission, dear("b", **worse), 0.0)

    won, lost = decide(good, bad, 1.0, admission), decide(bad, good, 1.0, admission)

    assert (won.is_kept, won.why) == (True, "worth_its_room")
    assert (lost.is_kept, lost.why) == (False, "not_worth_its_room")


def test_room_goes_to_what_is_repeated_more_often() -> None:
    admission = SmartAdmission(LIMITS)
    often = seen(admission, dear("a"), *range(0, 1000, 10))
    seldom = seen(admission, dear("b"), *range(0, 1000, 300))

    assert decide(often, seldom, 1000.0, admission).is_kept
    assert not decide(seldom, often, 1000.0, admission).is_kept


def test_new_request_counts_as_its_kind_lets_expect() -> None:
    admission = SmartAdmission(LIMITS)
    for number in range(100):
        seen(admission, dear(number % 5, partition="steady"), number * 10.0)
        seen(admission, dear(f"chat {number}", partition="chat"), number * 10.0)

    steady = seen(admission, dear("new", partition="steady"), 1000.0)
    chat = seen(admission, dear("new too", partition="chat"), 1000.0)

    assert not decide(chat, steady, 1000.0, admission).is_kept


def test_what_fell_silent_gives_way() -> None:
    admission = SmartAdmission(LIMITS)
    silent = seen(admission, dear("a"), *range(0, 1000, 10))
    new = seen(admission, dear("b"), 40_000.0, 40_100.0)

    assert decide(new, silent, 40_100.0, admission).is_kept


def test_what_is_still_asked_for_gives_way_to_nothing_that_is_asked_for_less() -> None:
    admission = SmartAdmission(LIMITS)
    steady = seen(admission, dear("a"), *range(0, 1000, 10))
    new = seen(admission, dear("b"), 900.0, 1000.0)

    assert not decide(new, steady, 1000.0, admission).is_kept


def test_unknown_price_counts_as_the_mean_and_not_as_nothing() -> None:
    admission = SmartAdmission(LIMITS)
    for number in range(300):
        admission.decide(seen(admission, dear(number), 0.0), None, 0.0, is_deterministic=True)
    unpriced, cheap = dear("a", cost_usd=None), dear("b", cost_usd=0.001)

    assert decide(seen(admission, unpriced, 0.0), seen(admission, cheap, 0.0), 0.0, admission).is_kept


@pytest.mark.parametrize(("room_bytes", "least"), [(1_000_000, 1.4), (3_000_000, 1.4)])
def test_more_money_is_saved_in_the_same_room_than_by_keeping_all(room_bytes: int, least: float) -> None:
    traffic = list(mixed(Random(5), 15_000))

    plain, smart = saved_by_all(traffic, room_bytes), saved_by_smart(traffic, room_bytes)
    same_ttl = saved_by_smart(traffic, room_bytes, max_ttl_s=3600.0) / saved_by_all(traffic, room_bytes)

    print(f"{room_bytes} bytes: {plain:.2f} USD, smart {smart:.2f}; {same_ttl:.2f} times as much with equal ttl")
    assert smart > least * plain
    assert same_ttl > least


def test_nothing_is_lost_where_answers_differ_in_nothing() -> None:
    traffic = list(alike(Random(5), 15_000))

    plain, smart = saved_by_all(traffic, 1_000_000), saved_by_smart(traffic, 1_000_000)

    print(f"{plain:.2f} USD, smart {smart:.2f}")
    assert smart > 0.98 * plain


def test_report_adds_up_what_was_spared_and_counts_reasons() -> None:
    savings, admission = Savings(), SmartAdmission(LIMITS)
    savings.note_hit(dear("a", input_tokens=100, output_tokens=20))
    savings.note_hit(dear("a", input_tokens=100, output_tokens=20))
    savings.note_hit(dear("b", cost_usd=None, input_tokens=5))
    savings.note_decision(admission.decide(dear("c"), None, 0.0, is_deterministic=True))
    savings.note_decision(admission.decide(dear("c"), None, 0.0, is_deterministic=False))

    report = savings.report()

    assert (report.unpriced_hits, report.saved_tokens) == (1, 240)
    assert (report.saved_usd, report.saved_s) == (pytest.approx(0.02), pytest.approx(6.0))
    assert (report.kept, report.declined) == ({"room_enough": 1}, {"not_deterministic": 1})
