"""The waiting line: who is next, who makes room, and that nothing is kept of who has left."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.upstream.line import Line, Place
from tests.proxy.upstream.slow_line import SlowLine, Waiting

HIGH, NORMAL, LOW = 0, 1, 2


def make_line(*waiters: tuple[str, str | None, int]) -> Line[str]:
    line = Line[str](3)
    for waiter, caller, rank in waiters:
        line.join(waiter, caller, rank)
    return line


def serve(line: Line[str], times: int) -> list[str]:
    served = []
    for _ in range(times):
        place = line.first()
        assert place is not None
        line.serve(place)
        served.append(place.waiter)
    return served


def rival(line: Line[str], caller: str | None, rank: int) -> str | None:
    place = line.rival(caller, rank)
    return None if place is None else place.waiter


def test_one_caller_is_served_in_order_of_arrival() -> None:
    line = make_line(*((str(number), "a", NORMAL) for number in range(30)))

    assert serve(line, 30) == [str(number) for number in range(30)]
    assert (line.size, line.first()) == (0, None)


def test_callers_take_turns_and_each_keeps_its_order() -> None:
    line = make_line(("a1", "a", 1), ("a2", "a", 1), ("a3", "a", 1), ("none", None, 1), ("b1", "b", 1), ("b2", "b", 1))

    assert serve(line, 6) == ["a1", "none", "b1", "a2", "b2", "a3"]


def test_caller_that_comes_back_waits_for_its_turn() -> None:
    line = make_line(("a1", "a", 1), ("b1", "b", 1), ("b2", "b", 1))
    serve(line, 1)
    line.join("a2", "a", 1)

    assert serve(line, 3) == ["b1", "a2", "b2"]


def test_who_leaves_takes_no_turn_from_its_caller() -> None:
    line = Line[str](3)
    place = line.join("a1", "a", NORMAL)
    line.join("a2", "a", NORMAL)
    line.join("b1", "b", NORMAL)
    line.leave(place)
    line.leave(place)

    assert line.size == 2
    assert serve(line, 2) == ["a2", "b1"]


def test_higher_classes_go_first() -> None:
    line = make_line(("low", "a", LOW), ("normal", "a", NORMAL), ("high", "b", HIGH))

    assert serve(line, 3) == ["high", "normal", "low"]


@pytest.mark.parametrize(
    ("ranks", "shares"), [((HIGH, LOW), (70, 0, 10)), ((HIGH, NORMAL, LOW), (70, 5, 5)), ((NORMAL, LOW), (0, 70, 10))]
)
def test_each_eighth_served_is_of_the_class_served_the_longest_ago(
    ranks: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    line = Line[int](3)
    served: Counter[int] = Counter()
    for rank in ranks * 100:
        line.join(rank, "a", rank)

    for _ in range(80):
        place = line.first()
        assert place is not None
        line.serve(place)
        served[place.waiter] += 1

    assert tuple(served[rank] for rank in (HIGH, NORMAL, LOW)) == shares


def test_low_waiter_is_served_while_higher_ones_never_stop_coming() -> None:
    line = make_line(("low", "a", LOW))
    served: list[str] = []
    for _ in range(16):
        line.join("high", "b", HIGH)
        line.join("normal", "b", NORMAL)
        served += serve(line, 1)

    assert served == ["high"] * 7 + ["normal"] + ["high"] * 7 + ["low"]


def test_newcomer_takes_the_newest_place_of_the_caller_that_holds_most() -> None:
    line = make_line(("a1", "a", 1), ("a2", "a", 1), ("b1", "b", 1), ("a3", "a", 1))

    assert [rival(line, caller, NORMAL) for caller in ("c", "b", "a", None)] == ["a3", "a3", None, "a3"]


def test_lower_class_is_displaced_first_and_a_higher_one_never() -> None:
    line = make_line(("a high", "a", HIGH), ("a low", "a", LOW), ("a normal", "a", NORMAL), ("a high 2", "a", HIGH))
    assert [rival(line, "b", rank) for rank in (HIGH, NORMAL, LOW)] == ["a low", "a low", "a low"]

    line = make_line(("a high", "a", HIGH), ("a normal", "a", NORMAL), ("a high 2", "a", HIGH))
    assert [rival(line, "b", rank) for rank in (HIGH, NORMAL, LOW)] == ["a normal", "a normal", None]


def test_of_callers_that_hold_as_many_the_one_with_the_lowest_class_makes_room() -> None:
    line = make_line(("a low", "a", LOW), ("b normal", "b", NORMAL), ("c high", "c", HIGH))

    assert rival(line, "d", HIGH) == "a low"


def test_made_up_callers_displace_each_other_and_not_who_waits_longer() -> None:
    line = make_line(*((f"real {number}", f"real {number}", NORMAL) for number in range(5)))
    for number in range(100):
        place = line.rival(f"made up {number}", NORMAL)
        assert place is not None
        line.leave(place)
        line.join("made up", f"made up {number}", NORMAL)

    assert serve(line, 5) == ["real 0", "real 1", "real 2", "real 3", "made up"]


def test_nothing_is_kept_of_callers_that_left() -> None:
    line = Line[str](3)
    for number in range(1000):
        place = line.join("", f"made up {number}", number % 3)
        line.leave(place) if number % 2 else line.serve(place)

    crowd = line._crowd
    assert not any((*line._turns, crowd._standings, crowd._by_standing, crowd.most, line.size))


class LineMachine(RuleBasedStateMachine):
    """Whatever comes and goes, the line names the same next one and the same rival as the slow one does."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line[Waiting](3)
        self.slow = SlowLine()
        self.places: dict[Waiting, Place[Waiting]] = {}

    @rule(caller=st.sampled_from(["a", "b", "c", None]), rank=st.integers(0, 2))
    def join(self, caller: str | None, rank: int) -> None:
        one = Waiting(None, caller, rank)
        self.slow.join(one)
        self.places[one] = self.line.join(one, caller, rank)

    @precondition(lambda self: self.slow.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.slow.waiting))
        self.slow.leave(one)
        self.line.leave(self.places[one])

    @precondition(lambda self: self.slow.waiting)
    @rule(times=st.integers(1, 4))
    def serve(self, times: int) -> None:
        for _ in range(min(times, len(self.slow.waiting))):
            one, place = self.slow.first(), self.line.first()
            assert one is not None
            assert place is self.places[one]
            self.slow.serve(one)
            self.line.serve(place)

    @invariant()
    def agrees(self) -> None:
        first = self.slow.first()
        assert self.line.size == len(self.slow.waiting)
        assert self.line.first() is (None if first is None else self.places[first])
        for caller in ("a", "d", None):
            for rank in range(3):
                rival = self.slow.rival(caller, rank)
                assert self.line.rival(caller, rank) is (None if rival is None else self.places[rival])


TestLine = LineMachine.TestCase
TestLine.settings = settings(max_examples=150, stateful_step_count=40)
