"""A plugin that refuses new settings undoes the whole change, the last step first."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy import hookimpl
from proxy.errors import ConfigError
from proxy.host import slot, transition
from proxy.plugin import AdminRoute, Plugin, PluginContext
from tests.proxy.host.changing import Journal, Sized, adapter, recorder, sizes
from tests.proxy.host.rig import Rig, make_exchange

STRAY: list[Callable[[], BaseException]] = [
    lambda: ValueError("words"),
    lambda: BaseException("words"),
    lambda: asyncio.CancelledError("words"),
    lambda: GeneratorExit("words"),
]


class Refuser(Plugin[Sized]):
    """Refuses in the way and at the size that a test sets."""

    name = "refuser"
    at = "startup"
    size = 13
    make_error: Callable[[], BaseException] = staticmethod(lambda: ValueError("words"))

    def __init__(self, config: Sized, context: PluginContext) -> None:
        super().__init__(config, context)
        self.task = None
        if config.size == self.size:  # also what a constructor should not start is ended
            self.task = context.spawn(asyncio.sleep(3600), name="refuser: background")
        self.meet("constructor")

    def meet(self, at: str) -> None:
        if (self.config.size, at) == (self.size, self.at):
            raise self.make_error()

    def skips(self) -> tuple[str, ...]:
        self.meet("skips")
        return ()

    @hookimpl
    def startup(self) -> None:
        self.meet("startup")

    @hookimpl
    def admin_routes(self) -> list[AdminRoute]:
        self.meet("admin_routes")
        path = "/one" if (self.config.size, self.at) == (self.size, "clash") else "/refuser"
        return [AdminRoute("GET", path, self.show, ".")]

    async def show(self) -> object:
        return None


async def started(*classes: type[Plugin[Any]]) -> Rig:
    rig = Rig(*classes)
    await rig.host.start()
    return rig


async def order_of(rig: Rig) -> list[str]:
    exchange = make_exchange()
    await rig.dispatch.run_pre_request(exchange)
    order: list[str] = exchange.notes["order"]
    return order


def others() -> set["asyncio.Task[Any]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]  # a test runs in a task


@pytest.mark.parametrize("make_error", STRAY)
@pytest.mark.parametrize("at", ["constructor", "skips", "startup", "admin_routes", "clash"])
async def test_refusal_names_plugin_section_and_reason_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, at: str, make_error: Callable[[], BaseException]
) -> None:
    monkeypatch.setattr(Refuser, "at", at)
    monkeypatch.setattr(Refuser, "make_error", staticmethod(make_error))
    journal: Journal = []
    rig = await started(recorder("one", journal), adapter("two", journal), Refuser, recorder("three", journal))
    dispatch, plugins, tasks = rig.dispatch, [each.plugin for each in rig.host._slots.values()], others()
    shown = rig.host.describe()["plugins"]

    with pytest.raises(ConfigError) as refused:
        await rig.host.prepare(sizes(one=13, two=13, refuser=13, three=13))

    (fault,) = refused.value.faults
    assert fault.path == "refuser"
    assert ("refuser wants /one, which one has" if at == "clash" else "words") in fault.message
    assert "plugin refuser" in fault.message
    assert rig.dispatch is dispatch
    assert [each.plugin for each in rig.host._slots.values()] == plugins
    assert others() == tasks
    assert [each["state"] for each in shown] == ["on"] * 4  # type: ignore[attr-defined]  # JSON
    assert await order_of(rig) == ["one 1", "two 1", "three 1"]
    assert rig.told("plugin_failed") == []
    await rig.host.stop()


async def test_what_was_done_is_undone_in_reverse_order() -> None:
    journal: Journal = []
    rig = await started(
        recorder("one", journal), adapter("two", journal), adapter("three", journal), Refuser, adapter("four", journal)
    )
    journal.clear()

    with pytest.raises(ConfigError):
        await rig.host.prepare(sizes(one=2, two=2, three=2, refuser=13, four=2))

    done = ["one 2 up", "two 1 -> 2", "three 1 -> 2"]
    assert journal == [*done, "three 2 -> 1", "two 2 -> 1", "one 2 down"]
    assert rig.plugin("two").config == rig.plugin("four").config == Sized()
    await rig.host.stop()


async def test_ready_change_can_be_undone() -> None:
    journal: Journal = []
    rig = await started(recorder("one", journal), adapter("two", journal))
    journal.clear()
    dispatch, tasks = rig.dispatch, others()

    ready = await rig.host.prepare(sizes(one=2, two=2))
    await ready.undo()

    assert journal == ["one 2 up", "two 1 -> 2", "two 2 -> 1", "one 2 down"]
    assert rig.dispatch is dispatch
    assert others() == tasks
    assert await order_of(rig) == ["one 1", "two 1"]
    assert [value.value for _, value in rig.metrics.gauge("one_size", "Size.").items()] == [1]
    assert rig.told("plugin_failed") == []

    rig.host.disable("one")
    retried = await rig.host.prepare(sizes(one=2))
    retried.commit()
    await retried.finish()

    assert await order_of(rig) == ["one 2", "two 1"]
    await rig.host.stop()


@pytest.mark.parametrize("make_error", STRAY)
@pytest.mark.parametrize("how", ["plain", "later"])
async def test_refusal_of_the_hook_itself_is_trusted_to_have_applied_nothing(
    how: str, make_error: Callable[[], BaseException]
) -> None:
    def plain(self: Any, config: Sized) -> None:
        asked.append(config.size)
        self.config = config
        raise make_error()

    async def later(self: Any, config: Sized) -> None:
        await asyncio.sleep(0)
        plain(self, config)

    asked: list[int] = []
    rig = await started(adapter("one", [], reconfigure=plain if how == "plain" else later))

    with pytest.raises(ConfigError, match=r"plugin one refuses its new settings: .*words") as refused:
        await rig.host.prepare(sizes(one=2))

    assert refused.value.faults[0].path == "one"
    assert asked == [2]
    assert rig.plugin("one").config == Sized()
    assert rig.count("errors", "one", "reconfigure") == 1
    await rig.host.stop()


async def test_hanging_hooks_are_cut_and_one_that_may_be_half_way_gets_its_old_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hangs(self: Any, config: Sized) -> None:
        asked.append(config.size)
        if config.size > 1:
            await asyncio.sleep(3600)

    async def slow_start(self: Any) -> None:
        if self.config.size > 1:
            await asyncio.sleep(3600)

    monkeypatch.setattr(transition, "CHANGE_TIMEOUT_S", 0.02)
    asked: list[int] = []
    rig = await started(adapter("one", [], reconfigure=hangs), recorder("two", [], startup=slow_start))
    plugin = rig.plugin("one")

    for section in ("one", "two"):
        with pytest.raises(ConfigError, match="over its budget of 20 ms") as refused:
            await rig.host.prepare(sizes(**{section: 2}))
        assert refused.value.faults[0].path == section

    assert (asked, rig.plugin("one")) == ([2, 1], plugin)
    assert rig.count("overruns", "one", "reconfigure") == rig.count("overruns", "two", "startup") == 1
    await rig.host.stop()


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_object_that_does_not_take_its_old_settings_again_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def one_way(self: Any, config: Sized) -> None:
        if config.size < self.config.size:
            if how == "raises":
                raise OSError("cannot shrink")
            await asyncio.sleep(3600)

    monkeypatch.setattr(transition, "CHANGE_TIMEOUT_S", 0.02)
    journal: Journal = []
    rig = await started(recorder("zero", journal), adapter("one", journal, reconfigure=one_way), Refuser)
    broken, routes = rig.plugin("one"), rig.host.admin_routes()

    with pytest.raises(ConfigError, match="refuser failed in startup"):
        await rig.host.prepare(sizes(zero=2, one=2, refuser=13))

    (event,) = rig.told("plugin_failed")
    assert (event.level, event.fields["plugin"]) == ("ERROR", "one")
    assert "does not take its old settings again and is made anew" in event.message
    assert rig.plugin("one") is not broken
    assert broken.task.cancelled()
    assert await order_of(rig) == ["zero 1", "one 1"]
    assert journal[-3:] == ["one 1 up", "one 2 down", "zero 2 down"]
    assert broken.seen == 0
    (show,) = [route for route in routes if route.path == "/one"]
    assert await show.handler(None) == 1
    await rig.host.stop()


@pytest.mark.parametrize(("on_failure", "off"), [("open", ["one"]), ("closed", [])])
async def test_object_that_cannot_even_be_made_anew_is_switched_off_unless_it_is_fail_closed(
    on_failure: Any, off: list[str]
) -> None:
    async def one_way(self: Any, config: Sized) -> None:
        if config.size < self.config.size:
            raise OSError("cannot shrink")

    async def starts_once(self: Any) -> None:
        starts.append(self)
        if len(starts) > 1:
            raise OSError("port is taken")

    starts: list[Any] = []
    kind = adapter("one", [], reconfigure=one_way, startup=starts_once)
    kind.on_failure = on_failure
    rig = await started(kind, Refuser)

    with pytest.raises(ConfigError, match="refuser failed in startup"):
        await rig.host.prepare(sizes(one=2, refuser=13))

    assert ["port is taken" in event.message for event in rig.told("plugin_failed")] == [False, True]
    assert (rig.host.switched_off, len(rig.dispatch.pre_request)) == (off, 1 - len(off))
    assert rig.plugin("one") is starts[0]
    await rig.host.stop()


async def test_cancelled_change_is_undone_before_the_cancellation_goes_on() -> None:
    async def waits(self: Any, config: Sized) -> None:
        journal.append(f"three {self.config.size} -> {config.size}")
        if config.size > 1:
            asked.set()
            await asyncio.sleep(3600)

    asked, journal = asyncio.Event(), Journal()
    rig = await started(recorder("one", journal), adapter("two", journal), adapter("three", journal, reconfigure=waits))
    journal.clear()
    tasks = others()

    preparing = asyncio.ensure_future(rig.host.prepare(sizes(one=2, two=2, three=2)))
    await asyncio.wait_for(asked.wait(), 1)
    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing

    done = ["one 2 up", "two 1 -> 2", "three 1 -> 2"]
    assert journal == [*done, "three 1 -> 1", "two 2 -> 1", "one 2 down"]
    assert others() == tasks
    assert rig.told("plugin_failed") == []
    assert await order_of(rig) == ["one 1", "two 1", "three 1"]
    await rig.host.stop()


async def test_second_cancellation_does_not_end_the_undoing() -> None:
    async def waits(self: Any, config: Sized) -> None:
        asked.put_nowait(config.size)
        await asyncio.sleep(3600)

    asked: asyncio.Queue[int] = asyncio.Queue()
    journal: Journal = []
    rig = await started(recorder("one", journal), adapter("two", journal, reconfigure=waits))
    broken = rig.plugin("two")

    preparing = asyncio.ensure_future(rig.host.prepare(sizes(one=2, two=2)))
    for size in (2, 1):
        assert await asyncio.wait_for(asked.get(), 1) == size
        preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing

    assert journal == ["one 1 up", "two 1 up", "one 2 up", "two 1 up", "two 1 down", "one 2 down"]
    assert rig.plugin("two") is not broken
    assert await order_of(rig) == ["one 1", "two 1"]
    await rig.host.stop()


async def test_calls_to_switch_off_while_a_change_is_refused_are_not_lost() -> None:
    async def calls(self: Any, config: Sized) -> None:
        rig.host.disable("one")
        raise ValueError("words")

    rig = await started(recorder("one", []), adapter("two", [], reconfigure=calls))

    with pytest.raises(ConfigError):
        await rig.host.prepare(sizes(one=2, two=2))

    assert rig.host.switched_off == ["one"]
    rig.host.enable("one")
    assert await order_of(rig) == ["one 1", "two 1"]
    await rig.host.stop()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_orders_to_end_the_process_pass(kind: type[BaseException]) -> None:
    def ends(self: Any, config: Sized) -> None:
        raise kind

    rig = await started(adapter("one", [], reconfigure=ends))

    with pytest.raises(kind):
        await rig.host.prepare(sizes(one=2))


async def test_junk_answer_of_a_lifecycle_hook_is_a_failure() -> None:
    def junk(self: Any, config: Sized) -> object:
        return [config]

    rig = await started(adapter("one", [], reconfigure=junk))

    with pytest.raises(ConfigError, match="reconfigure returned a list, not nothing"):
        await rig.host.prepare(sizes(one=2))
    await rig.host.stop()


async def test_plugin_that_was_not_changed_is_not_blamed_for_a_clash() -> None:
    def moves(self: Any) -> list[AdminRoute]:
        return [AdminRoute("GET", "/two" if self.config.size > 1 else "/one", self.show, ".")]

    rig = await started(recorder("one", [], admin_routes=moves), recorder("two", []))

    with pytest.raises(ConfigError, match="plugin one wants /two, which two has") as refused:
        await rig.host.prepare(sizes(one=2))

    assert [fault.path for fault in refused.value.faults] == ["one"]
    await rig.host.stop()


async def test_replaced_object_that_hangs_in_shutdown_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(self: Any) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(slot, "SHUTDOWN_TIMEOUT_S", 0.02)
    rig = await started(recorder("one", [], shutdown=hangs))

    ready = await rig.host.prepare(sizes(one=2))
    ready.commit()
    await ready.finish()

    assert "failed in shutdown: TimeoutError: over its budget of 20 ms" in rig.told("plugin_failed")[0].message
    await rig.host.stop()
