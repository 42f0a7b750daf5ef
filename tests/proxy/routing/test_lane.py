"""How long a model takes lately: an average that follows peaks, and percentiles of the last minute."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.routing_models import BreakerSettings
from proxy.routing.lane import FORGETS_S, HALF_WINDOW_S, Lane, PeakAverage, Recent


def test_peak_counts_at_once_and_is_forgotten_within_seconds() -> None:
    average = PeakAverage()
    average.observe(0.1, 1.0)
    average.observe(5.0, 2.0)

    peak_s = average.value_s(2.0)
    for second in range(3, 43):
        average.observe(0.1, float(second))

    assert peak_s == 5.0
    assert 0.1 <= (average.value_s(42.0) or 0.0) < 0.3


def test_average_fades_while_nothing_is_seen_so_that_who_was_slow_is_tried_again() -> None:
    average = PeakAverage()
    assert average.value_s(1.0) is None

    average.observe(5.0, 1.0)

    assert (average.value_s(1.0 + 3 * FORGETS_S) or 0.0) < 0.3


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), min_size=1))
def test_average_never_leaves_what_was_seen(calls: list[tuple[float, float]]) -> None:
    average, now_s = PeakAverage(), 1.0
    for sample_s, pause_s in calls:
        now_s += pause_s
        average.observe(sample_s, now_s)

        value_s = average.value_s(now_s) or 0.0
        assert sample_s <= value_s * (1 + 1e-12)  # a rounding
        assert value_s <= max(sample for sample, _ in calls) * (1 + 1e-12)


def test_percentile_is_of_the_last_minute_only_and_needs_enough_calls() -> None:
    recent = Recent()
    for _ in range(19):
        recent.observe(0.04, 1.0)
    assert recent.quantile(0.5, 1.0, least=20) is None

    recent.observe(0.04, 1.0)
    soon, half_later = recent.quantile(0.5, 1.0, least=20), recent.quantile(0.5, 2.0 + HALF_WINDOW_S, least=20)

    assert soon is not None
    assert 0.025 < soon <= 0.05
    assert half_later == soon
    assert recent.quantile(0.5, 2.0 + 2 * HALF_WINDOW_S) is None


def test_streams_and_whole_replies_are_told_apart() -> None:
    lane = Lane("m", BreakerSettings())

    lane.observe(0.2, 9.0, 1.0, is_streaming=True)
    lane.observe(3.0, 4.0, 1.0, is_streaming=False)

    assert (lane.streams.value_s(1.0), lane.wholes.value_s(1.0)) == (0.2, 4.0)


@given(st.lists(st.floats(0.002, 250), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentile_is_within_a_quarter_of_the_true_one(values_s: list[float], share: float) -> None:
    recent = Recent()
    for value_s in values_s:
        recent.observe(value_s, 1.0)

    true_s = sorted(values_s)[max(ceil(share * len(values_s)) - 1, 0)]
    assert true_s / 1.26 <= (recent.quantile(share, 1.0) or 0.0) <= true_s * 1.26


def test_first_bytes_of_streams_and_of_whole_replies_have_percentiles_of_their_own_and_together() -> None:
    lane = Lane("m", BreakerSettings())
    for _ in range(20):
        lane.observe(0.2, 9.0, 1.0, is_streaming=True)
        lane.observe(3.0, 4.0, 1.0, is_streaming=False)

    def p90(is_streaming: bool | None) -> float:
        return lane.first_bytes.quantile(0.9, 1.0, least=20, is_streaming=is_streaming) or 0.0

    assert p90(True) < 0.3
    assert p90(False) > 2.0
    assert p90(None) > 2.0
    assert lane.first_bytes.quantile(0.5, 1.0, least=21, is_streaming=True) is None
    assert lane.first_bytes.quantile(0.5, 1.0, least=40) is not None


def test_call_that_was_given_up_makes_slower_and_never_quicker() -> None:
    lane = Lane("m", BreakerSettings())
    for _ in range(20):
        lane.observe(2.0, 2.0, 1.0, is_streaming=True)

    usual_s = lane.first_bytes.quantile(0.5, 1.0, is_streaming=True)
    for _ in range(40):
        lane.gave_up(0.5, 1.0, is_streaming=True)
    assert lane.first_bytes.quantile(0.5, 1.0, is_streaming=True) == usual_s
    after_short = lane.streams.value_s(1.0)
    lane.gave_up(3.0, 1.0, is_streaming=True)

    assert (after_short, lane.streams.value_s(1.0)) == (2.0, 3.0)
    assert lane.wholes.value_s(1.0) is None
    assert (lane.first_bytes.quantile(0.99, 1.0, is_streaming=True) or 0.0) > 2.4
