"""When the store is left alone, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.store_models import StoreBreakerSettings
from proxy.shared.circuit import COOLDOWNS_TO_FORGET, Circuit


def circuit(failures: int = 3) -> Circuit:
    return Circuit(StoreBreakerSettings.model_validate({"failures": failures, "cooldown": 1, "maxCooldown": 10}))


def test_failures_in_a_row_open_it_once() -> None:
    made = circuit()
    era = made.era

    opened = [made.fail(era, 1.0) for _ in range(5)]

    assert opened == [False, False, True, False, False]
    assert made.is_open
    assert made.since_s == 1.0


def test_success_ends_a_row_of_failures() -> None:
    made = circuit()

    for _ in range(10):
        made.fail(made.era, 1.0)
        made.fail(made.era, 1.0)
        made.succeed(made.era)

    assert not made.is_open


def test_cooldown_doubles_while_it_is_tried_in_vain_up_to_its_limit() -> None:
    made = circuit()
    made.open(0.0)

    waits = []
    for _ in range(6):
        waits.append(made.cooldown_s)
        made.stay_open()

    assert waits == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("calm_s", "cooldown_s"), [(COOLDOWNS_TO_FORGET - 0.1, 2.0), (COOLDOWNS_TO_FORGET, 1.0)])
def test_circuit_that_opens_again_soon_stays_open_for_longer(calm_s: float, cooldown_s: float) -> None:
    made = circuit()
    made.open(0.0)
    made.close(1.0)

    made.open(1.0 + calm_s)

    assert made.cooldown_s == cooldown_s


def test_calls_from_before_it_closed_count_for_nothing() -> None:
    made = circuit()
    before = made.era
    made.open(0.0)
    made.close(1.0)

    assert not any(made.fail(before, 1.0) for _ in range(10))
    assert not made.is_open


def test_success_from_before_it_closed_does_not_end_a_row() -> None:
    made = circuit(failures=2)
    before = made.era
    made.open(0.0)
    made.close(1.0)

    made.fail(made.era, 1.0)
    made.succeed(before)

    assert made.fail(made.era, 1.0)


@given(st.lists(st.sampled_from(["fail", "succeed", "tried in vain", "tried well"]), max_size=60), st.integers(1, 4))
def test_it_opens_after_exactly_so_many_failures_in_a_row_whatever_happens(steps: list[str], failures: int) -> None:
    made, in_a_row = circuit(failures), 0

    for now_s, step in enumerate(steps):
        if step == "fail":
            in_a_row += not made.is_open
            assert made.fail(made.era, now_s) == (made.is_open and in_a_row == failures)
        elif step == "succeed":
            made.succeed(made.era)
            in_a_row = 0
        elif made.is_open and step == "tried in vain":
            made.stay_open()
        elif made.is_open:
            made.close(now_s)
            in_a_row = 0
        in_a_row = 0 if made.is_open else in_a_row
        assert in_a_row < failures
        assert 1 <= made.cooldown_s <= 10
