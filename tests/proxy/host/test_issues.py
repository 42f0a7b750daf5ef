"""What plugins find worth telling about their sections, and what becomes of a plugin that cannot tell."""

import asyncio
from typing import Any

import pytest

from proxy.plugin import Issue, PluginConfig
from tests.proxy.host.changing import Sized, recorder
from tests.proxy.host.rig import Rig

BIG = Issue("too_big", "warning", "one.size", "size is 9", "it is slow", {"one": {"size": 1}})


def tells(*issues: object) -> Any:
    return lambda self: list(issues)


def test_issues_come_in_the_order_of_the_list_from_enabled_plugins() -> None:
    other = Issue("other", "info", "", "m", "w", command="ls")
    rig = Rig(
        recorder("one", [], config_issues=tells(BIG)),
        recorder("off", [], config_issues=tells(BIG)),
        recorder("silent", [], config_issues=lambda self: ()),
        recorder("two", [], config_issues=tells(other)),
        sections={"off": Sized(enabled=False)},
    )

    assert rig.host.issues() == [BIG, other]


def test_plugin_that_was_switched_off_still_tells() -> None:
    rig = Rig(recorder("one", [], config_issues=tells(BIG)))
    rig.host.disable("one")

    assert rig.host.issues() == [BIG]


@pytest.mark.parametrize(
    "error", [ValueError("words"), asyncio.CancelledError("words"), BaseException("words"), GeneratorExit("words")]
)
@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_raising_plugin_is_told_counted_and_left_in(error: BaseException, on_failure: Any) -> None:
    def fails(self: Any) -> None:
        raise error

    kind = recorder("one", [], config_issues=fails)
    kind.on_failure = on_failure
    rig = Rig(kind, recorder("two", [], config_issues=tells(BIG)))

    answers = [rig.host.issues() for _ in range(30)]

    assert answers == [[BIG]] * 30
    assert rig.count("errors", "one", "config_issues") == rig.count("calls", "one", "config_issues") == 30
    assert ["one failed in config_issues" in event.message for event in rig.told("plugin_failed")] == [True]
    assert rig.host.switched_off == []


@pytest.mark.parametrize(
    "answer",
    [
        None,
        7,
        BIG,
        {BIG.kind: BIG},
        ["size is 9"],
        [BIG, None],
        [Issue("k", "fatal", "p", "m", "w")],  # type: ignore[arg-type]  # junk
        [Issue("k", [], "p", "m", "w")],  # type: ignore[arg-type]  # junk
        [Issue("k", "info", None, "m", "w")],  # type: ignore[arg-type]  # junk
        [Issue("k", "info", "p", "m", "w", ["size"])],  # type: ignore[arg-type]  # junk
        [Issue("k", "info", "p", "m", "w", command=b"ls")],  # type: ignore[arg-type]  # junk
    ],
)
def test_junk_answer_stands_for_no_issues(answer: object) -> None:
    rig = Rig(recorder("one", [], config_issues=lambda self: answer))

    assert rig.host.issues() == []
    assert rig.count("errors", "one", "config_issues") == 1


async def test_issues_are_about_the_settings_in_force() -> None:
    def tell(self: Any) -> list[Issue]:
        return [BIG] if self.config.size == 9 else []

    rig = Rig(recorder("one", [], config_issues=tell))
    await rig.host.start()
    sections: dict[str, PluginConfig] = {"one": Sized(size=9)}

    transition = await rig.host.prepare(sections)
    before = rig.host.issues()
    transition.commit()
    await transition.finish()

    assert (before, rig.host.issues()) == ([], [BIG])
    await rig.host.stop()
