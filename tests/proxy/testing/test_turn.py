"""What a fault lets pass of a turn, byte by byte, and how chance is drawn."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.testing.fault import Direction, Fault, FaultKind, Mix
from proxy.testing.steps import Cut, Pause, Stall
from proxy.testing.turn import Move, Turn

FAULTS = [
    Fault.delay(1.0),
    Fault.delay(1.0, each_read=True),
    Fault.drip(3, 1.0),
    Fault.stall(),
    Fault.truncate(),
    Fault.reset(),
]


def make_turn(fault: Fault | None) -> tuple[Turn, list[FaultKind]]:
    struck: list[FaultKind] = []
    return Turn(fault, struck.append), struck


def moves(turn: Turn, *reads: int, direction: Direction = "down") -> list[Move]:
    """Ask as a link does, until a move stops it or all has passed."""
    made: list[Move] = []
    for read in reads:
        while True:
            move = turn.move(direction, read)
            if move == read == 0:
                break
            made.append(move)
            if isinstance(move, Cut | Stall):
                return made
            if isinstance(move, int):
                read -= move
    return made


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (None, [10, 10]),
        (Fault.delay(2), [Pause(2), 10, 10]),
        (Fault.delay(2, after_bytes=10), [10, Pause(2), 10]),
        (Fault.delay(2, each_read=True), [Pause(2), 10, Pause(2), 10]),
        (Fault.drip(8, 2, after_bytes=5), [5, Pause(2), 5, Pause(2), 8, Pause(2), 2]),
        (Fault.stall(), [Stall()]),
        (Fault.stall(4), [4, Stall()]),
        (Fault.truncate(10), [10, Cut("fin")]),
        (Fault.reset(13), [10, 3, Cut("rst")]),
        (Fault.reset(20), [10, 10, Cut("rst")]),
        (Fault.reset(21), [10, 10]),
        (Fault.reset(direction="up"), [10, 10]),
    ],
)
def test_moves_of_two_reads_of_ten_bytes(fault: Fault | None, wanted: list[Move]) -> None:
    turn, _ = make_turn(fault)

    assert moves(turn, 10, 10) == wanted


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_strikes_once_and_not_before_something_comes(fault: Fault) -> None:
    turn, struck = make_turn(fault)

    moves(turn, 10, direction="up")
    before = list(struck)
    moves(turn, 10, 10)

    assert (before, struck) == ([], [fault.kind])


def test_another_fault_counts_what_has_passed() -> None:
    turn, struck = make_turn(Fault.stall(5))
    moves(turn, 10)

    turn.switch(None)
    freed = moves(turn, 5)
    turn.switch(Fault.reset(12))

    assert freed == [5]
    assert moves(turn, 5) == [2, Cut("rst")]
    assert struck == ["stall", "reset"]


@given(
    st.sampled_from([Fault.delay, Fault.stall, Fault.truncate, Fault.reset]),
    st.integers(0, 50),
    st.lists(st.integers(1, 20), max_size=8),
)
def test_exactly_so_many_bytes_pass_however_they_arrive(make: type[Fault], after: int, reads: list[int]) -> None:
    fault = Fault.delay(1, after_bytes=after) if make == Fault.delay else make(after)
    turn, struck = make_turn(fault)

    made = moves(turn, *reads)

    passed = [move for move in made if isinstance(move, int)]
    total = sum(reads)
    assert sum(passed) == (total if fault.kind == "delay" else min(after, total))
    reached = total > after or (total == after > 0 and fault.kind != "delay")
    assert struck == ([fault.kind] if reached else [])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fault.reset(-1),
        lambda: Fault.stall(range(0)),
        lambda: Fault.stall(range(-1, 5)),
        lambda: Fault.delay(-0.1),
        lambda: Fault.drip(0, 1),
        lambda: Mix({Fault.reset(): 0.6, Fault.stall(): 0.5}),
        lambda: Mix({Fault.reset(): -0.1}),
        lambda: Mix({Fault.refuse(): 0.1}),
    ],
)
def test_nonsense_is_refused(make: type[Fault]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_shares_are_kept_and_the_same_seed_draws_the_same() -> None:
    mix = Mix({Fault.reset(range(100)): 0.1, Fault.stall(): 0.05, Fault.delay(1): 0.0})

    first, second = (random.Random(7) for _ in range(2))
    drawn = [mix.draw(first) for _ in range(20_000)]
    again = [mix.draw(second) for _ in range(20_000)]

    counts = Counter(fault and fault.kind for fault in drawn)
    assert drawn == again
    assert counts["reset"] / len(drawn) == pytest.approx(0.1, abs=0.01)
    assert counts["stall"] / len(drawn) == pytest.approx(0.05, abs=0.01)
    assert counts["delay"] == 0


def test_whole_share_spares_no_turn() -> None:
    mix = Mix({Fault.delay(n): 0.1 for n in range(10)})

    assert all(mix.draw(random.Random(seed)) for seed in range(500))


def test_range_is_drawn_anew_each_time() -> None:
    rng = random.Random(1)

    numbers = {Fault.reset(range(5, 8)).drawn(rng).after_bytes for _ in range(100)}

    assert numbers == {5, 6, 7}
