"""Changes that end by themselves: at their time, or when requests go worse than before."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from proxy.config.history import History
from proxy.config.revisions import Pending
from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.reload.rig import Clock, health, kinds
from tests.proxy.server.test_config_routes import CANARY, call, value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(clock: Clock) -> AsyncIterator[ProxyHarness]:
    """A proxy whose wall clock the test sets."""
    async with ProxyHarness(wall_clock=clock) as harness:
        yield harness


async def test_timed_change_ends_at_its_time(proxy: ProxyHarness) -> None:
    await proxy.start(max_queue=7)

    answer: Any = (await call(proxy, "PATCH", "/config?ttl=1s", {"maxQueue": 2})).json()
    during = await health(proxy)
    await until(lambda: proxy.app.configuration.standing.revision == 3, "the change has ended")

    assert answer["expiresAt"] is not None
    assert [(one["revision"], one["reverts"]) for one in during["expiring"]] == [(2, ["maxQueue"])]
    assert (await value(proxy, "maxQueue"), (await health(proxy))["expiring"]) == (7, [])
    newest: Any = (await call(proxy, "GET", "/deployments")).json()
    assert next((one["cause"], one["author"]) for one in newest["deployments"]) == ("timer", "timer")


async def test_timed_change_survives_a_restart_and_still_ends(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config?ttl=1s", {"maxQueue": 2})

    await proxy.restart()
    during, still = await health(proxy), await value(proxy, "maxQueue")
    await until(lambda: proxy.app.configuration.standing.revision == 3, "the change has ended")

    assert (still, [one["revision"] for one in during["expiring"]]) == (2, [2])
    assert await value(proxy, "maxQueue") == 1000


async def test_setting_the_wall_clock_neither_ends_a_change_nor_keeps_it(timed: ProxyHarness, clock: Clock) -> None:
    await timed.start()
    await call(timed, "PATCH", "/config?ttl=10m", {"maxQueue": 2})
    await call(timed, "PATCH", "/config?ttl=1s", {"maxConcurrency": 2})

    clock.now_s += 700
    await call(timed, "PATCH", "/config", {"queueTimeout": 5})
    clock.now_s -= 7000
    await until(lambda: timed.app.configuration.standing.revision == 5, "the second one has ended")

    assert (await value(timed, "maxQueue"), await value(timed, "maxConcurrency")) == (2, 100)


async def test_writing_a_timed_value_again_makes_it_stay_or_gives_it_a_new_time(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config?ttl=1m", {"maxQueue": 2, "maxConcurrency": 2})

    stays: Any = (await call(proxy, "PATCH", "/config", {"maxQueue": 2})).json()
    longer: Any = (await call(proxy, "PATCH", "/config?ttl=1h", {"maxConcurrency": 2})).json()
    pending = proxy.app.configuration.standing.pending
    await proxy.restart()

    assert (stays["changed"], longer["changed"], stays["expiresAt"]) == (False, False, None)
    assert [one.inverse for one in pending] == [{"maxConcurrency": None}]
    assert longer["expiresAt"] is not None
    assert [one["expiresAt"] for one in (await health(proxy))["expiring"]] == [longer["expiresAt"]]


async def test_end_that_fails_is_told_and_tried_again(proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.reload.pending.TRY_AGAIN_S", 0.1)
    await proxy.start()
    await call(proxy, "PATCH", "/config?ttl=1s", {"maxQueue": 2})

    def fail(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", fail)
        await until(lambda: "config_revert_failed" in kinds(proxy), "it is told")
        sick = await health(proxy)
        await asyncio.sleep(0.3)
    await until(lambda: proxy.app.configuration.standing.pending == (), "it has ended")

    assert (sick["status"], kinds(proxy).count("config_revert_failed")) == ("degraded", 1)
    assert (await value(proxy, "maxQueue"), (await health(proxy))["status"]) == (1000, "healthy")


async def test_guard_that_cannot_take_back_at_once_does_so_later(
    proxy: ProxyHarness, upstream: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reload.pending.TRY_AGAIN_S", 0.1)
    await proxy.start(providers={"x": upstream.provider(models=["m"])}, changes={"guardMinRequests": 5})
    await call(proxy, "PATCH", "/config?guard=1s", {"providers": {"x": {"baseUrl": "http://127.0.0.1:9/v1"}}})
    for _ in range(6):
        await proxy.chat("hello", model="m")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "as told")

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", fail)
        await until(lambda: "config_revert_failed" in kinds(proxy), "it is told")
    await until(lambda: proxy.app.configuration.standing.pending == (), "it is taken back")

    assert (await proxy.chat("hello", model="m")).status == 200


async def test_end_that_no_longer_fits_costs_no_other_change_at_a_restart(timed: ProxyHarness, clock: Clock) -> None:
    await timed.start()
    provider = {"type": "openai", "baseUrl": "http://127.0.0.1:9/v1"}
    await call(timed, "PATCH", "/config?ttl=1m", {"providers": {"p": provider}})
    await call(timed, "PATCH", "/config", {"models": {"a": ["p/m"]}, "maxQueue": 7})
    await timed.stop()
    clock.now_s += 100

    await timed.restart()
    await until(lambda: "config_revert_failed" in kinds(timed), "it is told")

    sick = await health(timed)
    assert await value(timed, "maxQueue") == 7
    assert (sick["status"], [one["revision"] for one in sick["expiring"]]) == ("degraded", [2])


async def test_rollback_to_a_revision_with_a_timed_change_lets_it_end(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config?ttl=2s", {"maxQueue": 2})

    reset: Any = (await call(proxy, "POST", "/reset")).json()
    await call(proxy, "POST", reset["undo"].partition(proxy.url)[2])
    back = await value(proxy, "maxQueue")
    await until(lambda: proxy.app.configuration.standing.pending == (), "it has ended")

    assert (back, await value(proxy, "maxQueue")) == (2, 1000)


async def test_timed_change_that_is_over_while_stopped_is_never_served(timed: ProxyHarness, clock: Clock) -> None:
    await timed.start()
    await call(timed, "PATCH", "/config?ttl=15m", {"maxQueue": 2})
    await call(timed, "PATCH", "/config", {"maxConcurrency": 2})
    await timed.stop()
    clock.now_s += 901

    await timed.restart()

    assert (await value(timed, "maxQueue"), await value(timed, "maxConcurrency")) == (1000, 2)
    assert (await health(timed))["expiring"] == []
    newest: Any = (await call(timed, "GET", "/deployments/4")).json()
    assert (newest["cause"], [one["path"] for one in newest["diff"]]) == ("timer", ["maxQueue"])


async def test_timed_change_of_a_secret_gives_the_old_one_back_after_a_restart(
    timed: ProxyHarness, clock: Clock, upstream: FakeProvider
) -> None:
    await timed.start(providers={"x": {**upstream.provider(models=["m"]), "apiKey": "sk-the-old-one-77"}})
    await call(timed, "PATCH", "/config?ttl=15m", {"providers": {"x": {"apiKey": CANARY}}})
    await timed.chat("hello", model="m")
    await timed.stop()
    clock.now_s += 901

    await timed.restart()
    await timed.chat("hello", model="m")

    assert [one.header("authorization") for one in upstream.requests] == [
        f"Bearer {CANARY}",
        "Bearer sk-the-old-one-77",
    ]


async def test_guarded_change_reverts_within_its_window(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"x": upstream.provider(models=["m"])}, changes={"guardMinRequests": 5})
    for _ in range(5):
        await proxy.chat("hello", model="m")

    await call(proxy, "PATCH", "/config?guard=2s", {"providers": {"x": {"baseUrl": "http://127.0.0.1:9/v1"}}})
    for _ in range(6):
        await proxy.chat("hello", model="m")
    await until(lambda: proxy.app.configuration.standing.revision == 3, "it is taken back")

    event = next(one for one in reversed(proxy.events.recent()) if one.kind == "config_changed")
    assert (event.level, event.fields["cause"]) == ("WARN", "guard")
    assert "the error rate went from 0.0% to 100.0% (6 requests)" in event.message
    assert (await proxy.chat("hello", model="m")).status == 200


async def test_guarded_change_that_does_no_harm_stays(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"x": upstream.provider(models=["m"])}, changes={"guardMinRequests": 5})

    await call(proxy, "PATCH", "/config?guard=1s", {"maxQueue": 3})
    for _ in range(6):
        await proxy.chat("hello", model="m")
    await until(lambda: "config_guard_passed" in kinds(proxy), "it has passed")
    await until(lambda: proxy.app.configuration.standing.pending == (), "nothing waits")
    await proxy.restart()

    assert (await value(proxy, "maxQueue"), (await health(proxy))["expiring"]) == (3, [])


async def test_guard_goes_on_after_a_restart(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"x": upstream.provider(models=["m"])}, changes={"guardMinRequests": 5})
    await call(proxy, "PATCH", "/config?guard=3s", {"providers": {"x": {"baseUrl": "http://127.0.0.1:9/v1"}}})

    await proxy.restart()
    for _ in range(6):
        await proxy.chat("hello", model="m")
    await until(lambda: proxy.app.configuration.standing.revision == 3, "it is taken back")

    assert (await proxy.chat("hello", model="m")).status == 200


async def test_end_that_changes_nothing_is_over(proxy: ProxyHarness, clock: Clock) -> None:
    await proxy.start(max_queue=7)
    configuration = proxy.app.configuration
    configuration.standing = replace(configuration.standing, pending=(Pending(1, clock.now_s, {"maxQueue": 7}),))

    configuration.start()

    await until(lambda: configuration.standing.pending == (), "it is over")
    assert configuration.standing.revision == 1


async def test_replacing_a_part_leaves_other_timed_changes_and_replacing_all_ends_them(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config?ttl=1h", {"maxQueue": 2})

    await call(proxy, "PUT", "/config/maxConcurrency", 9)
    left = (await health(proxy))["expiring"]
    await call(proxy, "PUT", "/config", (await call(proxy, "GET", "/config")).json())

    assert [one["reverts"] for one in left] == [["maxQueue"]]
    assert ((await health(proxy))["expiring"], await value(proxy, "maxQueue")) == ([], 2)


async def test_guard_whose_window_passed_while_the_process_was_stopped_watches_once_more(
    timed: ProxyHarness, upstream: FakeProvider, clock: Clock
) -> None:
    await timed.start(providers={"x": upstream.provider(models=["m"])}, changes={"guardMinRequests": 5})
    await call(timed, "PATCH", "/config?guard=3s", {"providers": {"x": {"baseUrl": "http://127.0.0.1:9/v1"}}})

    clock.now_s += 600
    await timed.restart()
    during = await health(timed)
    for _ in range(6):
        await timed.chat("hello", model="m")
    await until(lambda: timed.app.configuration.standing.revision == 3, "it is taken back")

    assert (during["revision"], len(during["expiring"])) == (2, 1)


async def test_change_with_a_time_and_a_guard_of_the_same_length_still_ends(proxy: ProxyHarness, clock: Clock) -> None:
    await proxy.start()

    answer: Any = (await call(proxy, "PATCH", "/config?ttl=1s&guard=1s", {"maxQueue": 2})).json()
    listed: Any = (await call(proxy, "GET", "/deployments")).json()
    await until(lambda: proxy.app.configuration.standing.pending == (), "both are over")

    ends = {key: answer[key] for key in ("expiresAt", "guardUntil")}
    assert None not in ends.values()
    assert {key: listed["deployments"][0][key] for key in ends} == ends
    assert await value(proxy, "maxQueue") == 1000


async def test_change_that_is_stuck_stays_told_whatever_else_changes(
    proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reload.pending.TRY_AGAIN_S", 0.1)
    await proxy.start()
    provider = {"type": "openai", "baseUrl": "http://127.0.0.1:9/v1"}
    await call(proxy, "PATCH", "/config?ttl=1s", {"providers": {"p": provider}})
    await call(proxy, "PATCH", "/config", {"models": {"b": ["p/m"]}})
    await until(lambda: "config_revert_failed" in kinds(proxy), "it is told")

    await call(proxy, "PATCH", "/config", {"maxConcurrency": 9})
    still = await health(proxy)
    await call(proxy, "DELETE", "/config/models/b")
    await until(lambda: proxy.app.configuration.standing.pending == (), "it has ended")

    assert still["status"] == "degraded"
    assert any("cannot be taken back" in problem for problem in still["problems"])
    assert (await health(proxy))["status"] == "healthy"


async def test_guarded_change_reverts_when_requests_get_slow(proxy: ProxyHarness) -> None:
    await proxy.start(changes={"guardMinRequests": 5})
    for _ in range(6):
        await proxy.chat("a question of several words", model="m", stream=True)

    await call(proxy, "PATCH", "/config?guard=2s", {"providers": {"echo": {"chunkDelay": "40ms"}}})
    for _ in range(6):
        await proxy.chat("a question of several words", model="m", stream=True)
    await until(lambda: proxy.app.configuration.standing.revision == 3, "it is taken back")

    event = next(one for one in reversed(proxy.events.recent()) if one.kind == "config_changed")
    assert (event.level, "the p95 latency went from" in event.message) == ("WARN", True)
    assert await value(proxy, "providers/echo/chunkDelay") == 0
