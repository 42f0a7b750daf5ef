"""What plugins forget when an operator has everything forgotten, and what becomes of one that cannot."""

import asyncio
from typing import Any

import pytest

from tests.proxy.host.changing import Sized, recorder
from tests.proxy.host.rig import Rig


def answers(answer: object) -> Any:
    return lambda self: answer


async def test_enabled_plugins_tell_what_they_forgot() -> None:
    async def forgets(self: Any) -> dict[str, int]:
        await asyncio.sleep(0)
        return {"buckets": 3}

    rig = Rig(
        recorder("one", [], reset=answers({"entries": 12})),
        recorder("off", [], reset=answers({"entries": 1})),
        recorder("two", [], reset=forgets),
        recorder("silent", [], reset=answers(None)),
        sections={"off": Sized(enabled=False)},
    )

    assert await rig.host.reset() == {"one": {"entries": 12}, "two": {"buckets": 3}, "silent": {}}


@pytest.mark.parametrize("answer", ["12", {"entries": "12"}, [1]])
async def test_answer_that_counts_nothing_is_told_as_an_error(answer: object) -> None:
    rig = Rig(recorder("one", [], reset=answers(answer)), recorder("two", [], reset=answers({"entries": 1})))

    told = await rig.host.reset()

    assert "not counts by name" in str(told["one"]["error"])
    assert told["two"] == {"entries": 1}


async def test_plugin_that_fails_is_named_and_left_in() -> None:
    def fails(self: Any) -> None:
        raise OSError("the disk is full")

    rig = Rig(recorder("one", [], reset=fails))

    told = await rig.host.reset()

    assert told == {"one": {"error": "OSError: the disk is full"}}
    assert rig.count("errors", "one", "reset") == 1
    assert rig.host.switched_off == []
