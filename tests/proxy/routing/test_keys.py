"""Which of a provider's keys is used, and which are left alone."""

import math
from collections import Counter

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.routing.keys import MOST_LIMITED_S, MOST_REFUSED_S, QUOTA_EVERY_S, Key, KeyPool
from proxy.routing.quota import Quota

TEXTS = ["sk-test-aaaaaaaaaaaa", "sk-test-bbbbbbbbbbbb", "sk-test-cccccccccccc"]


def names(keys: list[Key | None]) -> list[str | None]:
    return [None if key is None else key.mask[-1] for key in keys]


def states(pool: KeyPool, now_s: float) -> list[object]:
    return [one["state"] for one in pool.describe(now_s)]


# -- choosing -------------------------------------------------------------------------------------------------------


def test_keys_are_used_in_turn() -> None:
    pool = KeyPool(TEXTS)

    assert names([pool.choose(0.0) for _ in range(7)]) == ["a", "b", "c", "a", "b", "c", "a"]


def test_key_that_was_tried_is_passed_over() -> None:
    pool = KeyPool(TEXTS)
    first = pool.choose(0.0)
    second = pool.choose(0.0, tried=[first])

    assert names([first, second, pool.choose(0.0, tried=(first, second))]) == ["a", "b", "c"]
    assert pool.choose(0.0, tried=set(pool.keys)) is None


def test_pool_without_keys_has_none_to_give() -> None:
    pool = KeyPool([])

    assert (pool.choose(0.0), pool.last_resort(0.0), pool.soonest_s(0.0), pool.describe(0.0)) == (None, None, None, [])


@given(st.integers(1, 6), st.sets(st.integers(0, 5)), st.integers(0, 50))
def test_rotation_is_even_among_the_usable_keys(count: int, cooling: set[int], times: int) -> None:
    pool = KeyPool([f"key-number-{number}" for number in range(count)])
    for number in cooling:
        if number < count:
            pool.limited(pool.keys[number], 0.0, 100.0)

    chosen = Counter(pool.choose(1.0) for _ in range(times))

    usable = [key for number, key in enumerate(pool.keys) if number not in cooling]
    counts = [chosen[key] for key in usable]
    assert sum(counts) == (times if usable else 0)
    assert not counts or max(counts) - min(counts) <= 1


# -- cooldowns ------------------------------------------------------------------------------------------------------


def test_limited_key_is_left_alone_for_as_long_as_the_provider_said() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]

    pool.limited(key, 10.0, 30.0)

    assert [pool.choose(now_s) for now_s in (10.0, 39.9, 40.0)] == [None, None, key]
    assert pool.last_resort(39.9) is None
    assert (pool.soonest_s(15.0), pool.soonest_s(50.0)) == (25.0, 0.0)


def test_key_that_is_limited_again_and_again_is_left_alone_twice_as_long_each_time() -> None:
    pool, now_s, waits_s = KeyPool(TEXTS[:1]), 0.0, []

    for _ in range(8):
        pool.limited(pool.keys[0], now_s, None)
        waits_s.append(pool.soonest_s(now_s))
        now_s += waits_s[-1]

    assert waits_s == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MOST_LIMITED_S, MOST_LIMITED_S]


def test_key_that_is_refused_again_and_again_is_left_alone_up_to_ten_minutes() -> None:
    pool, now_s, waits_s = KeyPool(TEXTS[:1]), 0.0, []

    for _ in range(8):
        pool.refused(pool.keys[0], now_s)
        waits_s.append(pool.soonest_s(now_s))
        now_s += waits_s[-1]

    assert waits_s == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, MOST_REFUSED_S, MOST_REFUSED_S]


def test_refused_key_comes_back_by_itself_only_where_all_were_refused() -> None:
    pool = KeyPool(TEXTS[:2])
    first, second = pool.keys

    pool.refused(first, 0.0)
    pool.limited(second, 0.0, 40.0)
    told_s = pool.soonest_s(0.0)
    pool.refused(second, 0.0)

    assert (told_s, pool.soonest_s(0.0)) == (40.0, 10.0)


def test_many_failures_at_once_are_one() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]

    for late_s in range(50):
        pool.limited(key, late_s / 100, None)
        pool.refused(key, late_s / 100)

    assert (key.limits, key.refusals, key.limited_until_s, key.refused_until_s) == (1, 1, 1.0, 10.0)


def test_named_time_holds_even_if_a_shorter_one_follows() -> None:
    pool = KeyPool(TEXTS[:1])

    pool.limited(pool.keys[0], 0.0, 30.0)
    pool.limited(pool.keys[0], 1.0, 2.0)

    assert pool.soonest_s(1.0) == 29.0


def test_named_time_of_zero_counts_as_none() -> None:
    pool = KeyPool(TEXTS[:1])

    pool.limited(pool.keys[0], 0.0, 0.0)

    assert (pool.soonest_s(0.0), pool.last_resort(0.5)) == (1.0, pool.keys[0])


def test_success_ends_the_growth() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]
    pool.limited(key, 0.0, None)
    pool.limited(key, 1.0, None)

    pool.used(key, 4.0, 3.5, None)
    pool.limited(key, 5.0, None)

    assert pool.soonest_s(5.0) == 1.0


def test_success_of_a_last_resort_ends_a_soft_cooldown_but_not_a_named_one() -> None:
    pool = KeyPool(TEXTS[:2])
    soft, hard = pool.keys
    pool.refused(soft, 0.0)
    pool.limited(hard, 0.0, 30.0)

    for key in (soft, hard):
        pool.used(key, 2.0, 1.0, None)

    assert [soft.free_s, hard.free_s] == [-math.inf, 30.0]


def test_success_that_began_before_the_cooldown_says_nothing_about_it() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]
    pool.limited(key, 1.0, None)

    pool.used(key, 1.5, 0.5, None)

    assert (pool.soonest_s(1.5), key.limits) == (0.5, 1)


def test_last_resort_is_the_key_that_is_usable_first() -> None:
    pool = KeyPool(TEXTS)
    refused, limited, told = pool.keys
    pool.refused(refused, 0.0)
    pool.limited(limited, 0.0, None)
    pool.limited(told, 0.0, 0.5)

    assert pool.last_resort(0.1) is limited
    assert pool.last_resort(0.1, tried=[limited]) is refused
    assert pool.last_resort(0.1, tried=[limited, refused]) is None


# -- quota ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "until_s"),
    [
        (Quota(0, 500, 8.0, 60.0), 18.0),
        (Quota(5, 0, 8.0, 60.0), 70.0),
        (Quota(0, 0, 8.0, 6.0), 18.0),
        (Quota(0, None, None, None), 10.0),
        (Quota(1, 1, 8.0, 60.0), 10.0),
    ],
)
def test_key_with_nothing_left_is_left_alone_until_its_limit_starts_anew(quota: Quota, until_s: float) -> None:
    pool = KeyPool(TEXTS[:1])

    pool.used(pool.keys[0], 10.0, 9.0, quota)

    assert pool.soonest_s(10.0) == until_s - 10.0
    assert pool.last_resort(10.0) is pool.keys[0]


def test_newer_quota_replaces_the_older_and_none_keeps_it() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]

    pool.used(key, 10.0, 9.0, Quota(0, None, 60.0, None))
    pool.used(key, 11.0, 9.0, None)
    kept = (key.quota, key.quota_s, pool.choose(11.0))
    pool.used(key, 12.0, 9.0, Quota(3, None, 58.0, None))

    assert kept == (Quota(0, None, 60.0, None), 10.0, None)
    assert (key.quota_s, pool.choose(12.0)) == (12.0, key)


def test_refusal_may_bring_the_quota_along() -> None:
    pool = KeyPool(TEXTS[:1])

    pool.limited(pool.keys[0], 10.0, None, Quota(0, None, 20.0, None))

    assert pool.soonest_s(10.0) == 20.0


def test_headers_are_read_rarely_far_from_the_limits_and_always_near_them() -> None:
    pool = KeyPool(TEXTS[:1])
    key, due = pool.keys[0], []

    for quota in (None, Quota(5000, 10_000_000), Quota(100, None), Quota(5000, 1000), None):
        pool.used(key, 10.0, 9.0, quota)
        due.append(key.quota_due_s)

    assert due == [10.0 + QUOTA_EVERY_S, 10.0 + QUOTA_EVERY_S, 10.0, 10.0, 10.0 + QUOTA_EVERY_S]


def test_reading_stays_due_at_its_time_when_successes_come_without_quota() -> None:
    pool = KeyPool(TEXTS[:1])
    key = pool.keys[0]
    pool.used(key, 10.0, 9.0, Quota(5000, None))

    pool.used(key, 10.2, 9.0, None)

    assert key.quota_due_s == 10.0 + QUOTA_EVERY_S


# -- masks and status -----------------------------------------------------------------------------------------------


def test_mask_shows_the_end_of_long_keys_only_and_tells_equal_ones_apart() -> None:
    pool = KeyPool(["sk-proj-one-wxyz", "sk-proj-two-wxyz", "short-wxyz", "tiny"])

    assert [key.mask for key in pool.keys] == ["…wxyz", "…wxyz#2", "…", "…#2"]


@given(st.lists(st.text("abcXYZ0123-_", min_size=1, max_size=30), min_size=1, max_size=5, unique=True))
def test_no_text_about_a_key_shows_more_than_four_of_its_characters(texts: list[str]) -> None:
    pool = KeyPool(texts)
    for key in pool.keys:
        pool.limited(key, 0.0, 30.0)
        pool.refused(key, 0.0)

    shown = [repr(pool), str(pool), orjson.dumps(pool.describe(1.0)).decode()]
    shown += [text for key in pool.keys for text in (repr(key), str(key), str(key.reason))]

    for key in pool.keys:
        visible = key.mask.partition("#")[0].removeprefix("…")
        assert visible == (key.text[-4:] if len(key.text) >= 12 else "")
        fives = {key.text[start : start + 5] for start in range(len(key.text) - 4)}
        assert not any(five in text for five in fives for text in shown)
    assert len({key.mask for key in pool.keys}) == len(pool.keys)


def test_status_tells_what_is_known_of_each_key() -> None:
    pool = KeyPool([*TEXTS, "sk-test-dddddddddddd"])
    ok, told, refused, used_up = pool.keys
    pool.used(ok, 10.0, 9.0, Quota(7, 900, 30.0, 3.0))
    pool.limited(told, 10.0, 30.0)
    pool.refused(refused, 10.0)
    pool.used(used_up, 10.0, 9.0, Quota(0, None, 5.0, None))

    told_of = pool.describe(12.0)

    assert told_of[0] == {
        "key": "…aaaa",
        "state": "ok",
        "untilS": None,
        "reason": None,
        "failures": 0,
        "remainingRequests": 7,
        "remainingTokens": 900,
        "quotaAgeS": 2.0,
    }
    later, at_last = pool.describe(13.0)[0], pool.describe(40.0)[0]
    assert (later["remainingRequests"], later["remainingTokens"], later["quotaAgeS"]) == (7, None, 3.0)
    assert (at_last["remainingRequests"], at_last["quotaAgeS"]) == (None, None)
    assert [(one["state"], one["untilS"], one["failures"]) for one in told_of[1:]] == [
        ("cooling", 28.0, 1),
        ("refused", 8.0, 1),
        ("used_up", 3.0, 0),
    ]
    assert all(one["reason"] for one in told_of[1:])


# -- operators ------------------------------------------------------------------------------------------------------


def test_keys_that_stay_keep_their_state_and_their_mask() -> None:
    pool = KeyPool(["sk-proj-one-wxyz", "sk-proj-two-wxyz"])
    stays = pool.keys[1]
    pool.limited(stays, 0.0, 30.0)

    pool.resettle(["sk-proj-six-wxyz", "sk-proj-two-wxyz", "sk-proj-two-wxyz"])

    assert pool.keys[1] is stays
    assert [key.mask for key in pool.keys] == ["…wxyz", "…wxyz#2"]
    assert states(pool, 1.0) == ["ok", "cooling"]


def test_rotation_goes_on_in_a_shorter_list() -> None:
    pool = KeyPool(TEXTS)
    pool.choose(0.0)
    pool.choose(0.0)

    pool.resettle(TEXTS[:1])

    assert names([pool.choose(0.0), pool.choose(0.0)]) == ["a", "a"]


def test_reset_forgets_cooldowns_and_quotas() -> None:
    pool = KeyPool(TEXTS[:1])
    pool.limited(pool.keys[0], 0.0, 30.0, Quota(0, None, 60.0, None))

    pool.reset()

    assert (pool.choose(0.0), pool.keys[0].quota) == (pool.keys[0], None)


# -- whatever comes -------------------------------------------------------------------------------------------------


class Traffic(RuleBasedStateMachine):
    """Keys are chosen, limited, refused, used up and exchanged at any time."""

    @initialize(count=st.integers(1, 4))
    def start(self, count: int) -> None:
        self.pool = KeyPool([f"sk-test-key-{number}" for number in range(count)])
        self.now_s = 100.0
        self.hard_until_s: dict[Key, float] = {}

    @rule(step_s=st.floats(0.0, 20.0))
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @rule(data=st.data(), wait_s=st.one_of(st.none(), st.floats(0.0, 100.0)))
    def limited(self, data: st.DataObject, wait_s: float | None) -> None:
        key = data.draw(st.sampled_from(self.pool.keys))
        self.pool.limited(key, self.now_s, wait_s)
        until_s = self.now_s + (wait_s or 0.0)
        self.hard_until_s[key] = max(until_s, self.hard_until_s.get(key, 0.0))

    @rule(data=st.data())
    def refused(self, data: st.DataObject) -> None:
        self.pool.refused(data.draw(st.sampled_from(self.pool.keys)), self.now_s)

    @rule(data=st.data(), left=st.sampled_from([None, 0, 5]), began=st.floats(0.0, 1.0))
    def used(self, data: st.DataObject, left: int | None, began: float) -> None:
        quota = None if left is None else Quota(left, None, 7.0, None)
        self.pool.used(data.draw(st.sampled_from(self.pool.keys)), self.now_s, self.now_s * began, quota)

    @rule(first=st.integers(0, 3), count=st.integers(1, 4))
    def resettle(self, first: int, count: int) -> None:
        self.pool.resettle([f"sk-test-key-{number}" for number in range(first, first + count)])

    @rule(data=st.data())
    def choose(self, data: st.DataObject) -> None:
        tried = data.draw(st.sets(st.sampled_from(self.pool.keys)))

        chosen, last = self.pool.choose(self.now_s, tried), self.pool.last_resort(self.now_s, tried)

        for key in (chosen, last):
            assert key is None or key not in tried
            assert key is None or self.now_s >= self.hard_until_s.get(key, 0.0), "asked before the time it was told"
        assert chosen is None or chosen.free_s <= self.now_s

    @invariant()
    def soonest_is_when_choosing_works_again(self) -> None:
        soonest_s = self.pool.soonest_s(self.now_s)
        usable = [key for key in self.pool.keys if key.free_s <= self.now_s]
        assert (soonest_s == 0.0) == bool(usable)
        assert all(key.free_s < self.now_s + 1000.0 for key in self.pool.keys), "left alone without an end"
        assert states(self.pool, self.now_s).count("ok") == len(usable)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40)
