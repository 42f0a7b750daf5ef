"""The clock that is counted by: right, and never set back."""

import pytest

from plugins.rate_limit.wall_time import WallTime


class Clocks:
    def __init__(self) -> None:
        self.monotonic_s = 100.0
        self.wall_s = 1_790_000_000.0
        self.time = WallTime(lambda: self.monotonic_s, lambda: self.wall_s)

    def now_s(self) -> float:
        self.time.catch_up()
        return self.time.now_us() / 1e6


def test_it_is_the_wall_clock() -> None:
    clocks = Clocks()
    clocks.monotonic_s += 5
    clocks.wall_s += 5

    assert clocks.now_s() == 1_790_000_005


@pytest.mark.parametrize("step_s", [-3600, -0.5, 0.5])
def test_wall_clock_that_is_set_changes_nothing(step_s: float) -> None:
    clocks = Clocks()
    clocks.wall_s += step_s

    assert clocks.now_s() == 1_790_000_000


def test_machine_that_was_asleep_catches_up() -> None:
    clocks = Clocks()
    clocks.wall_s += 3600

    assert clocks.now_s() == 1_790_003_600
