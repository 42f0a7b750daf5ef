"""What is in force survives a restart, whatever the state folder and the file look like then."""

import asyncio
import errno
import socket
from typing import Any

import pytest

from proxy.app import App
from proxy.config.history import History
from proxy.errors import ConfigError
from proxy.testing import FakeProvider, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.reload.picky import PickyPlugin
from tests.proxy.reload.rig import PLUGINS, health, kinds
from tests.proxy.server.test_config_routes import CANARY, call, value


@pytest.fixture(autouse=True)
def _empty_journal() -> None:
    PickyPlugin.journal.clear()


async def test_live_changes_survive_a_restart_with_their_number(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start()
    provider = {**upstream.provider(models=["m"]), "apiKey": CANARY}
    await call(proxy, "PATCH", "/config", {"maxQueue": 3, "providers": {"x": provider}})
    before = (await call(proxy, "GET", "/config")).json()

    await proxy.restart()

    after = (await call(proxy, "GET", "/config")).json()
    await proxy.chat("hello", model="m")
    before.pop("$export"), after.pop("$export")  # type: ignore[union-attr, call-arg]  # JSON
    assert after == before
    assert proxy.app.configuration.standing.revision == 2
    assert upstream.requests[-1].header("authorization") == f"Bearer {CANARY}"


async def test_edit_while_stopped_goes_before_live_changes_of_the_same_key(proxy: ProxyHarness) -> None:
    await proxy.start(max_queue=1, max_concurrency=1)
    await call(proxy, "PATCH", "/config", {"maxQueue": 2, "maxConcurrency": 2})
    proxy.write(max_queue=3, max_concurrency=1)

    await proxy.restart()

    assert (await value(proxy, "maxQueue"), await value(proxy, "maxConcurrency")) == (3, 2)
    newest: Any = (await call(proxy, "GET", "/deployments/3")).json()
    assert (newest["cause"], newest["reason"]) == ("file", "edited while the program was stopped")


async def test_live_changes_that_no_longer_fit_are_set_aside(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)
    await call(proxy, "PATCH", "/config", {"picky": {"size": 2}, "maxQueue": 2})
    proxy.write(plugins=["metrics"])

    await proxy.restart()

    sick = await health(proxy)
    answer = await call(proxy, "PATCH", "/config", {"maxQueue": 5})
    assert (sick["status"], sick["revision"]) == ("degraded", 3)
    assert "live changes of revision 2 are set aside" in sick["problems"][0]
    assert "picky" in sick["problems"][0]
    assert "config_overlay_set_aside" in kinds(proxy)
    assert (answer.status, (await health(proxy))["status"]) == (200, "healthy")
    assert (await call(proxy, "GET", "/deployments/2")).status == 200


@pytest.mark.parametrize("damage", ["secrets.json", "revisions/00000002.json"])
async def test_damaged_state_never_keeps_it_from_starting(proxy: ProxyHarness, damage: str) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config", {"admin": {"token": None}, "providers": {"x": _keyed()}})
    await proxy.stop()
    (proxy.state_path / damage).write_bytes(b"\x00garbage")

    await proxy.restart()

    shown = await health(proxy)
    assert (shown["status"], shown["revision"] > 2) == ("degraded", "secrets" in damage)
    assert any("set aside" in problem for problem in shown["problems"])
    assert (await call(proxy, "PATCH", "/config", {"maxQueue": 5})).status == 200
    numbers = [path.name for path in (proxy.state_path / "revisions").glob("*.json")]
    assert f"{3 if 'revisions' in damage else 4:08d}.json" in numbers


def _keyed() -> dict[str, Any]:
    return {"type": "http", "baseUrl": "http://127.0.0.1:9", "apiKey": CANARY}


async def test_live_change_that_keeps_it_from_starting_is_set_aside(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"enabled": False})
    await call(proxy, "PATCH", "/config", {"maxQueue": 7, "picky": {"enabled": True}})
    PickyPlugin.fails = True
    try:
        await proxy.restart()
    finally:
        PickyPlugin.fails = False

    sick = await health(proxy)
    assert (sick["status"], await value(proxy, "maxQueue")) == ("degraded", 1000)
    assert "live changes of revision 2 are set aside: plugin picky failed in startup" in sick["problems"][0]


async def test_file_that_does_not_start_is_no_reason_to_set_anything_aside(proxy: ProxyHarness) -> None:
    PickyPlugin.fails = True
    try:
        with pytest.raises(ConfigError, match="picky failed in startup"):
            await proxy.start(plugins=PLUGINS)
    finally:
        PickyPlugin.fails = False

    assert not list((proxy.state_path / "revisions").glob("00000002.json"))


async def test_damage_that_is_found_while_it_runs_is_told_and_mended(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config", {"maxQueue": 7})
    (proxy.state_path / "revisions" / "00000002.json").write_bytes(b"{}")

    await call(proxy, "GET", "/deployments")
    sick = await health(proxy)
    await proxy.restart()

    assert (sick["status"], "is no whole revision" in sick["problems"][0]) == ("degraded", True)
    assert await value(proxy, "maxQueue") == 7


async def test_provider_that_the_file_sends_elsewhere_loses_the_key_that_was_given_live(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"p": upstream.provider(models=["m"], apiKey="sk-of-the-file-1")})
    await call(proxy, "PATCH", "/config", {"providers": {"p": {"apiKey": CANARY, "weight": 3}}})
    elsewhere = {**upstream.provider(models=["m"]), "baseUrl": f"{upstream.url}/else/v1", "apiKey": "sk-of-the-file-2"}
    proxy.write(providers={"p": elsewhere})

    await proxy.restart()
    await proxy.chat("hello", model="m")

    assert upstream.requests[-1].header("authorization") == "Bearer sk-of-the-file-2"
    assert await value(proxy, "providers/p/weight") == 1


async def test_document_that_would_not_be_read_again_is_refused(proxy: ProxyHarness) -> None:
    await proxy.start()
    patches = [{"models": {f"a{part}-{index}": ["echo/" + "m" * 990] for index in range(300)}} for part in range(6)]
    answers = [await call(proxy, "PATCH", "/config", patch) for patch in patches]
    revision = proxy.app.configuration.standing.revision
    await proxy.restart()

    assert {one.status for one in answers} == {200, 413}
    assert proxy.app.configuration.standing.revision == revision


async def test_address_that_is_taken_for_a_moment_costs_no_live_change(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config", {"maxQueue": 7})
    await proxy.stop()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="address already in use"):
            await App.begin(proxy.prepared(), port=taken.getsockname()[1])
    await proxy.restart()

    assert (await value(proxy, "maxQueue"), (await health(proxy))["status"]) == (7, "healthy")
    assert proxy.app.configuration.standing.revision == 2


async def test_live_address_that_is_taken_is_set_aside_with_the_rest(proxy: ProxyHarness) -> None:
    await proxy.start(server={"port": 0})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        await call(proxy, "PATCH", "/config", {"server": {"port": taken.getsockname()[1]}, "maxQueue": 7})
        await proxy.stop()

        app = await App.begin(proxy.prepared())
        standing, troubles = app.configuration.standing, app.configuration.record.troubles
        await app.stop()

    assert (standing.document.get("maxQueue"), list(troubles)) == (None, ["overlay_set_aside"])


async def test_start_that_fails_with_the_file_alone_too_changes_nothing_on_the_disk(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS)
    await call(proxy, "PATCH", "/config", {"maxQueue": 7})
    PickyPlugin.fails = True
    try:
        with pytest.raises(ConfigError, match="picky failed in startup"):
            await proxy.restart()
    finally:
        PickyPlugin.fails = False
    await proxy.restart()

    assert (await value(proxy, "maxQueue"), proxy.app.configuration.standing.revision) == (7, 2)


async def test_number_of_a_revision_that_could_not_be_written_is_given_to_no_other(
    proxy: ProxyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "as told")

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", fail)
        await proxy.start()
    sick = await health(proxy)
    changed: Any = (await call(proxy, "PATCH", "/config", {"maxQueue": 7})).json()

    assert (sick["status"], sick["revision"], changed["revision"]) == ("degraded", 1, 2)
    assert (await health(proxy))["status"] == "healthy"


async def test_loss_of_old_revisions_is_no_trouble_after_the_next_change(proxy: ProxyHarness) -> None:
    await proxy.start()
    await call(proxy, "PATCH", "/config", {"maxQueue": 7})
    (proxy.state_path / "revisions" / "00000001.json").write_bytes(b"{}")
    await call(proxy, "GET", "/deployments/1")
    sick = await health(proxy)

    await call(proxy, "PATCH", "/config", {"maxQueue": 8})

    assert (sick["status"], (await health(proxy))["status"]) == ("degraded", "healthy")


async def test_change_under_way_is_whole_before_the_process_ends(proxy: ProxyHarness) -> None:
    await proxy.start(plugins=PLUGINS, picky={"enabled": False})
    PickyPlugin.startup_s = 0.3
    try:
        changing = asyncio.ensure_future(call(proxy, "PATCH", "/config", {"picky": {"enabled": True}, "maxQueue": 7}))
        await until(lambda: "up 1" in PickyPlugin.journal, "the plugin starts")
        await proxy.stop()
        await asyncio.wait([changing])
    finally:
        PickyPlugin.startup_s = 0.0
    await proxy.restart()

    assert PickyPlugin.journal[:2] == ["up 1", "down 1"]
    assert (await value(proxy, "maxQueue"), await value(proxy, "picky/enabled")) == (7, True)
