"""Lifecycle, switching off and on, and admin routes (E1, E4, E7 of the fault list)."""

import asyncio
from typing import Any

import pytest

from proxy import hookimpl
from proxy.errors import ConfigError, Refused, UnknownPath
from proxy.host import manager, slot
from proxy.host.hooks import WINDOW
from proxy.plugin import AdminRequest, AdminRoute, Plugin, PluginConfig, PluginContext
from tests.proxy.host.rig import Rig, make_exchange

JOURNAL: list[str] = []


@pytest.fixture(autouse=True)
def _empty_journal() -> None:
    JOURNAL.clear()


class First(Plugin[PluginConfig]):
    name = "first"

    @hookimpl
    async def startup(self) -> None:
        JOURNAL.append("first up")
        self.task = self.context.spawn(asyncio.sleep(3600), name="first: background")

    @hookimpl
    async def shutdown(self) -> None:
        JOURNAL.append("first down")


class Second(Plugin[PluginConfig]):
    name = "second"

    @hookimpl
    def startup(self) -> None:
        JOURNAL.append("second up")

    @hookimpl
    async def shutdown(self) -> None:
        JOURNAL.append("second down")
        raise ValueError("cannot close")


class NoStart(Plugin[PluginConfig]):
    name = "no_start"

    @hookimpl
    async def startup(self) -> None:
        self.context.spawn(asyncio.sleep(3600), name="no_start: background")
        raise OSError("disk is full")


class Flaky(Plugin[PluginConfig]):
    """Fails while told to."""

    name = "flaky"
    pattern = "x"

    def __init__(self, config: PluginConfig, context: PluginContext) -> None:
        super().__init__(config, context)
        self.calls = 0
        self.pattern = type(self).pattern

    @hookimpl
    async def pre_request(self) -> None:
        self.calls += 1
        if self.pattern[(self.calls - 1) % len(self.pattern)] == "x":
            raise ValueError("flaky")

    @hookimpl
    def admin_routes(self) -> list[AdminRoute]:
        return [
            AdminRoute("GET", "/flaky/{id}", self.show, "With the request."),
            AdminRoute("POST", "/flaky/{id}", self.plain, "Without it."),
        ]

    async def show(self, request: AdminRequest) -> object:
        return request.params

    async def plain(self) -> object:
        return "plain"


def call(**params: str) -> AdminRequest:
    return AdminRequest("GET", "/", params, {}, None, {})


def route(rig: Rig, method: str, path: str) -> AdminRoute:
    (found,) = [each for each in rig.host.admin_routes() if (each.method, each.path) == (method, path)]
    return found


async def test_plugins_start_in_order_and_stop_in_reverse() -> None:
    rig = Rig(First, Second)

    await rig.host.start()
    task = rig.plugin("first").task
    await rig.host.stop()

    assert JOURNAL == ["first up", "second up", "second down", "first down"]
    assert task.cancelled()
    assert "cannot close" in rig.told("plugin_failed")[0].message


async def test_second_stop_does_nothing() -> None:
    rig = Rig(First)
    await rig.host.start()
    await rig.host.stop()

    await rig.host.stop()

    assert JOURNAL == ["first up", "first down"]


async def test_failing_startup_ends_the_start_and_names_the_plugin() -> None:
    rig = Rig(First, NoStart, Second)

    with pytest.raises(ConfigError, match="no_start failed in startup: OSError: disk is full") as refused:
        await rig.host.start()

    assert refused.value.faults[0].path == "plugins[1]"
    assert JOURNAL == ["first up", "first down"]
    assert all(len(each.instance.tasks) == 0 for each in rig.host._slots.values())


@pytest.mark.parametrize("hook", ["startup", "shutdown"])
async def test_hanging_lifecycle_hook_is_cut(monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    monkeypatch.setattr(manager if hook == "startup" else slot, f"{hook.upper()}_TIMEOUT_S", 0.01)

    async def hangs(self: Any) -> None:
        await asyncio.sleep(3600)

    class Hangs(Plugin[PluginConfig]):
        name = "hangs"

    setattr(Hangs, hook, hookimpl(hangs))
    rig = Rig(Hangs)

    if hook == "startup":
        with pytest.raises(ConfigError, match="over its budget"):
            await rig.host.start()
    else:
        await rig.host.start()
        await rig.host.stop()
        assert "over its budget" in rig.told("plugin_failed")[0].message


async def test_disabled_plugin_is_neither_started_nor_called() -> None:
    rig = Rig(First, Flaky, sections={name: PluginConfig(enabled=False) for name in ("first", "flaky")})

    await rig.host.start()

    assert JOURNAL == []
    assert rig.dispatch.pre_request == ()
    assert rig.host.switched_off == []


def test_plugin_that_cannot_be_made_ends_the_start() -> None:
    class Broken(Plugin[PluginConfig]):
        name = "broken"

        def __init__(self, config: PluginConfig, context: PluginContext) -> None:
            raise KeyError("limit")

    with pytest.raises(ConfigError, match="plugin broken cannot be made: KeyError"):
        Rig(Broken)


async def test_five_failures_in_a_row_switch_a_plugin_off() -> None:
    rig = Rig(Flaky)

    for _ in range(10):
        if rig.dispatch.pre_request:
            await rig.dispatch.run_pre_request(make_exchange())

    assert rig.plugin("flaky").calls == 5
    assert rig.host.switched_off == ["flaky"]
    assert rig.dispatch.pre_request == ()
    (event,) = rig.told("plugin_disabled")
    assert event.level == "WARN"
    assert "/plugins/flaky/enable" in event.message


async def test_half_of_the_calls_failing_switches_a_plugin_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flaky, "pattern", "x.")
    rig = Rig(Flaky)

    for _ in range(30):
        await rig.dispatch.run_pre_request(make_exchange())

    assert WINDOW <= rig.plugin("flaky").calls <= WINDOW + 1
    assert rig.host.switched_off == ["flaky"]


async def test_a_third_of_the_calls_failing_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flaky, "pattern", "x..")
    rig = Rig(Flaky)

    for _ in range(60):
        await rig.dispatch.run_pre_request(make_exchange())

    assert rig.host.switched_off == []


async def test_exchange_under_way_keeps_its_dispatch() -> None:
    rig = Rig(Flaky)
    under_way = rig.dispatch

    rig.host.disable("flaky")
    await under_way.run_pre_request(make_exchange())

    assert rig.plugin("flaky").calls == 1
    assert rig.dispatch is not under_way


async def test_operator_switches_a_plugin_on_again() -> None:
    rig = Rig(Flaky)
    for _ in range(5):
        await rig.dispatch.run_pre_request(make_exchange())

    shown = await route(rig, "POST", "/plugins/{name}/enable").handler(call(name="flaky"))
    await rig.dispatch.run_pre_request(make_exchange())

    assert shown["state"] == "on"  # type: ignore[index]  # JSON
    assert rig.plugin("flaky").calls == 6
    assert rig.host.switched_off == []


async def test_operator_switches_a_plugin_off() -> None:
    rig = Rig(Flaky)

    await route(rig, "POST", "/plugins/{name}/disable").handler(call(name="flaky"))
    shown: Any = await route(rig, "GET", "/plugins").handler(call())

    assert rig.host.switched_off == ["flaky"]
    assert (shown["plugins"][0]["state"], shown["plugins"][0]["reason"]) == ("switched_off", "by an operator's call")


async def test_enabling_what_cannot_be_enabled_says_why() -> None:
    rig = Rig(Flaky, sections={"flaky": PluginConfig(enabled=False)})

    with pytest.raises(UnknownPath, match="no plugin other; there are flaky"):
        rig.host.enable("other")
    with pytest.raises(Refused, match=r"set flaky\.enabled") as refused:
        rig.host.enable("flaky")
    assert refused.value.status == 409


async def test_what_each_hook_cost_is_shown() -> None:
    rig = Rig(Flaky)
    await rig.dispatch.run_pre_request(make_exchange())

    hooks: Any = rig.host.describe()["plugins"][0]["hooks"]  # type: ignore[index]  # JSON

    assert (hooks["pre_request"]["calls"], hooks["pre_request"]["errors"]) == (1, 1)
    assert 0 < hooks["pre_request"]["seconds"] < 1


async def test_routes_answer_with_and_without_the_request() -> None:
    rig = Rig(Flaky)

    assert await route(rig, "GET", "/flaky/{id}").handler(call(id="7")) == {"id": "7"}
    assert await route(rig, "POST", "/flaky/{id}").handler(call(id="7")) == "plain"


async def test_routes_of_a_switched_off_plugin_say_so() -> None:
    rig = Rig(Flaky)
    rig.host.disable("flaky")

    with pytest.raises(Refused) as refused:
        await route(rig, "GET", "/flaky/{id}").handler(call(id="7"))

    assert (refused.value.status, refused.value.code) == (404, "plugin_disabled")


@pytest.mark.parametrize("path", ["/flaky/{id}", "/flaky/{other}", "/plugins"])
def test_path_that_is_taken_ends_the_start(path: str) -> None:
    class Greedy(Plugin[PluginConfig]):
        name = "greedy"

        @hookimpl
        def admin_routes(self) -> list[AdminRoute]:
            return [AdminRoute("DELETE", path, self.show, "Taken.")]

        async def show(self) -> object:
            return None

    with pytest.raises(ConfigError) as refused:
        Rig(Flaky, Greedy)

    assert refused.value.faults[0].path == "plugins[1]"
    assert path in refused.value.faults[0].message


def test_junk_routes_end_the_start() -> None:
    class Junky(Plugin[PluginConfig]):
        name = "junky"

        @hookimpl
        def admin_routes(self) -> Any:
            return ["/path"]

    with pytest.raises(ConfigError, match="junky failed in admin_routes: TypeError"):
        Rig(Junky)


def test_skipped_hook_is_not_compiled() -> None:
    class Skips(Flaky):
        name = "skips"

        def skips(self) -> tuple[str, ...]:
            return ("pre_request",)

    assert Rig(Skips).dispatch.pre_request == ()
