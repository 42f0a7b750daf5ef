"""Every change is a revision with who, why and what, and each of them can be brought back."""

from typing import Any

import pytest

from proxy.testing import FakeProvider, ProxyHarness
from tests.proxy.server.test_config_routes import CANARY, call, value


@pytest.fixture
async def running(proxy: ProxyHarness) -> ProxyHarness:
    await proxy.start()
    return proxy


async def listed(proxy: ProxyHarness) -> Any:
    return (await call(proxy, "GET", "/deployments")).json()


async def test_each_change_is_listed_with_its_circumstances_newest_first(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxQueue": 5, "maxConcurrency": 6}, X_Reason="too slow", X_Author="ann")
    await call(running, "POST", "/reset", X_Reason="\u00e9t\u00e9 \u202e".encode().decode("latin-1"))

    found = await listed(running)

    told = [(one["id"], one["cause"], one["author"], one["reason"], one["changes"]) for one in found["deployments"]]
    assert found["current"] == 3
    assert told == [
        (3, "reset", "127.0.0.1", "été \\u202e", 2),
        (2, "api", "ann", "too slow", 2),
        (1, "start", "start", "first start", 0),
    ]
    assert [one["isCurrent"] for one in found["deployments"]] == [True, False, False]
    assert all(one["time"].endswith("Z") for one in found["deployments"])


async def test_one_revision_is_shown_whole_without_secrets(running: ProxyHarness, upstream: FakeProvider) -> None:
    await call(running, "PATCH", "/config", {"providers": {"x": {**upstream.provider(), "apiKey": CANARY}}})

    answer = await call(running, "GET", "/deployments/2")

    shown: Any = answer.json()
    assert [one["path"] for one in shown["diff"]] == ["providers.x"]
    assert list(shown["document"]["providers"]["x"]["apiKey"]) == ["$secret"]
    assert CANARY not in answer.body.decode()


async def test_difference_of_two_revisions_has_the_defaults(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxQueue": 5})
    await call(running, "PATCH", "/config", {"maxQueue": 6, "models": {"a": ["echo/x"]}})

    forward: Any = (await call(running, "GET", "/deployments/1/diff/3")).json()
    back: Any = (await call(running, "GET", "/deployments/3/diff/1")).json()

    assert forward == {
        "from": 1,
        "to": 3,
        "diff": [{"path": "maxQueue", "old": 1000, "new": 6}, {"path": "models.a", "old": None, "new": ["echo/x"]}],
    }
    assert {one["path"]: one["new"] for one in back["diff"]} == {"maxQueue": 1000, "models.a": None}


async def test_rollback_brings_a_revision_back_with_its_secrets(running: ProxyHarness, upstream: FakeProvider) -> None:
    provider = {**upstream.provider(models=["m"]), "apiKey": CANARY}
    await call(running, "PATCH", "/config", {"providers": {"x": provider}, "maxQueue": 5})
    before = running.app.configuration.standing.loaded
    await call(running, "PATCH", "/config", {"providers": {"x": None}, "maxQueue": 6, "maxConcurrency": 3})

    answer: Any = (await call(running, "POST", "/deployments/2/rollback", X_Reason="worse")).json()

    after = running.app.configuration.standing.loaded
    await running.chat("hello", model="m")
    assert (answer["revision"], sorted(one["path"] for one in answer["diff"])) == (
        4,
        ["maxConcurrency", "maxQueue", "providers.x"],
    )
    assert (after.settings, after.sections) == (before.settings, before.sections)
    assert upstream.requests[-1].header("authorization") == f"Bearer {CANARY}"
    assert (await listed(running))["deployments"][0]["cause"] == "rollback"


async def test_rollback_keeps_to_if_match_and_dry_run(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"maxQueue": 5})

    lost = await call(running, "POST", "/deployments/1/rollback", If_Match='"1"')
    dry: Any = (await call(running, "POST", "/deployments/1/rollback?dryRun=true")).json()

    assert (lost.status, dry["dryRun"], dry["diff"]) == (
        412,
        True,
        [{"path": "maxQueue", "old": 5, "new": 1000}],
    )
    assert await value(running, "maxQueue") == 5


@pytest.mark.parametrize("number", ["9", "0", "-1", "x", "1e3", "%2e%2e", "9" * 30, "\u0661"])
async def test_revision_that_is_not_there(running: ProxyHarness, number: str) -> None:
    number = number if number.isascii() else "%D9%A1"

    answers = [
        await call(running, method, f"/deployments/{number}{end}")
        for method, end in (("GET", ""), ("POST", "/rollback"), ("GET", "/diff/1"))
    ]

    assert [one.status for one in answers] == [404, 404, 404]


async def test_only_so_many_are_kept(running: ProxyHarness) -> None:
    await call(running, "PATCH", "/config", {"changes": {"keep": 3}})
    for number in range(5):
        await call(running, "PATCH", "/config", {"maxQueue": number})

    found = await listed(running)

    assert [one["id"] for one in found["deployments"]] == [7, 6, 5]
    gone = await call(running, "POST", "/deployments/2/rollback")
    assert (gone.status, "5 to 7 are kept" in gone.body.decode()) == (404, True)


async def test_without_a_file_there_is_nothing_to_deploy(running: ProxyHarness) -> None:
    assert (await call(running, "POST", "/deployments")).status == 409


async def test_file_is_deployed_by_a_call(upstream: FakeProvider) -> None:
    async with ProxyHarness(has_file=True) as proxy:
        await proxy.start(changes={"watchFile": False}, max_queue=5)
        await call(proxy, "PATCH", "/config", {"maxConcurrency": 3})
        proxy.write(changes={"watchFile": False}, max_queue=6, server={"port": 1})

        dry: Any = (await call(proxy, "POST", "/deployments?dryRun=true")).json()
        done: Any = (await call(proxy, "POST", "/deployments?restart=false", X_Reason="ticket 7")).json()

        assert [one["path"] for one in dry["diff"]] == ["server.port", "maxQueue"]
        assert (done["revision"], done["restartNeeded"], done["restarting"]) == (3, ["server.port"], False)
        assert (await value(proxy, "maxQueue"), await value(proxy, "maxConcurrency")) == (6, 3)
        newest = (await listed(proxy))["deployments"][0]
        assert (newest["cause"], newest["reason"]) == ("file", "ticket 7")


async def test_file_that_is_refused_is_told_to_the_caller_and_in_health() -> None:
    async with ProxyHarness(has_file=True) as proxy:
        await proxy.start(changes={"watchFile": False})
        proxy.write(changes={"watchFile": False}, max_queue=-6)

        refused = await call(proxy, "POST", "/deployments")
        sick: Any = (await call(proxy, "GET", "/health")).json()
        proxy.write(changes={"watchFile": False}, max_queue=6)
        await call(proxy, "POST", "/deployments")
        well: Any = (await call(proxy, "GET", "/health")).json()

        assert refused.status == 422
        assert f"{proxy.config_path}:" in refused.body.decode()
        assert (sick["status"], sick["revision"]) == ("degraded", 1)
        assert "maxQueue: -6 is not at least 0" in sick["problems"][0]
        assert (well["status"], well["problems"], well["revision"]) == ("healthy", [], 2)
