"""Strategy latency: the slow one gets less, the recovered one its part again, a new one a try and no flood."""

from collections import Counter

from tests.plugins.balancer_rig import FakeLoad, Traffic, asked, candidate, make, names


def latency_order(*loads: tuple[float | None, int], seed: int = 1) -> list[str]:
    candidates = [
        candidate(chr(ord("a") + index), load=FakeLoad(latency_s=latency_s, in_flight=in_flight))
        for index, (latency_s, in_flight) in enumerate(loads)
    ]
    return names(make(seed, strategy="latency").select_provider(asked(), candidates))


def test_of_two_the_lower_product_of_latency_and_calls_goes_first() -> None:
    assert latency_order((0.5, 0), (2.0, 0)) == ["a", "b"]
    assert latency_order((0.5, 4), (2.0, 0)) == ["b", "a"]
    assert latency_order((0.5, 2), (2.0, 0)) == ["a", "b"]


def test_slowest_of_three_is_never_first_and_the_others_stand_behind_in_order() -> None:
    orders = Counter(tuple(latency_order((0.5, 0), (2.0, 0), (1.0, 0), seed=seed)) for seed in range(300))

    assert set(orders) == {("a", "c", "b"), ("c", "a", "b")}
    assert orders["a", "c", "b"] > orders["c", "a", "b"] > 0


def test_weights_say_who_is_compared() -> None:
    def firsts(weight: float) -> Counter[str]:
        candidates = [
            candidate("a", load=FakeLoad(latency_s=0.5)),
            candidate("b", load=FakeLoad(latency_s=1.0), weight=weight),
            candidate("c", load=FakeLoad(latency_s=2.0), weight=weight),
        ]
        balancer = make(strategy="latency")
        return Counter(balancer.select_provider(asked(), candidates)[0].provider for _ in range(3000))

    assert firsts(10)["b"] > firsts(1)["b"] > firsts(0.1)["b"]


def test_who_was_never_called_counts_as_fast_as_the_fastest() -> None:
    assert latency_order((0.5, 1), (None, 0)) == ["b", "a"]
    assert latency_order((0.5, 1), (None, 3)) == ["a", "b"]


def test_average_that_was_forgotten_counts_as_none() -> None:
    assert latency_order((0.5, 1), (1e-30, 3)) == ["a", "b"]
    assert latency_order((0.5, 1), (0.0, 3)) == ["a", "b"]


def test_without_any_latency_the_fewest_calls_go_first() -> None:
    assert latency_order((None, 2), (None, 1)) == ["b", "a"]


def test_slow_one_gets_less_than_its_share() -> None:
    candidates = [candidate("fast", load=FakeLoad(0.3)), candidate("slow", load=FakeLoad(3.0))]
    traffic = Traffic(candidates, per_s=20, strategy="latency")

    traffic.run(30)
    firsts = Counter(traffic.run(120))

    share = firsts["slow"] / firsts.total()
    print(f"ten times as slow: {share:.1%} of the requests")
    assert 0 < share < 0.15


def test_recovered_one_gets_its_part_again_within_seconds() -> None:
    loads = {"a": FakeLoad(0.3), "b": FakeLoad(5.0)}
    traffic = Traffic([candidate(name, load=load) for name, load in loads.items()], per_s=20, strategy="latency")
    traffic.run(60)

    loads["b"].service_s = 0.3
    traffic.run(30)
    firsts = Counter(traffic.run(60))

    assert 0.4 < firsts["b"] / firsts.total() < 0.6


def test_new_one_that_does_not_answer_is_tried_at_once_and_not_flooded() -> None:
    old, new = FakeLoad(0.5), FakeLoad(600.0)
    traffic = Traffic([candidate("old", load=old), candidate("new", load=new)], per_s=20, strategy="latency")
    old.took(0.5, 0.0)

    firsts = traffic.run(20)

    print(f"calls at work at the one that does not answer: {new.in_flight} of {len(firsts)} requests")
    assert "new" in firsts[:5]
    assert new.in_flight <= traffic.most_in_flight["old"] + 1


def test_slow_one_draws_no_flood_after_a_quiet_minute() -> None:
    candidates = [candidate("fast", load=FakeLoad(0.3)), candidate("slow", load=FakeLoad(5.0))]
    traffic = Traffic(candidates, per_s=50, strategy="latency")
    traffic.run(30)

    traffic.pause(60)
    firsts = Counter(traffic.run(10))

    share = firsts["slow"] / firsts.total()
    print(f"after a quiet minute: {share:.1%} of the requests go to the slow one")
    assert share < 0.25
