"""When new requests and large bodies are refused for want of memory, and how operators are told."""

import pytest

from proxy.errors import Overloaded
from proxy.events import Events
from proxy.server.gauge import Usage
from proxy.server.memory import QUIET_S, Memory
from tests.e2e.rig import until

MB = 1 << 20


class Machine:
    """A limit of 1,000 MB of which so much is in use, and a clock."""

    def __init__(self, used_mb: int = 100, percent: float = 95.0) -> None:
        self.used_mb = used_mb
        self.can_give_back_mb = 0
        self.now_s = 0.0
        self.percent = percent
        self.events = Events()
        self.memory = Memory(
            lambda: self.percent,
            self.events,
            clock=lambda: self.now_s,
            measure=self._measure,
            give_back=self._give_back,
        )

    def at(self, used_mb: int) -> bool:
        """Use so much, look, and tell whether requests are refused."""
        self.used_mb = used_mb
        self.memory.look()
        return self.memory.is_short

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.level, event.kind) for event in self.events.recent()]

    def _measure(self) -> Usage:
        return Usage(self.used_mb * MB, self.used_mb * MB, 1000 * MB, "container", growth=4)

    def _give_back(self) -> None:
        self.used_mb -= self.can_give_back_mb
        self.can_give_back_mb = 0


SHORT, RELIEVED = ("WARN", "memory_short"), ("INFO", "memory_relieved")


@pytest.mark.parametrize("percent", [95.0, 50.0, 1.0])
def test_requests_are_refused_above_the_limit_and_taken_again_a_twentieth_lower(percent: float) -> None:
    machine = Machine(percent=percent)

    refused = [machine.at(round(10 * percent * share)) for share in (1, 1.1, 0.99, 0.96, 0.9, 0.99)]

    assert refused == [False, True, True, True, False, False]


def test_each_change_is_told_once() -> None:
    machine = Machine()

    for used_mb in (960, 970, 980, 960, 500, 400, 300):
        machine.at(used_mb)

    assert machine.told == [SHORT, RELIEVED]


def test_message_names_use_limit_owner_and_setting() -> None:
    machine = Machine()

    machine.at(960)

    (event,) = machine.events.recent()
    assert event.message == (
        "memory is at 96% of the 1000.0MB of the container: new requests get 503 (server.shedMemoryPercent is 95)"
    )


def test_setting_changes_live() -> None:
    machine = Machine(used_mb=600)
    machine.memory.look()

    machine.percent = 50

    assert machine.at(600)


def test_what_can_be_given_back_is_before_anything_is_refused() -> None:
    machine = Machine()
    machine.can_give_back_mb = 400

    assert not machine.at(960)
    assert machine.told == []


def test_problem_is_shown_while_it_lasts() -> None:
    machine = Machine()
    before = machine.memory.problem()

    machine.at(960)
    during = machine.memory.problem()
    machine.at(100)

    assert (before, machine.memory.problem()) == (None, None)
    assert during is not None
    assert during.startswith("memory is at 96% of the 1000.0MB of the container")


def test_nothing_is_refused_where_no_limit_is_known() -> None:
    memory = Memory(lambda: 1.0, Events(), clock=lambda: 0.0, measure=lambda: Usage(1 << 40, 1 << 40, 0, "unknown"))

    memory.look()
    memory.take(1 << 40)

    assert not memory.is_short


# -- bodies ----------------------------------------------------------------------------------------------------------


def test_bodies_that_begin_together_pass_only_as_long_as_all_have_room() -> None:
    machine = Machine(used_mb=100)
    rooms = [machine.memory.room(100 * MB) for _ in range(3)]

    rooms[0].__enter__()
    rooms[1].__enter__()
    with pytest.raises(Overloaded) as refused:
        rooms[2].__enter__()

    assert refused.value.message.startswith("a request body of 100.0MB may take 400.0MB")
    assert refused.value.retry_after_s == QUIET_S
    assert not machine.memory.is_short


def test_body_that_has_come_is_counted_until_it_has_been_measured() -> None:
    machine = Machine(used_mb=100)
    machine.memory.take(150 * MB)

    machine.used_mb = 500
    with pytest.raises(Overloaded):
        machine.memory.take(150 * MB)
    machine.used_mb = 120
    machine.memory.take(150 * MB)

    assert machine.memory.refused == 1


def test_body_without_a_length_is_refused_when_it_grows_too_large() -> None:
    machine = Machine(used_mb=500)

    with machine.memory.room(0) as room:
        room.grow_to(50 * MB)
        room.grow_to(100 * MB)
        room.grow_to(100 * MB)
        with pytest.raises(Overloaded, match=r"a request body of 150\.0MB"):
            room.grow_to(150 * MB)

    machine.memory.look()
    machine.memory.take(100 * MB)


def test_refused_bodies_are_told_as_one_event_that_ends_when_none_was_refused_for_a_while() -> None:
    machine = Machine(used_mb=900)
    for _ in range(3):
        with pytest.raises(Overloaded):
            machine.memory.take(100 * MB)
    during = machine.memory.problem()
    machine.now_s = QUIET_S / 2
    machine.memory.look()
    early = machine.told

    machine.now_s = QUIET_S
    machine.memory.look()

    assert (early, machine.told) == ([SHORT], [SHORT, RELIEVED])
    assert during is not None
    assert "request bodies" in during
    assert machine.memory.problem() is None


async def test_timer_looks_until_it_is_stopped() -> None:
    machine = Machine(used_mb=960)
    machine.memory.start()

    await until(lambda: machine.memory.is_short, "a look of the timer")
    machine.memory.stop()

    assert machine.told == [SHORT]
