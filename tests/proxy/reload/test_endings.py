"""Changes that end by themselves: at their time, or when requests go worse than before."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

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


async def test_timed_change_survives_a_restart_and_still_ends(timed: ProxyHarness, clock: Clock) -> None:
    await timed.start()
    await call(timed, "PATCH", "/config?ttl=15m", {"maxQueue": 2})
    clock.now_s += 600

    await timed.restart()
    during = await health(timed)
    still = await value(timed, "maxQueue")
    clock.now_s += 301
    timed.app.configuration.start()  # its timer looks at the clock anew

    await until(lambda: timed.app.configuration.standing.revision == 3, "the change has ended")
    assert (still, [one["revision"] for one in during["expiring"]]) == (2, [2])
    assert await value(timed, "maxQueue") == 1000


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
