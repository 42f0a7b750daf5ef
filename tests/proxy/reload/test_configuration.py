"""A change is made whole or not at all, by whomever."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from proxy.config.edits import merging
from proxy.config.history import History
from proxy.reload.order import Order
from proxy.testing import ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until
from tests.proxy.reload.picky import PickyPlugin
from tests.proxy.reload.rig import PLUGINS, health, kinds
from tests.proxy.server.test_config_routes import call, errors, value

ORDER = Order("a test", "api")


@pytest.fixture(autouse=True)
def _empty_journal() -> None:
    PickyPlugin.journal.clear()


async def test_plugin_that_refuses_refuses_the_whole_change(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)
    dispatch = proxy.app.host.dispatch

    answer = await call(
        proxy, "PATCH", "/config", {"maxQueue": 3, "debug": {"enabled": True}, "picky": {"refuses": True, "size": 2}}
    )

    assert (answer.status, errors(answer)) == (422, [("picky", None)])
    assert "too picky for that" in answer.body.decode()
    assert (await value(proxy, "maxQueue"), await value(proxy, "debug/enabled")) == (1000, False)
    assert proxy.app.host.dispatch is dispatch
    assert (PickyPlugin.journal, proxy.app.configuration.standing.revision) == (["up 1"], 1)


async def test_change_reaches_only_the_plugin_whose_section_it_is(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)

    await call(proxy, "PATCH", "/config", {"debug": {"enabled": True}})
    before = list(PickyPlugin.journal)
    await call(proxy, "PATCH", "/config", {"picky": {"size": 5}})

    assert (before, PickyPlugin.journal) == (["up 1"], ["up 1", "1 to 5"])


async def test_plugin_is_switched_off_and_on_live(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)

    statuses = [(await call(proxy, "GET", "/picky")).status]
    for enabled in (False, True):
        await call(proxy, "PATCH", "/config", {"picky": {"enabled": enabled}})
        statuses.append((await call(proxy, "GET", "/picky")).status)

    assert PickyPlugin.journal == ["up 1", "down 1", "up 1"]
    assert statuses == [200, 404, 200]


async def test_plugin_that_is_made_anew_brings_its_routes(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"enabled": False})

    await call(proxy, "PATCH", "/config", {"picky": {"enabled": True, "route": "/elsewhere"}})

    assert [(await call(proxy, "GET", path)).status for path in ("/picky", "/elsewhere")] == [404, 200]


async def test_plugin_that_wants_a_route_of_the_core_is_refused_and_stopped(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"enabled": False})

    answer = await call(proxy, "PATCH", "/config", {"picky": {"enabled": True, "route": "/health"}})

    assert (answer.status, PickyPlugin.journal) == (422, ["up 1", "down 1"])
    assert "two admin routes want GET /health" in answer.body.decode()
    assert (await call(proxy, "GET", "/health")).status == 200


async def test_plugin_that_is_taken_off_the_list_takes_a_section_of_defaults_with_it(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)

    gone = await call(proxy, "PATCH", "/config", {"plugins": ["debug", "metrics", "balancer"]})
    section = await call(proxy, "GET", "/config/picky")

    assert (gone.status, section.status) == (200, 404)


async def test_section_that_says_something_is_not_lost_with_its_plugin(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"size": 3})

    kept = await call(proxy, "PATCH", "/config", {"plugins": ["debug", "keys", "balancer", "metrics"]})
    told = await call(proxy, "PATCH", "/config?dryRun=true", {"plugins": ["debug"], "picky": None})

    assert (kept.status, errors(kept), told.status) == (422, [("picky", None)], 200)


async def test_plugin_that_cannot_start_leaves_the_previous_configuration(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"enabled": False})

    answer = await call(proxy, "PATCH", "/config", {"maxQueue": 3, "picky": {"enabled": True, "refuses": True}})

    assert (answer.status, errors(answer)[0][0]) == (422, "picky")
    assert (await value(proxy, "maxQueue"), await value(proxy, "picky/enabled")) == (1000, False)


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(errno.ENOSPC, 507, "storage_full"), (errno.EDQUOT, 507, "storage_full"), (errno.EIO, 500, "storage_failed")],
)
async def test_change_that_cannot_be_written_down_is_not_made(
    proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch, number: int, status: int, code: str
) -> None:
    await proxy.start(plugins=PLUGINS)
    body = {"maxQueue": 3, "picky": {"size": 2}, "debug": {"enabled": True}}

    def fail(*arguments: object) -> None:
        raise OSError(number, "as told")

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", fail)
        refused = await call(proxy, "PATCH", "/config", body)
        sick = await health(proxy)
    journal = list(PickyPlugin.journal)
    unchanged = await value(proxy, "maxQueue")
    made = await call(proxy, "PATCH", "/config", body)

    document: Any = refused.json()
    assert (refused.status, document["code"], unchanged) == (status, code, 1000)
    assert (sick["status"], sick["revision"]) == ("degraded", 1)
    assert journal == ["up 1", "1 to 2", "2 to 1"]
    assert (made.status, await value(proxy, "maxQueue"), (await health(proxy))["status"]) == (200, 3, "healthy")


async def test_client_that_leaves_does_not_stop_its_change_half_way(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)
    for number in range(2, 12):
        async with RawClient(proxy.url) as client:
            body = orjson.dumps({"maxQueue": number, "picky": {"size": number}})
            await client.send(encode_request("PATCH", "/config", body, {}, host=proxy.url.partition("//")[2]))
            await asyncio.sleep(0.0005 * number)
            client.reset()
    await call(proxy, "PATCH", "/config", {"log": {"level": "warn"}})  # comes after all of them

    standing = proxy.app.configuration.standing
    assert standing.document.get("maxQueue", 1) == standing.document.get("picky", {}).get("size", 1)
    assert PickyPlugin.journal[-1].rpartition(" ")[2] == str(standing.document.get("maxQueue", 1))


class SlowDisk:
    """A history that writes nothing until it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_asked, self._may_write = threading.Event(), threading.Event()
        save = History.save

        def wait(*arguments: Any, **named: Any) -> Any:
            self.is_asked.set()
            assert self._may_write.wait(30)
            return save(*arguments, **named)

        monkeypatch.setattr(History, "save", wait)

    def let(self) -> None:
        self._may_write.set()


@pytest.fixture
async def slow_disk(proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SlowDisk]:
    """The disk of a proxy that has started."""
    await proxy.start()
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.let()


async def test_caller_that_is_cancelled_leaves_its_change_to_be_made(proxy: ProxyHarness, slow_disk: SlowDisk) -> None:
    calling = asyncio.ensure_future(proxy.app.configuration.change(merging((), {"maxQueue": 3}), ORDER))
    await until(slow_disk.is_asked.is_set, "it is about to be written")

    calling.cancel()
    await asyncio.wait([calling])
    slow_disk.let()

    await until(lambda: proxy.app.configuration.standing.revision == 2, "it is made")
    assert (calling.cancelled(), await value(proxy, "maxQueue")) == (True, 3)


async def test_end_of_the_process_waits_for_a_change_and_lets_none_begin(
    proxy: ProxyHarness, slow_disk: SlowDisk
) -> None:
    configuration = proxy.app.configuration
    changing = asyncio.ensure_future(configuration.change(merging((), {"maxQueue": 3}), ORDER))
    await until(slow_disk.is_asked.is_set, "it is about to be written")

    closing = asyncio.ensure_future(configuration.close())
    await asyncio.sleep(0.05)
    was_closed = closing.done()
    slow_disk.let()
    await closing
    late = asyncio.ensure_future(configuration.change(merging((), {"maxQueue": 4}), ORDER))
    await asyncio.wait([late], timeout=0.2)

    assert (was_closed, (await changing).revision) == (False, 2)
    assert (late.done(), configuration.standing.document["maxQueue"]) == (False, 3)
    late.cancel()


async def test_end_of_the_process_waits_no_longer_than_it_may(
    proxy: ProxyHarness, slow_disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.reload.configuration.LONGEST_GOODBYE_S", 0.05)
    changing = asyncio.ensure_future(proxy.app.configuration.change(merging((), {"maxQueue": 3}), ORDER))
    await until(slow_disk.is_asked.is_set, "it is about to be written")

    await proxy.app.configuration.close()

    assert (changing.done(), "config_cut" in kinds(proxy)) == (False, True)
    slow_disk.let()
    await changing


async def test_fifty_writers_with_if_match_lose_no_update(proxy: ProxyHarness) -> None:
    await proxy.start()
    wins = 0

    async def write(writer: int) -> None:
        nonlocal wins
        for _ in range(100):
            shown = await call(proxy, "GET", "/config")
            tag, document = shown.header("etag") or "", shown.json()
            counted = document["maxQueue"] + 1  # type: ignore[call-overload, index]  # JSON
            answer = await call(proxy, "PATCH", "/config", {"maxQueue": counted}, If_Match=tag)
            if answer.status == 200:
                wins += 1
                return
            assert answer.status == 412

    await asyncio.gather(*(write(number) for number in range(50)))

    shown: Any = (await call(proxy, "GET", "/config")).json()
    print(f"50 writers with If-Match: {wins} successes, {shown['$export']['revision'] - 1} increments")
    assert (wins, shown["$export"]["revision"], shown["maxQueue"]) == (50, 51, 1050)


async def test_too_many_waiting_changes_are_refused_at_once(
    proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proxy.start()
    monkeypatch.setattr("proxy.reload.configuration.MOST_WAITING", 3)

    answers = await asyncio.gather(*(call(proxy, "PATCH", "/config", {"maxQueue": number}) for number in range(20)))

    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert all(answer.header("retry-after") for answer in answers if answer.status == 503)
