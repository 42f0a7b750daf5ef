"""What is remembered of requests that came before."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.repeats import MOST_KINDS, Kinds, Repeats, Sighting
from tests.plugins.cache.entries import digest


def test_request_is_known_by_how_often_and_at_what_interval_it_came() -> None:
    repeats = Repeats()

    sightings = [repeats.see(digest("a"), now_s) for now_s in (100.0, 110.0, 130.0)]

    assert sightings == [Sighting(1, 100.0), Sighting(2, 110.0, 10.0), Sighting(3, 130.0, 15.0)]
    assert repeats.look(digest("a")) == sightings[-1]
    assert repeats.look(digest("b")) is None


def test_interval_follows_a_change() -> None:
    repeats = Repeats()
    for number in range(100):
        repeats.see(digest("a"), number * 10.0)

    for number in range(60):
        repeats.see(digest("a"), 1000.0 + number * 100.0)

    sighting = repeats.look(digest("a"))
    assert sighting is not None
    assert sighting.interval_s == pytest.approx(100.0, abs=1.0)


def test_many_at_once_are_one_asking() -> None:
    repeats = Repeats()

    for number in range(1000):
        repeats.see(digest("a"), 100.0 + number / 2000)

    assert repeats.look(digest("a")) == Sighting(1, 100.0)


def test_clock_that_goes_back_gives_no_negative_interval() -> None:
    repeats = Repeats()

    repeats.see(digest("a"), 100.0)
    repeats.see(digest("a"), 50.0)

    assert repeats.see(digest("a"), 60.0) == Sighting(2, 60.0, 10.0)


def test_what_comes_again_outlasts_ten_times_as_many_that_come_once() -> None:
    repeats, random = Repeats(slots=1024), Random(1)
    often = [digest(number) for number in range(200)]

    for number in range(10_240):
        repeats.see(digest(f"once {number}"), float(number))
        repeats.see(random.choice(often), float(number))

    known = sum(sighting is not None and sighting.times > 10 for sighting in map(repeats.look, often))
    print(f"{known} of {len(often)} known")
    assert known > 190


def test_what_came_often_but_no_more_makes_room_in_time() -> None:
    repeats = Repeats(slots=2)
    for number in range(50):
        repeats.see(digest("a"), number * 10.0)

    for number in range(1000):
        repeats.see(digest(number), 1000.0 + number)

    assert repeats.look(digest("a")) is None


@given(st.lists(st.tuples(st.binary(min_size=12, max_size=16), st.floats(0, 1e9)), max_size=50))
def test_whatever_comes_in_whatever_order_counts_stay_sound(seen: list[tuple[bytes, float]]) -> None:
    repeats = Repeats(slots=4)

    for key, now_s in seen:
        sighting = repeats.see(key, now_s)
        assert 1 <= sighting.times <= len(seen)
        assert sighting.interval_s is None or sighting.interval_s > 0


def test_share_of_repeats_is_learnt_for_each_kind() -> None:
    kinds = Kinds()
    for number in range(200):
        kinds.see("steady", is_repeat=number % 10 != 0)
        kinds.see("chat", is_repeat=False)

    assert kinds.share("steady") == pytest.approx(0.9, abs=0.02)
    assert kinds.share("chat") < 0.02
    assert kinds.share("unheard of") == 0.5


def test_share_of_a_kind_follows_a_change() -> None:
    kinds = Kinds()
    for number in range(10_000):
        kinds.see("a", is_repeat=number < 5000)

    assert kinds.share("a") < 0.05


def test_kinds_are_bounded_in_number() -> None:
    kinds = Kinds()

    for number in range(MOST_KINDS + 1):
        for _ in range(10):
            kinds.see(f"kind {number}", is_repeat=True)

    assert kinds.share("kind 0") == 0.5
    assert kinds.share(f"kind {MOST_KINDS}") > 0.8
