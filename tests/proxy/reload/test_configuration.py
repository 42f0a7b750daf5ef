"""A change is made whole or not at all, by whomever; what is in force survives, and ends when it should."""

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from proxy.config.history import History
from proxy.testing import FakeProvider, Faults, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until
from tests.proxy.reload.picky import PickyPlugin
from tests.proxy.server.test_config_routes import CANARY, call, errors, value

PLUGINS = ["debug", "tests.proxy.reload.picky", "balancer", "metrics"]


class Clock:
    """The wall clock of a test."""

    def __init__(self) -> None:
        self.now_s = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(clock: Clock) -> AsyncIterator[ProxyHarness]:
    """A proxy whose wall clock the test sets."""
    async with ProxyHarness(wall_clock=clock) as harness:
        yield harness


@pytest.fixture(autouse=True)
def _empty_journal() -> None:
    PickyPlugin.journal.clear()


async def health(proxy: ProxyHarness) -> Any:
    return (await call(proxy, "GET", "/health")).json()


def kinds(proxy: ProxyHarness) -> list[str]:
    return [event.kind for event in proxy.events.recent()]


# -- whole or not at all -----------------------------------------------------------------------------------------------


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

    for enabled in (False, True):
        await call(proxy, "PATCH", "/config", {"picky": {"enabled": enabled}})

    assert PickyPlugin.journal == ["up 1", "down 1", "up 1"]


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


# -- after a restart ---------------------------------------------------------------------------------------------------


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


# -- changes that end by themselves ------------------------------------------------------------------------------------


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


# -- what runs meanwhile -----------------------------------------------------------------------------------------------


async def test_stream_goes_on_with_the_provider_that_a_change_took_away(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["one", " two", " three"], gate=gate)
    await proxy.start(providers={"x": upstream.provider(models=["m"])})
    running = asyncio.ensure_future(proxy.chat("hello", model="m", stream=True))
    await upstream.wait_for_request()

    await call(proxy, "PUT", "/config/providers", {"echo": {"type": "echo", "models": ["*"]}})
    gate.set()
    reply = await running

    assert (reply.status, reply.text) == (200, "one two three")
    await until(lambda: upstream.connections_open == 0, "its connection is closed when the stream has ended")


async def test_connections_stay_where_nothing_they_depend_on_changed(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"x": upstream.provider(models=["m"], apiKey="sk-one-aaaaaaaa")})
    await proxy.chat("hello", model="m")

    for change in (
        {"maxQueue": 3},
        {"providers": {"x": {"apiKey": "sk-two-bbbbbbbb", "weight": 2, "models": ["m", "n"]}}},
        {"providers": {"x": {"maxConcurrency": 3, "timeouts": {"idle": "5s"}}}},
    ):
        await call(proxy, "PATCH", "/config", change)
        await proxy.chat("hello", model="m")
    status: Any = (await call(proxy, "GET", "/providers/status")).json()
    await call(proxy, "PATCH", "/config", {"providers": {"x": {"keepAlive": "9s"}}})
    await proxy.chat("hello", model="m")

    anew: Any = (await call(proxy, "GET", "/providers/status")).json()
    assert status["providers"][0]["connections"] == {"idle": 1, "busy": 0, "opened": 1, "reused": 3}
    assert anew["providers"][0]["connections"] == {"idle": 1, "busy": 0, "opened": 1, "reused": 0}
    assert (status["providers"][0]["calls"], anew["providers"][0]["calls"]) == (4, 5)
    assert upstream.connections_open == 1
    keys = [one.header("authorization") for one in upstream.requests]
    assert keys == ["Bearer sk-one-aaaaaaaa"] * 2 + ["Bearer sk-two-bbbbbbbb"] * 3


async def test_lower_limit_counts_calls_of_the_revision_before(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["one"], faults=Faults(never_answer=True))
    await proxy.start(providers={"x": upstream.provider(models=["m"])})
    running = [asyncio.ensure_future(proxy.chat("hello", model="m", stream=True)) for _ in range(4)]
    await upstream.wait_for_request(4)

    await call(proxy, "PATCH", "/config", {"providers": {"x": {"maxConcurrency": 3, "queueSize": 0}}})
    fifth = await proxy.chat("hello", model="m")
    shown: Any = (await call(proxy, "GET", "/providers/status")).json()
    for task in running:
        task.cancel()

    assert fifth.status == 503
    assert (shown["providers"][0]["inFlight"], upstream.requests_seen) == (4, 4)
    await asyncio.wait(running)
    await until(lambda: proxy.app.pipeline.in_flight == 0, "all have left")
    endpoint = proxy.app.pipeline.generation.endpoints["x"]
    assert endpoint.slots.in_use == 0


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def filed() -> AsyncIterator[ProxyHarness]:
    async with ProxyHarness(has_file=True) as harness:
        yield harness


async def test_edit_of_the_file_becomes_a_revision_within_a_second(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)  # for the watch to begin

    filed.write(max_queue=2)
    await until(lambda: filed.app.configuration.standing.revision == 2, "the edit is in force", timeout_s=1.0)

    newest: Any = (await call(filed, "GET", "/deployments/2")).json()
    assert (newest["cause"], newest["author"]) == ("file", "file")
    assert newest["diff"] == [{"path": "maxQueue", "old": 1, "new": 2}]


async def test_edit_that_is_not_valid_is_refused_and_told_everywhere(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)

    filed.config_path.write_text("server:\n  prot: 1\nmaxQueue: -5\n")
    await until(lambda: "config_refused" in kinds(filed), "it is refused", timeout_s=1.0)

    sick = await health(filed)
    issues: Any = (await call(filed, "GET", "/config/issues")).json()
    event = next(one for one in filed.events.recent() if one.kind == "config_refused")
    for told in (event.message, sick["problems"][0], issues["issues"][0]["message"]):
        assert f"{filed.config_path}:2: server.prot: is not a known key (did you mean port?)" in told
        assert f"{filed.config_path}:3: maxQueue: -5 is not at least 0" in told
    assert (event.level, sick["status"], sick["revision"]) == ("ERROR", "degraded", 1)
    assert await value(filed, "maxQueue") == 1

    filed.write(max_queue=4)
    await until(lambda: filed.app.configuration.standing.revision == 2, "mended", timeout_s=1.0)
    assert (await health(filed))["status"] == "healthy"


async def test_link_that_a_container_platform_swaps_is_followed(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    folder, content = filed.config_path.parent, filed.config_path.read_text()
    for version, text in (("v1", content), ("v2", content.replace('"maxQueue": 1', '"maxQueue": 2'))):
        (folder / version).mkdir()
        (folder / version / "proxy.yaml").write_text(text)
    (folder / "..data").symlink_to("v1")
    (folder / "link").symlink_to("..data/proxy.yaml")
    (folder / "link").rename(filed.config_path)
    await asyncio.sleep(0.7)
    before = filed.app.configuration.standing.revision

    (folder / "..new").symlink_to("v2")
    (folder / "..new").rename(folder / "..data")

    await until(lambda: filed.app.configuration.standing.revision == 2, "the new version is in force", timeout_s=1.0)
    assert (before, await value(filed, "maxQueue")) == (1, 2)


async def test_file_that_was_edited_before_the_watch_began_is_found(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)

    filed.write(max_queue=2)  # at once: the watch has not begun

    await until(lambda: filed.app.configuration.standing.revision == 2, "it is in force", timeout_s=1.5)


async def test_watching_can_be_switched_off_live(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await call(filed, "PATCH", "/config", {"changes": {"watchFile": False}})

    filed.write(max_queue=2)
    await asyncio.sleep(1.0)

    assert await value(filed, "maxQueue") == 1


async def test_live_change_and_edit_of_other_keys_live_side_by_side(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1, changes={"watchFile": False})
    await call(filed, "PATCH", "/config?ttl=15m", {"maxConcurrency": 9, "maxQueue": 8})
    filed.write(max_queue=2, changes={"watchFile": False})

    await call(filed, "POST", "/deployments")

    assert (await value(filed, "maxConcurrency"), await value(filed, "maxQueue")) == (9, 2)
    assert [one["reverts"] for one in (await health(filed))["expiring"]] == [["maxConcurrency"]]


async def test_reset_goes_back_to_the_file_as_last_accepted(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1, changes={"watchFile": False})
    await call(filed, "PATCH", "/config", {"maxConcurrency": 9})
    filed.write(max_queue=2, changes={"watchFile": False})
    await call(filed, "POST", "/deployments")
    filed.config_path.write_text("maxQueue: -1")

    await call(filed, "POST", "/reset")

    assert (await value(filed, "maxConcurrency"), await value(filed, "maxQueue")) == (100, 2)
    assert filed.app.configuration.standing.overlay == {}
