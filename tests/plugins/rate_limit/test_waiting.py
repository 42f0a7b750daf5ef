"""Requests that wait until they are admitted: in turn, within bounds, and never past the limit."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from proxy.errors import Refused
from proxy.exchange import Exchange, Wait
from tests.plugins.rate_limit.rig import BEGIN_S, LimitRig, request, told

RULE = {"name": "slow", "amount": 1, "period": "10s", "queue": "25s"}


def follow(wait: Wait) -> "asyncio.Task[Any]":
    assert isinstance(wait.awaitable, Coroutine)
    return asyncio.get_running_loop().create_task(wait.awaitable)


async def test_request_waits_until_there_is_room_and_then_takes_it() -> None:
    rig = LimitRig(rules=[RULE])
    rig.passes()
    exchange = request()

    wait = rig.wait(exchange)
    assert exchange.told == b""
    assert await wait.awaitable is None

    assert rig.now_s == BEGIN_S + 10
    assert told(exchange)["x-ratelimit-remaining"] == "0"


async def test_who_came_first_goes_first_and_newcomers_stand_behind() -> None:
    rig = LimitRig(rules=[RULE])
    rig.passes()
    order: list[str] = []

    async def goes(name: str, wait: Wait) -> None:
        await wait.awaitable
        order.append(name)

    first, second = (asyncio.create_task(goes(name, rig.wait(request()))) for name in ("first", "second"))
    await asyncio.gather(first, second)

    assert order == ["first", "second"]
    assert rig.now_s == BEGIN_S + 20


async def test_newcomer_does_not_overtake_although_there_is_room() -> None:
    gate = asyncio.Event()
    rig = LimitRig(rules=[RULE])
    rig.passes()

    async def blocked(seconds: float) -> None:
        await gate.wait()

    rig.plugin._waiting._sleep = blocked
    task = follow(rig.wait(request()))
    await asyncio.sleep(0)
    rig.now_s += 15

    newcomer = rig.plugin.pre_request(request())

    assert isinstance(newcomer, Wait)
    other = follow(newcomer)
    gate.set()
    rig.plugin._waiting._sleep = rig.sleep
    await asyncio.gather(task, other)
    assert rig.now_s == BEGIN_S + 25


async def test_wait_that_would_be_too_long_is_refused_at_once() -> None:
    rig = LimitRig(rules=[{**RULE, "queue": "9s"}])
    rig.passes()

    assert rig.refused().retry_after_s == 10


async def test_who_stands_behind_others_for_too_long_is_refused() -> None:
    rig = LimitRig(rules=[{**RULE, "queue": "15s"}])
    rig.passes()

    first, second = follow(rig.wait(request())), follow(rig.wait(request()))
    await first

    with pytest.raises(Refused, match="rate limit slow"):
        await second
    assert rig.plugin._waiting.count == 0


async def test_number_of_waiting_requests_is_bounded() -> None:
    rig = LimitRig(rules=[{**RULE, "queue": "1000s"}], maxWaiting=2)
    rig.passes()
    waits = [follow(rig.wait(request())) for _ in range(2)]
    await asyncio.sleep(0)

    rig.refused()

    assert rig.plugin._waiting.count == 2
    await asyncio.gather(*waits)


async def test_client_that_leaves_makes_room_in_the_line() -> None:
    never = asyncio.Event()
    rig = LimitRig(rules=[RULE])
    rig.passes()

    async def blocked(seconds: float) -> None:
        await never.wait()

    rig.plugin._waiting._sleep = blocked
    first, second = follow(rig.wait(request())), follow(rig.wait(request()))
    for _ in range(3):
        await asyncio.sleep(0)
    rig.plugin._waiting._sleep = rig.sleep

    first.cancel()
    await second

    assert first.cancelled()
    assert rig.now_s == BEGIN_S + 10
    assert not rig.plugin._waiting.count


async def test_waiting_request_goes_by_the_rules_in_force_when_its_turn_comes() -> None:
    rig = LimitRig(rules=[RULE])
    rig.passes()
    task = follow(rig.wait(request()))

    rig.change(rules=[{**RULE, "amount": 5}])
    await task

    assert rig.plugin.sets.general.rules[0].meters.popitem()[1].limit.amount == 5


async def test_another_rule_that_has_no_queue_refuses() -> None:
    rig = LimitRig(rules=[RULE, {"name": "fast", "amount": 3, "period": "1h", "algorithm": "fixed-window"}])
    rig.passes()
    task = follow(rig.wait(request()))
    await task
    other = follow(rig.wait(request()))
    await other

    assert "fast" in rig.refused().message


class TestLeakyBucket:
    async def test_crowd_goes_one_by_one(self) -> None:
        rig = LimitRig(perMinute=6, burstSize=4, algorithm="leaky-bucket")
        goes_s: list[float] = []
        answers = [rig.plugin.pre_request(request()) for _ in range(4)]
        rig.refused()

        for answer in answers:
            rig.now_s = BEGIN_S
            if answer is not None:
                await answer.awaitable
            goes_s.append(rig.now_s - BEGIN_S)

        assert goes_s == pytest.approx([0, 10, 20, 30], abs=1e-5)

    async def test_queue_of_a_rule_bounds_the_wait(self) -> None:
        rule = {"name": "even", "amount": 6, "algorithm": "leaky-bucket", "queue": "12s"}
        rig = LimitRig(rules=[rule])
        rig.passes()
        follow(rig.wait(request())).cancel()

        refused = rig.refused()

        assert refused.retry_after_s == pytest.approx(8)

    async def test_of_a_thousand_at_once_as_many_are_let_in_as_the_bucket_is_deep(self) -> None:
        rig = LimitRig(perMinute=100, burstSize=100, algorithm="leaky-bucket", maxWaiting=1000)
        waits = []

        def ask(exchange: Exchange) -> bool:
            try:
                answer = rig.plugin.pre_request(exchange)
            except Refused:
                return False
            if answer is not None:
                waits.append(follow(answer))
            return True

        assert sum(ask(request()) for _ in range(1000)) == 100
        await asyncio.gather(*waits)


async def test_requests_at_once_may_wait_for_another_to_end() -> None:
    rig = LimitRig(rules=[{"name": "par", "counts": "concurrent", "amount": 1, "queue": "5s"}])
    first = request()
    rig.passes(first)
    task = follow(rig.wait(request()))
    await asyncio.sleep(0)
    assert not task.done()

    rig.plugin.post_response(first)
    await task

    assert rig.now_s < BEGIN_S + 1


async def test_who_waited_for_a_place_still_queues_in_the_leaky_bucket() -> None:
    rig = LimitRig(
        rules=[
            {"name": "leaky", "amount": 1, "period": "1s", "burst": 10, "algorithm": "leaky-bucket"},
            {"name": "par", "counts": "concurrent", "amount": 1, "queue": "30s"},
        ]
    )
    first, second = request(), request()
    assert rig.plugin.pre_request(first) is None
    wait = rig.wait(second)
    task = follow(wait)
    rig.plugin.post_response(first)
    rig.naps.clear()

    await task

    assert max(rig.naps) == pytest.approx(1.0, abs=0.1)
    assert wait.deadline_s > 3600
    assert rig.plugin._waiting.count == 0
