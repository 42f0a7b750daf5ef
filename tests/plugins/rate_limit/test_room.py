"""Buckets are bounded in number, and nobody gains by making them too many."""

import asyncio
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.rate_limit.rig import BEGIN_S, LimitRig, request


def stranger(number: int) -> str:
    return f"sk-stranger-{number:08}"


def test_number_of_buckets_is_bounded() -> None:
    rig = LimitRig(perMinute=2, burstSize=2, perHour=5, maxBuckets=100)

    for number in range(1000):
        rig.passes(request(stranger(number)))

    assert rig.plugin._room.used == 100
    assert sum(len(rule.meters) for rule in rig.plugin.sets.general.rules) == 100


def test_caller_keeps_its_count_while_strangers_come_in_crowds() -> None:
    rig = LimitRig(perMinute=2, algorithm="fixed-window", maxBuckets=10)
    rig.admitted(2)

    for number in range(1000):
        rig.passes(request(stranger(number)))

    assert not rig.passes()


def test_those_for_whom_there_is_no_room_are_counted_together() -> None:
    rig = LimitRig(perMinute=3, algorithm="fixed-window", maxBuckets=1)
    rig.admitted(1)

    passed = [rig.passes(request(stranger(number))) for number in range(10)]

    assert sum(passed) == 3


@settings(max_examples=50)
@given(data=st.data())
def test_no_caller_passes_more_often_than_its_limit_whatever_comes_between(data: st.DataObject) -> None:
    rig = LimitRig(perMinute=3, algorithm="fixed-window", maxBuckets=data.draw(st.integers(1, 5)))
    passed: dict[tuple[int, int], int] = {}

    for _ in range(60):
        rig.now_s += data.draw(st.sampled_from([0, 0, 0, 0.5, 30]))
        who = data.draw(st.integers(0, 8))
        if rig.passes(request(stranger(who))):
            window = (who, int(rig.now_s // 60))
            passed[window] = passed.get(window, 0) + 1

    assert max(passed.values()) <= 3


def test_room_is_made_by_dropping_who_has_nothing_spent() -> None:
    rig = LimitRig(perMinute=60, burstSize=1, maxBuckets=3)
    for number in range(3):
        rig.passes(request(stranger(number)))
    rig.now_s += 1.1

    assert [rig.passes(request(stranger(number))) for number in range(10, 13)] == [True, True, True]
    assert rig.plugin._room.used == 3


async def test_idle_buckets_are_dropped_in_the_background() -> None:
    rig = LimitRig(perMinute=60, burstSize=1)
    for number in range(2000):
        rig.passes(request(stranger(number)))
    rig.now_s += 200

    for _ in rig.plugin._room.sweep(int(rig.now_s * 1e6)):
        pass

    assert rig.plugin._room.used == 0


async def test_sweep_goes_on_as_long_as_the_plugin_lives() -> None:
    rig = LimitRig(perMinute=60, burstSize=1)
    rig.passes()
    rig.plugin.startup()

    for _ in range(20):
        await asyncio.sleep(0)
    rig.tasks[0].cancel()

    assert rig.plugin._room.used == 0
    assert set(rig.naps) == {20}


async def test_rule_that_is_gone_takes_its_buckets_along_unless_the_change_is_undone_at_once() -> None:
    rule = {"name": "a", "amount": 2, "algorithm": "fixed-window"}
    rig = LimitRig(rules=[rule])
    rig.admitted(2)

    rig.change(perMinute=9)
    rig.change(rules=[rule])
    assert rig.admitted(1) == 0
    rig.change(perMinute=9)
    rig.plugin.startup()
    for _ in range(3):
        await asyncio.sleep(0)
    rig.tasks[0].cancel()

    assert rig.plugin._room.used == 0


def test_lower_max_buckets_holds_for_newcomers_at_once() -> None:
    rig = LimitRig(perMinute=2, maxBuckets=100)
    for number in range(50):
        rig.passes(request(stranger(number)))

    rig.change(perMinute=2, maxBuckets=10)
    rig.passes(request(stranger(99)))

    assert rig.plugin._room.used <= 50


def test_a_bucket_takes_less_than_a_kilobyte() -> None:
    rig = LimitRig(perMinute=2, burstSize=2)
    tracemalloc.start()
    try:
        for number in range(2000):
            rig.passes(request(stranger(number)))
        taken_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert taken_bytes / 2000 < 1000
    assert rig.now_s == BEGIN_S
