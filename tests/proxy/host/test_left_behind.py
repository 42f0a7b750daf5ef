"""Nothing of a plugin's object outlives its replacement."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from proxy.errors import ConfigError
from proxy.plugin import PluginConfig
from tests.proxy.host.changing import Sized, adapter, living, recorder, sizes
from tests.proxy.host.rig import Rig


async def change(rig: Rig, sections: dict[str, PluginConfig]) -> None:
    transition = await rig.host.prepare(sections)
    transition.commit()
    await transition.finish()


async def test_replaced_object_is_let_go_also_by_those_who_keep_old_routes_and_the_transition() -> None:
    rig = Rig(recorder("one", []), recorder("two", []))
    await rig.host.start()
    old, task = weakref.ref(rig.plugin("one")), weakref.ref(rig.plugin("one").task)
    routes = rig.host.admin_routes()

    transition = await rig.host.prepare(sizes(one=2))
    transition.commit()
    await transition.finish()
    gc.collect()

    assert (old(), task()) == (None, None)
    assert len(routes) == len(transition.routes)
    assert len(asyncio.all_tasks()) == 3  # this one, and one of each plugin
    await rig.host.stop()


async def test_object_of_an_undone_change_is_let_go() -> None:
    async def refuses(self: Any, config: Sized) -> None:
        seen.append(weakref.ref(rig.host._slots["one"].successor.plugin))  # type: ignore[union-attr]  # in a change
        raise ValueError("no")

    seen: list[Any] = []
    rig = Rig(recorder("one", []), adapter("two", [], reconfigure=refuses))
    await rig.host.start()

    with pytest.raises(ConfigError):
        await rig.host.prepare(sizes(one=2, two=2))
    gc.collect()

    assert [each() for each in seen] == [None]
    assert len(asyncio.all_tasks()) == 3
    await rig.host.stop()


async def test_object_whose_gauge_nobody_else_names_is_let_go_when_switched_off() -> None:
    async def names_gauge(self: Any) -> None:
        self.context.metrics.gauge("depth", "Depth.", read=lambda: self.seen)

    rig = Rig(recorder("one", [], startup=names_gauge))
    await rig.host.start()
    old = weakref.ref(rig.plugin("one"))

    await change(rig, {"one": Sized(enabled=False)})
    gc.collect()

    assert old() is None
    assert rig.metrics.gauge("depth", "Depth.").items() == []
    await rig.host.stop()


async def test_two_hundred_changes_leave_as_much_as_two() -> None:
    kinds = [recorder("one", []), adapter("two", []), recorder("three", [])]
    rig = Rig(*kinds)
    await rig.host.start()

    async def toggle(times: int) -> tuple[object, ...]:
        for _ in range(times):
            await change(rig, {name: Sized(enabled=False) for name in ("one", "two")})
            await change(rig, {**sizes(one=2, two=2)})
        counts = living(*kinds)
        series = sum(len(metric.items()) for metric in rig.metrics)
        return counts, len(asyncio.all_tasks()), len(rig.dispatch.pre_request), series, len(rig.host.admin_routes())

    once = await toggle(1)
    after = await toggle(100)

    assert after == once
    assert once[0] == {"Recorder": 3, "Slot": 3, "Instance": 3, "HookImpl": 0}
    await rig.host.stop()
