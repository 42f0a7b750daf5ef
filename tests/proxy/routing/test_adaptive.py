"""The adaptive limit finds what a provider bears, by simulation, and leaves a healthy one alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.adaptive import AimdLimit
from tests.proxy.routing.crowded_server import CrowdedServer

LATENCIES = st.floats(0, 1e5)


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("capacity", [4, 10, 30, 100])
def test_limit_settles_near_where_the_server_gets_slow(capacity: int, spread: float) -> None:
    server = CrowdedServer(AimdLimit(None), lambda _: capacity, spread=spread)

    server.run(1500)

    mean = server.mean(500, 1500)
    print(f"slow above {capacity}, spread {spread}: limit {mean:.1f}, at most {server.most(500, 1500)}")
    assert 0.7 * capacity < mean < 1.5 * capacity
    assert server.most(500, 1500) < 3 * capacity


@pytest.mark.parametrize("capacity", [1, 2, 4, 10, 30, 100])
def test_limit_settles_near_where_the_server_refuses(capacity: int) -> None:
    server = CrowdedServer(AimdLimit(None), lambda _: capacity, refuses=True, spread=0.5)

    server.run(1000)

    mean = server.mean(300, 1000)
    print(f"refuses above {capacity}: limit {mean:.1f}, at most {server.most(300, 1000)}")
    assert 0.75 * capacity < mean < 1.1 * capacity
    assert server.most(300, 1000) <= capacity + 1


def test_limit_follows_what_the_server_bears_down_and_up() -> None:
    server = CrowdedServer(AimdLimit(None), lambda now_s: 10 if 300 <= now_s < 600 else 40, refuses=True, spread=0.5)

    server.run(1000)

    means = [server.mean(200, 300), server.mean(330, 600), server.mean(700, 1000)]
    print(f"refuses above 40, 10, 40: limit {means[0]:.1f}, {means[1]:.1f}, {means[2]:.1f}")
    assert [round(mean / 40, 1) for mean in means] == pytest.approx([0.85, 0.2, 0.85], abs=0.1)


@pytest.mark.parametrize("spread", [0.5, 0.8, 1.2])
def test_healthy_server_keeps_nearly_all_of_its_limit_whatever_the_lengths_of_calls(spread: float) -> None:
    server = CrowdedServer(AimdLimit(100), spread=spread)

    server.run(1000)

    mean = server.mean(200, 1000)
    print(f"healthy, at most 100, spread {spread}: limit {mean:.1f}")
    assert mean > 90


def test_healthy_server_with_little_load_keeps_the_limit_it_began_with() -> None:
    server = CrowdedServer(AimdLimit(None), spread=1.2, demand=9, work_s=lambda now_s: 0.2 if now_s < 500 else 20.0)

    server.run(3000)

    assert server.changes == [(0.0, 20)]


@given(calls=st.lists(st.tuples(LATENCIES, st.integers(1, 9), st.floats(0, 100)), max_size=300))
def test_unused_limit_is_never_changed_by_latency(calls: list[tuple[float, int, float]]) -> None:
    limit, now_s = AimdLimit(None), 0.0

    for latency_s, in_flight, after_s in calls:
        now_s += after_s
        assert limit.observe(latency_s, in_flight, is_refused=False, now_s=now_s) == 20


def test_single_refusals_say_nothing() -> None:
    server = CrowdedServer(AimdLimit(100), spread=0.8, refused_share=0.01)

    server.run(1000)

    assert server.mean(200, 1000) > 90


def test_calls_that_take_longer_for_good_are_no_overload() -> None:
    server = CrowdedServer(AimdLimit(100), spread=0.8, work_s=lambda now_s: 2.0 if now_s < 400 else 8.0)

    server.run(1500)

    means = server.mean(300, 400), server.mean(400, 500), server.mean(600, 1500)
    print(f"4 times as long from 400 s on: limit {means[0]:.1f}, then {means[1]:.1f}, then {means[2]:.1f}")
    assert means[0] > 95
    assert means[1] > 50
    assert means[2] > 90


def refuse(limit: AimdLimit, in_flight: int, now_s: float) -> int:
    return [limit.observe(0.1, in_flight, is_refused=True, now_s=now_s) for _ in range(10)][-1]


def test_many_refusals_of_one_moment_cut_once() -> None:
    limit = AimdLimit(None)

    limits = [limit.observe(0.1, 20, is_refused=True, now_s=1.0) for _ in range(20)]

    assert limits == [20] * 5 + [14] * 15


def test_next_cut_waits_for_the_calls_above_the_limit_and_a_latency_more() -> None:
    limit = AimdLimit(None)
    for _ in range(19):
        limit.observe(2.0, 1, is_refused=False, now_s=1.0)

    assert refuse(limit, 20, 1.0) == 14
    assert refuse(limit, 15, 100.0) == 14
    assert refuse(limit, 14, 101.0) == 14
    assert refuse(limit, 14, 103.9) == 14
    assert refuse(limit, 14, 104.0) == 9


def test_limit_grows_only_when_half_of_it_is_used() -> None:
    limit = AimdLimit(None)

    assert [limit.observe(1.0, 9, is_refused=False, now_s=1.0) for _ in range(20)][-1] == 20
    assert [limit.observe(1.0, 10, is_refused=False, now_s=1.0) for _ in range(20)][-1] == 30


def test_growth_is_by_one_call_a_round_where_a_cut_was_needed() -> None:
    limit = AimdLimit(None)
    for _ in range(6):
        limit.observe(0.1, 20, is_refused=True, now_s=0.0)
    limit.observe(1.0, 14, is_refused=False, now_s=1.0)

    limits = [limit.observe(1.0, 14, is_refused=False, now_s=10.0) for _ in range(60)]

    assert limits == [14] * 19 + [15] * 20 + [16] * 20 + [17]


def test_limit_grows_fast_up_to_what_was_good_before_the_first_of_several_cuts() -> None:
    limit = AimdLimit(None)
    cuts = [refuse(limit, 1, now_s) for now_s in (0.0, 0.0, 10.0, 10.0, 20.0, 20.0)]
    assert cuts == [14, 14, 9, 9, 6, 6]

    limits = [limit.observe(1.0, limit.limit, is_refused=False, now_s=40.0) for _ in range(80)]

    assert limits[19::20] == [10, 15, 16, 17]


def test_single_refusal_after_a_cut_is_no_reason_for_another() -> None:
    limit = AimdLimit(None)
    for _ in range(6):
        limit.observe(0.1, 20, is_refused=True, now_s=0.0)
    limit.observe(0.1, 14, is_refused=True, now_s=0.0)

    assert limit.observe(0.1, 14, is_refused=True, now_s=10.0) == 14


def end_round(limit: AimdLimit, latency_s: float, now_s: float) -> int:
    limit.observe(latency_s, 1, is_refused=False, now_s=now_s)  # ends the draining, if there is one
    calls = max(20, limit.limit)
    return [limit.observe(latency_s, limit.limit, is_refused=False, now_s=now_s + 100) for _ in range(calls)][-1]


def test_cut_that_lowers_latency_stays() -> None:
    limit = AimdLimit(None)

    limits = [end_round(limit, latency_s, 200.0 * n) for n, latency_s in enumerate([1.0, 3.0, 1.0, 1.0, 1.7])]

    assert limits == [30, 15, 16, 17, 8]


def test_cut_in_vain_is_taken_back_and_that_latency_is_usual_from_then_on() -> None:
    limit = AimdLimit(None)

    limits = [end_round(limit, latency_s, 200.0 * n) for n, latency_s in enumerate([1.0, 3.0, 3.0, 4.5, 3.0, 6.0])]

    assert limits == [30, 15, 30, 31, 32, 16]


def test_cut_for_refusals_is_not_taken_back() -> None:
    limit = AimdLimit(20)
    assert [end_round(limit, 1.0, 0.0), end_round(limit, 3.0, 200.0)] == [20, 10]
    limit.observe(1.0, 1, is_refused=False, now_s=400.0)
    for _ in range(6):
        limit.observe(0.1, 1, is_refused=True, now_s=500.0)

    assert limit.limit == 7
    assert end_round(limit, 3.0, 600.0) == 3


def test_bounds_change_live() -> None:
    limit = AimdLimit(50, start=80)
    assert limit.limit == 50

    assert limit.resettle(10) == 10
    assert limit.resettle(None, least=12) == 12
    for _ in range(6):
        limit.observe(0.1, 12, is_refused=True, now_s=0.0)
    assert limit.limit == 12


@pytest.mark.parametrize(("most", "least"), [(None, 0), (3, 4)])
def test_bounds_that_leave_nothing_are_refused(most: int | None, least: int) -> None:
    with pytest.raises(ValueError, match=f"least is {least}; it must be from 1 to {most}"):
        AimdLimit(most, least=least)


@given(
    least=st.integers(1, 30),
    room=st.integers(0, 100) | st.none(),
    start=st.integers(1, 200),
    calls=st.lists(
        st.tuples(LATENCIES, st.integers(1, 200), st.booleans(), st.floats(0, 1e4), st.integers(1, 60)), max_size=60
    ),
)
def test_bounds_are_never_left(
    least: int, room: int | None, start: int, calls: list[tuple[float, int, bool, float, int]]
) -> None:
    most = None if room is None else least + room
    limit, now_s = AimdLimit(most, least=least, start=start), 0.0

    for latency_s, in_flight, is_refused, after_s, times in calls:
        for _ in range(times):
            now_s += after_s / times
            shown = limit.observe(latency_s, in_flight, is_refused=is_refused, now_s=now_s)
            assert shown == limit.limit
            assert least <= shown <= (most or shown)
