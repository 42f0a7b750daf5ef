"""New settings reach running plugins: in place, or by an object made anew, all at one moment."""

import asyncio
import time
from typing import Any

import pluggy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import hookimpl
from proxy.errors import Refused
from proxy.host.hook_rules import new_plugin_manager
from proxy.plugin import AdminRequest, AdminRoute, Plugin, PluginConfig, PluginContext
from tests.proxy.host.changing import Journal, Sized, adapter, recorder, sizes
from tests.proxy.host.rig import Rig, make_exchange

CALL = AdminRequest("GET", "/", {}, {}, None, {})


async def order_of(rig: Rig) -> list[str]:
    """What an exchange that begins now meets, in order."""
    exchange = make_exchange()
    await rig.dispatch.run_pre_request(exchange)
    order: list[str] = exchange.notes.get("order", [])
    return order


async def started(*classes: type[Plugin[Any]], **sections: PluginConfig) -> Rig:
    rig = Rig(*classes, sections=sections)
    await rig.host.start()
    return rig


async def change(rig: Rig, **sections: PluginConfig) -> None:
    transition = await rig.host.prepare(sections)
    transition.commit()
    await transition.finish()


async def answer(routes: list[AdminRoute], path: str) -> object:
    (found,) = [each for each in routes if each.path == path]
    return await found.handler(CALL)


async def test_same_settings_change_nothing() -> None:
    journal: Journal = []
    rig = await started(recorder("one", journal), adapter("two", journal))
    dispatch, plugin = rig.dispatch, rig.plugin("one")

    transition = await rig.host.prepare({"one": Sized(), "notLoaded": Sized(size=7)})
    transition.commit()
    await transition.finish()

    assert transition.changed == ()
    assert [route.path for route in transition.routes] == [route.path for route in rig.host.admin_routes()]
    assert (rig.dispatch, rig.plugin("one")) == (dispatch, plugin)
    assert journal == ["one 1 up", "two 1 up"]
    await rig.host.stop()


async def test_plugin_with_the_hook_goes_on_with_its_state() -> None:
    journal: Journal = []
    rig = await started(adapter("one", journal))
    await order_of(rig)
    plugin = rig.plugin("one")

    transition = await rig.host.prepare(sizes(one=2))
    transition.commit()
    await transition.finish()

    assert transition.changed == ("one",)
    assert rig.plugin("one") is plugin
    assert (plugin.config, plugin.seen, plugin.task.done()) == (Sized(size=2), 1, False)
    assert await order_of(rig) == ["one 2"]
    assert journal == ["one 1 up", "one 1 -> 2"]
    assert rig.count("calls", "one", "reconfigure") == 1
    await rig.host.stop()
    assert plugin.task.cancelled()


async def test_plugin_without_the_hook_is_made_anew_and_both_live_for_a_moment() -> None:
    journal: Journal = []
    rig = await started(recorder("one", journal))
    old = rig.plugin("one")

    transition = await rig.host.prepare(sizes(one=2))
    between = await order_of(rig)
    transition.commit()
    after = await order_of(rig)
    both = (old.task.done(), rig.plugin("one").task.done())
    await transition.finish()

    assert (between, after, both) == (["one 1"], ["one 2"], (False, False))
    assert journal == ["one 1 up", "one 2 up", "one 1 down"]
    assert old.task.cancelled()
    assert not rig.plugin("one").task.done()
    await rig.host.stop()


async def test_plugin_that_skips_the_hook_is_made_anew() -> None:
    journal: Journal = []
    rig = await started(adapter("one", journal, skips=lambda self: ("reconfigure",)))

    await change(rig, one=Sized(size=2))

    assert journal == ["one 1 up", "one 2 up", "one 1 down"]
    await rig.host.stop()


@pytest.mark.parametrize("make", [recorder, adapter])
async def test_switching_off_by_configuration_leaves_an_object_that_was_never_started(make: Any) -> None:
    journal: Journal = []
    rig = await started(make("one", journal))
    old = rig.plugin("one")

    await change(rig, one=Sized(enabled=False))
    await change(rig, one=Sized(enabled=False, size=3))

    assert journal == ["one 1 up", "one 1 down"]
    assert old.task.cancelled()
    assert rig.dispatch.pre_request == ()
    with pytest.raises(Refused, match="switched off"):
        await answer(rig.host.admin_routes(), "/one")

    await change(rig, one=Sized(size=4))

    assert journal[2:] == ["one 4 up"]
    assert await answer(rig.host.admin_routes(), "/one") == 4
    await rig.host.stop()


async def test_changes_are_made_ready_in_order_and_replaced_objects_stop_in_reverse() -> None:
    journal: Journal = []
    rig = await started(recorder("one", journal), adapter("two", journal), recorder("three", journal))
    journal.clear()

    transition = await rig.host.prepare(sizes(three=2, two=2, one=2))
    transition.commit()
    await transition.finish()

    assert transition.changed == ("one", "two", "three")
    assert journal == ["one 2 up", "two 1 -> 2", "three 2 up", "three 1 down", "one 1 down"]
    await rig.host.stop()


async def test_order_of_calls_is_kept_when_the_middle_one_is_replaced() -> None:
    journal: Journal = []
    rig = await started(*(recorder(name, journal) for name in ("one", "two", "three")))

    await change(rig, two=Sized(size=2))
    await change(rig, one=Sized(size=3))

    assert await order_of(rig) == ["one 3", "two 2", "three 1"]
    await rig.host.stop()


@given(st.lists(st.lists(st.sampled_from(["first", "", "last"]), min_size=1, max_size=2), min_size=1, max_size=5))
def test_order_of_calls_is_that_of_one_pluggy_manager(wishes: list[list[str]]) -> None:
    def plugin_of(index: int, wished: list[str]) -> type[Plugin[Any]]:
        class Made(Plugin[Sized]):
            name = f"p{index}"

        for number, wish in enumerate(wished):
            mark = hookimpl(specname="pre_request", tryfirst=wish == "first", trylast=wish == "last")
            setattr(Made, f"method_{number}", mark(lambda self, number=number: (self.name, number)))
        return Made

    rig = Rig(*(plugin_of(index, wished) for index, wished in enumerate(wishes)))
    pluggy_manager: pluggy.PluginManager = new_plugin_manager()
    for index in reversed(range(len(wishes))):
        pluggy_manager.register(rig.plugin(f"p{index}"))
    wanted = [each.function() for each in reversed(pluggy_manager.hook.pre_request.get_hookimpls())]

    assert [hook.call(None) for hook in rig.dispatch.pre_request] == wanted


async def test_exchange_under_way_keeps_the_objects_it_began_with() -> None:
    journal: Journal = []
    rig = await started(recorder("one", journal))
    under_way, old = rig.dispatch, rig.plugin("one")

    await change(rig, one=Sized(size=2))
    exchange = make_exchange()
    await under_way.run_pre_request(exchange)

    assert exchange.notes["order"] == ["one 1"]
    assert (old.seen, rig.plugin("one").seen) == (1, 0)
    await rig.host.stop()


async def test_routes_are_told_beforehand_and_follow_at_the_change() -> None:
    def routes(self: Any) -> list[AdminRoute]:
        return [
            AdminRoute("GET", "/one", self.show, "."),
            AdminRoute("GET", f"/one/{self.config.size}", self.show, "."),
        ]

    journal: Journal = []
    rig = await started(recorder("one", journal, admin_routes=routes))
    before = rig.host.admin_routes()

    transition = await rig.host.prepare(sizes(one=2))
    answers = [await answer(before, "/one")]
    transition.commit()
    answers += [await answer(routes, "/one") for routes in (before, transition.routes)]

    assert answers == [1, 2, 2]
    assert [each.path for each in transition.routes] == [each.path for each in rig.host.admin_routes()]
    assert transition.routes[-1].path == "/one/2"
    with pytest.raises(Exception, match="has no GET /one/1 any more"):
        await answer(before, "/one/1")
    await transition.finish()
    await rig.host.stop()


async def test_routes_are_asked_for_once_for_each_object() -> None:
    asked: list[int] = []

    def routes(self: Any) -> list[AdminRoute]:
        asked.append(self.config.size)
        return []

    rig = await started(adapter("one", [], admin_routes=routes), recorder("two", [], admin_routes=routes))

    await change(rig, **sizes(one=2, two=3))
    await change(rig, **sizes(one=4))

    assert asked == [1, 1, 3]
    await rig.host.stop()


async def test_what_a_plugin_skips_is_asked_again() -> None:
    def skips(self: Any) -> tuple[str, ...]:
        return ("pre_request",) if self.config.size > 1 else ()

    rig = await started(adapter("one", [], skips=skips), recorder("two", [], skips=skips))

    await change(rig, **sizes(one=2, two=2))
    skipped = rig.dispatch.pre_request
    await change(rig, **sizes(one=1, two=1))

    assert skipped == ()
    assert len(rig.dispatch.pre_request) == 2
    await rig.host.stop()


async def test_change_of_its_section_lets_a_plugin_in_again_and_no_other() -> None:
    rig = await started(recorder("one", []), adapter("two", []), recorder("three", []))
    for name in ("one", "two", "three"):
        rig.host.disable(name, "for a test")

    await change(rig, **sizes(one=2, two=2))

    assert rig.host.switched_off == ["three"]
    assert await order_of(rig) == ["one 2", "two 2"]
    assert [event.fields["plugin"] for event in rig.told("plugin_enabled")] == ["one", "two"]
    await rig.host.stop()


@pytest.mark.parametrize("make", [recorder, adapter])
async def test_calls_to_switch_off_and_on_meanwhile_are_not_lost(make: Any) -> None:
    rig = await started(make("one", []), make("two", []), make("three", []))
    rig.host.disable("three")

    transition = await rig.host.prepare(sizes(one=2))
    for name in ("one", "two"):
        rig.host.disable(name)
    rig.host.enable("three")
    transition.commit()
    await transition.finish()

    assert rig.host.switched_off == ["one", "two"]
    assert await order_of(rig) == ["three 1"]
    await rig.host.stop()


@pytest.mark.parametrize("make", [recorder, adapter])
async def test_last_of_the_calls_meanwhile_counts(make: Any) -> None:
    rig = await started(make("one", []))

    transition = await rig.host.prepare(sizes(one=2))
    rig.host.disable("one")
    rig.host.enable("one")
    transition.commit()
    await transition.finish()

    assert rig.host.switched_off == []
    assert await order_of(rig) == ["one 2"]
    await rig.host.stop()


async def test_call_to_switch_off_what_is_being_enabled_holds() -> None:
    rig = await started(recorder("one", []), one=Sized(enabled=False))

    transition = await rig.host.prepare(sizes(one=2))
    rig.host.disable("one", "not now")
    transition.commit()
    await transition.finish()

    assert rig.host.switched_off == ["one"]
    await rig.host.stop()


@pytest.mark.parametrize("make", [recorder, adapter])
async def test_failures_under_old_settings_do_not_count_against_the_new(make: Any) -> None:
    def fails(self: Any) -> None:
        if self.config.size == 1 or rig.dispatch is not under_way:
            raise ValueError("flaky")

    rig = await started(make("one", [], pre_request=fails))
    under_way = rig.dispatch
    for _ in range(4):
        await under_way.run_pre_request(make_exchange())

    await change(rig, one=Sized(size=2))
    for _ in range(4):
        await rig.dispatch.run_pre_request(make_exchange())
    for _ in range(4):
        await under_way.run_pre_request(make_exchange())

    assert rig.host.switched_off == []
    assert rig.count("errors", "one", "pre_request") == 12

    await rig.dispatch.run_pre_request(make_exchange())

    assert rig.host.switched_off == ["one"]
    await rig.host.stop()


async def test_metrics_go_on_and_read_the_new_object() -> None:
    rig = await started(recorder("one", []))
    gauge = rig.metrics.gauge("one_size", "Size.")

    transition = await rig.host.prepare(sizes(one=2))
    transition.commit()
    await transition.finish()

    assert rig.metrics.counter("one_made_total", "Made.").series().value == 2
    assert [value.value for _, value in gauge.items()] == [2]
    await rig.host.stop()


async def test_object_that_ended_can_start_nothing() -> None:
    rig = await started(recorder("one", []))
    old = rig.plugin("one")

    await change(rig, one=Sized(size=2))

    with pytest.raises(RuntimeError, match="one has ended, so it cannot start late"):
        old.context.spawn(asyncio.sleep(0), name="late")
    await rig.host.stop()


async def test_failing_shutdown_of_the_old_object_is_told_only() -> None:
    async def fails(self: Any) -> None:
        raise asyncio.CancelledError

    rig = await started(recorder("one", [], shutdown=fails), recorder("two", []))

    await change(rig, **sizes(one=2, two=2))

    assert ["one failed in shutdown" in event.message for event in rig.told("plugin_failed")] == [True]
    assert await order_of(rig) == ["one 2", "two 2"]
    await rig.host.stop()


async def test_cancelled_finish_still_ends_every_replaced_object() -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def hangs(self: Any) -> None:
        asked.put_nowait(self.name)
        await asyncio.sleep(3600)

    rig = await started(recorder("one", [], shutdown=hangs), recorder("two", [], shutdown=hangs))
    old = [rig.plugin(name).task for name in ("one", "two")]
    transition = await rig.host.prepare(sizes(one=2, two=2))
    transition.commit()

    finishing = asyncio.ensure_future(transition.finish())
    for name in ("two", "one"):
        assert await asyncio.wait_for(asked.get(), 1) == name
        finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing

    assert all(task.cancelled() for task in old)


async def test_making_objects_anew_leaves_the_loop_to_others_in_between() -> None:
    turns: list[int] = []

    def made(self: Any, config: Sized, context: PluginContext) -> None:
        Plugin.__init__(self, config, context)
        turns.append(0)
        asyncio.get_running_loop().call_soon(turns.append, 1)

    rig = await started(*(recorder(f"p{index}", [], __init__=made) for index in range(3)))
    await asyncio.sleep(0)
    turns.clear()

    await change(rig, **sizes(p0=2, p1=2, p2=2))

    assert turns == [0, 1, 0, 1, 0, 1]
    await rig.host.stop()


async def test_taking_over_is_quick() -> None:
    rig = await started(*(recorder(f"p{index}", []) for index in range(10)))
    transition = await rig.host.prepare({f"p{index}": Sized(size=2) for index in range(10)})

    began = time.perf_counter()
    transition.commit()
    took_s = time.perf_counter() - began
    await transition.finish()

    assert took_s < 0.01
    await rig.host.stop()
