"""Counting the recent requests in two halves."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.window import Window


def test_halves_move_on_and_old_ones_are_forgotten() -> None:
    window, seen = Window(10.0, 0.0), []

    for now_s in (1.0, 6.0, 11.0, 30.0):
        window.turn(now_s)
        window.requests += 1
        window.failed += 1
        seen.append(window.totals())

    assert seen == [(1, 1), (2, 2), (2, 2), (1, 1)]


def test_another_length_keeps_the_counts() -> None:
    window = Window(100.0, 0.0)
    window.requests = 7

    window.resettle(10.0, 1.0)
    window.turn(6.0)

    assert window.totals() == (7, 0)
    window.turn(11.0)
    assert window.totals() == (0, 0)


@given(st.lists(st.tuples(st.floats(0.0, 8.0), st.booleans()), max_size=60))
def test_it_counts_all_of_half_a_window_and_nothing_older_than_a_whole_one(steps: list[tuple[float, bool]]) -> None:
    window, now_s, past = Window(10.0, 0.0), 0.0, []

    for step_s, is_failed in steps:
        now_s += step_s
        window.turn(now_s)
        window.requests += 1
        window.failed += is_failed
        past.append((now_s, is_failed))

        requests, failed = window.totals()
        half = [bad for at_s, bad in past if at_s > now_s - 5.0 + 1e-9]
        whole = [bad for at_s, bad in past if at_s >= now_s - 10.0 - 1e-9]
        assert len(half) <= requests <= len(whole)
        assert sum(half) <= failed <= sum(whole)
