"""Whom plugins recognise a credential as, when an operator asks, and what becomes of one that fails."""

from typing import Any

import pytest

from proxy.callers import Identity
from tests.proxy.host.changing import Sized, recorder
from tests.proxy.host.rig import Rig

ANN = Identity("1", "ann")


def knows(**people: Identity) -> Any:
    return lambda self, text, is_credential: people.get(text) if is_credential else None


def test_first_enabled_plugin_that_knows_a_credential_tells() -> None:
    rig = Rig(
        recorder("silent", [], identify=knows()),
        recorder("off", [], identify=knows(a=Identity("0", "nobody"))),
        recorder("one", [], identify=knows(a=ANN)),
        recorder("two", [], identify=knows(a=Identity("2", "bob"), b=Identity("2", "bob"))),
        sections={"off": Sized(enabled=False)},
    )

    assert [rig.host.identify(each, True) for each in "abc"] == [ANN, Identity("2", "bob"), None]


@pytest.mark.parametrize("answer", ["ann", RuntimeError("words")])
def test_plugin_that_fails_is_told_counted_and_left_in(answer: object) -> None:
    def fails(self: Any, text: str, is_credential: bool) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    rig = Rig(recorder("one", [], identify=fails), recorder("two", [], identify=knows(a=ANN)))

    assert rig.host.identify("a", True) == ANN
    assert rig.count("errors", "one", "identify") == 1
    assert ["one failed in identify" in event.message for event in rig.told("plugin_failed")] == [True]
    assert rig.host.switched_off == []


def test_what_a_plugin_says_of_a_credential_it_fails_at_is_not_repeated() -> None:
    def fails(self: Any, text: str, is_credential: bool) -> Identity:
        people: dict[str, Identity] = {}
        return people[text]

    rig = Rig(recorder("one", [], identify=fails))

    assert rig.host.identify("vk-canary-of-identify", True) is None
    (event,) = rig.told("plugin_failed")
    assert "KeyError" in event.message
    assert "canary" not in event.message
