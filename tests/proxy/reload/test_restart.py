"""What is in force survives a restart, whatever the state folder and the file look like then."""

from typing import Any

import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.proxy.reload.rig import PLUGINS, health, kinds
from tests.proxy.server.test_config_routes import CANARY, call, value


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
