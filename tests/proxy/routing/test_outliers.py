"""Who is much slower than its rivals is left out for a while; never the last one."""

from proxy.config.routing_models import BreakerSettings
from proxy.routing.lane import Lane
from proxy.routing.outliers import LOOK_EVERY_S, judge_lanes

SETTINGS = BreakerSettings()


def lanes(*usual_s: float, calls: int = 40) -> list[Lane]:
    found = []
    for value_s in usual_s:
        lane = Lane("m", SETTINGS)
        for _ in range(calls):
            lane.first_bytes.wholes.observe(value_s, 1.0)
        found.append(lane)
    return found


def out(found: list[Lane], now_s: float = 10.0) -> list[bool]:
    judge_lanes(found, SETTINGS, now_s)
    return [lane.slow_until_s > now_s for lane in found]


def test_one_that_is_five_times_as_slow_is_left_out_for_a_window_with_the_reason() -> None:
    found = lanes(8.0, 0.4, 0.3)

    assert out(found) == [True, False, False]
    assert found[0].slow_until_s == 10.0 + SETTINGS.window
    assert "usual time to first byte" in found[0].slow_reason


def test_slower_by_less_than_a_second_is_no_reason() -> None:
    assert out(lanes(0.4, 0.01)) == [False, False]


def test_twice_as_slow_is_no_outlier_wherever_the_times_fall() -> None:
    for theirs_s in (0.3, 0.99, 1.01, 2.4, 2.6, 4.99, 5.01, 9.9, 29.0):
        assert out(lanes(theirs_s * 2, theirs_s)) == [False, False]
        assert out(lanes(theirs_s * 7, theirs_s)) == [True, False]


def test_streams_are_not_compared_with_whole_replies() -> None:
    found = lanes(0.4, 8.0, calls=0)
    for _ in range(40):
        found[0].first_bytes.streams.observe(0.4, 1.0)
        found[1].first_bytes.wholes.observe(8.0, 1.0)

    assert out(found) == [False, False]


def test_one_that_is_slow_with_streams_is_left_out_though_it_is_quick_with_whole_replies() -> None:
    found = lanes(0.3, 0.3)
    for lane, value_s in zip(found, (6.0, 0.3), strict=True):
        for _ in range(40):
            lane.first_bytes.streams.observe(value_s, 1.0)

    assert out(found) == [True, False]


def test_too_few_calls_say_nothing() -> None:
    assert out(lanes(8.0, 0.4, calls=SETTINGS.min_requests - 1)) == [False, False]


def test_one_alone_is_never_left_out() -> None:
    assert out(lanes(50.0)) == [False]


def test_rivals_that_are_left_out_themselves_say_nothing() -> None:
    found = lanes(8.0, 0.3, 7.0)

    judge_lanes(found, SETTINGS, 10.0, absent=[found[1]])
    assert [lane.slow_until_s > 10.0 for lane in found] == [False, False, False]

    judge_lanes(found, SETTINGS, 20.0, absent=[found[2]])
    assert [lane.slow_until_s > 20.0 for lane in found] == [True, False, False]


def test_at_most_one_is_left_out_at_a_time() -> None:
    found = lanes(8.0, 9.0, 0.3)

    assert sum(out(found)) <= 1
    assert sum(out(found, 10.0 + 2 * LOOK_EVERY_S)) <= 1


def test_nothing_is_compared_more_than_once_a_second() -> None:
    found = lanes(0.3, 0.3)
    out(found)
    for _ in range(200):
        found[0].first_bytes.wholes.observe(8.0, 10.1)

    assert out(found, 10.0 + LOOK_EVERY_S / 2) == [False, False]
    assert out(found, 10.0 + LOOK_EVERY_S) == [True, False]


def test_switched_off_circuits_leave_nobody_out() -> None:
    found = lanes(8.0, 0.3)

    judge_lanes(found, BreakerSettings.model_validate({"enabled": False}), 10.0)

    assert found[0].slow_until_s == 0.0


def test_one_that_comes_back_is_judged_by_new_calls_only() -> None:
    found = lanes(8.0, 0.3)
    out(found)

    assert found[0].first_bytes.quantile(0.5, 11.0) is None
