"""When a window of requests counts as worse than the one before."""

import pytest

from proxy.metrics import LATENCY_BUCKETS_S
from proxy.reload.vitals import STEP_S, Totals, Vitals, Window, verdict


def counts(**at: int) -> tuple[int, ...]:
    """Requests by bucket: `b3=10` puts ten into the fourth."""
    return tuple(at.get(f"b{index}", 0) for index in range(len(LATENCY_BUCKETS_S) + 1))


GOOD = Window(100, 0.0, 0.1)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (GOOD, Window(100, 0.0, 0.1), None),
        (GOOD, Window(100, 0.05, 0.1), "error rate went from 0.0% to 5.0%"),
        (GOOD, Window(100, 0.01, 0.1), None),  # one error in a hundred can be chance
        (Window(100, 0.2, 0.1), Window(100, 0.29, 0.1), None),  # less than half as bad again
        (Window(100, 0.2, 0.1), Window(100, 0.31, 0.1), "error rate"),
        (GOOD, Window(100, 0.0, 0.16), "p95 latency went from 100 ms to 160 ms"),
        (GOOD, Window(100, 0.0, 0.14), None),
        (Window(100, 0.0, 0.001), Window(100, 0.0, 0.009), None),  # 8 ms are nothing
        (GOOD, Window(19, 1.0, 9.0), None),  # too few to tell
        (Window(0, 0.0, None), Window(20, 0.5, 9.0), "error rate"),
        (Window(0, 0.0, None), Window(20, 0.0, 9.0), None),  # nothing to compare with
        (Window(5, 0.0, 0.1), Window(20, 0.0, 9.0), None),
        (GOOD, Window(0, 0.0, None), None),
    ],
)
def test_window_is_judged_by_the_one_before(before: Window, after: Window, word: str | None) -> None:
    found = verdict(before, after, factor=1.5, least_requests=20)

    assert found is None if word is None else word in str(found)


def test_window_is_the_difference_of_two_totals() -> None:
    window = Window.between(Totals(10, 1, counts(b0=10)), Totals(30, 6, counts(b0=10, b6=20)))

    assert (window.requests, window.error_rate) == (20, 0.25)
    assert window.p95_s == pytest.approx(0.0975)
    assert Window.from_json(window.as_json()) == window


def test_window_without_requests_has_no_latency() -> None:
    window = Window.between(Totals(10, 1, counts(b0=10)), Totals(10, 1, counts(b0=10)))

    assert (window, Window.from_json(window.as_json())) == (Window(0, 0.0, None), Window(0, 0.0, None))


async def test_last_minutes_are_kept_by_steps() -> None:
    now_s, totals = 0.0, Totals(0, 0, counts())
    vitals = Vitals(lambda: totals, lambda: now_s)
    for step in range(300):
        now_s, totals = step * STEP_S, Totals(step, 0, counts(b0=step))
        vitals.start()
        vitals.stop()

    assert vitals.last(60.0).requests == 12
    assert vitals.last(62.0).requests == 13
    assert vitals.last(1e9).requests == 119  # no more is kept
