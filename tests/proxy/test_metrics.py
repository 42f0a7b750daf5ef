"""The registry: bounded, cheap, honest in its estimates."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.metrics import LATENCY_BUCKETS_S, MAX_SERIES, Distribution, Registry, Spread


def test_label_sets_past_the_limit_are_counted_under_other() -> None:
    counter = Registry().counter("requests_total", "Requests.", ("model", "status"))

    for number in range(MAX_SERIES + 500):
        counter.inc(f"model-{number}", "200")

    series = dict(counter.items())
    assert len(series) == MAX_SERIES + 1
    assert series["other", "other"].value == 500
    assert sum(one.value for one in series.values()) == MAX_SERIES + 500


def test_series_known_before_the_limit_still_counts_for_itself() -> None:
    counter = Registry().counter("requests_total", "Requests.", ("model",))
    for number in range(MAX_SERIES + 1):
        counter.inc(str(number))

    counter.inc("0", amount=5)

    assert counter.series("0").value == 6


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_wrong_number_of_labels_is_an_error(values: tuple[str, ...]) -> None:
    counter = Registry().counter("requests_total", "Requests.", ("model", "status"))

    with pytest.raises(ValueError, match="requests_total"):
        counter.inc(*values)


def test_metric_asked_for_again_is_the_same() -> None:
    registry = Registry()

    first, second = (registry.counter("a_total", "A.", ("x",)) for _ in range(2))

    assert first is second
    assert [metric.name for metric in registry] == ["a_total"]


def test_name_with_another_kind_or_other_labels_is_an_error() -> None:
    registry = Registry()
    registry.counter("a_total", "A.", ("x",))

    with pytest.raises(ValueError, match="counter"):
        registry.gauge("a_total", "A.", ("x",))
    with pytest.raises(ValueError, match="labels"):
        registry.counter("a_total", "A.", ("y",))


def test_gauge_is_read_when_it_is_shown() -> None:
    level = [1.0]
    gauge = Registry().gauge("level", "Level.", read=lambda: level[0])

    level[0] = 7.0

    assert [series.value for _, series in gauge.items()] == [7.0]


def test_gauge_with_labels_keeps_what_was_set_last() -> None:
    gauge = Registry().gauge("level", "Level.", ("tank",))

    gauge.set(3, "a")
    gauge.set(4, "a")

    assert [(values, series.value) for values, series in gauge.items()] == [(("a",), 4)]


def test_value_on_a_bound_counts_below_it() -> None:
    distribution = Distribution((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        distribution.observe(value)

    assert distribution.counts == [2, 2, 1]
    assert distribution.sum == 8.0


def test_nothing_has_no_quantile() -> None:
    assert Distribution(LATENCY_BUCKETS_S).quantile(0.5) is None


def test_value_beyond_every_bound_is_estimated_as_the_last_bound() -> None:
    distribution = Distribution((1.0, 2.0))

    distribution.observe(1000.0)

    assert distribution.quantile(0.5) == 2.0


@given(st.lists(st.floats(0, 400), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    distribution = Distribution(LATENCY_BUCKETS_S)
    for value in values:
        distribution.observe(value)
    true = next(value for rank, value in enumerate(sorted(values), 1) if rank >= share * len(values))

    found = distribution.quantile(share)

    bucket = bisect_left(LATENCY_BUCKETS_S, true)
    low = LATENCY_BUCKETS_S[bucket - 1] if bucket else 0.0
    high = LATENCY_BUCKETS_S[min(bucket, len(LATENCY_BUCKETS_S) - 1)]
    assert found is not None
    assert low <= found <= high


@given(st.lists(st.floats(0, 400), min_size=1, max_size=50))
def test_quantiles_rise_with_their_share(values: list[float]) -> None:
    distribution = Distribution(LATENCY_BUCKETS_S)
    for value in values:
        distribution.observe(value)

    found = [distribution.quantile(share) or 0.0 for share in (0.1, 0.5, 0.9, 0.99, 1.0)]

    assert found == sorted(found)


@given(st.lists(st.floats(0, 400), min_size=1, max_size=50))
def test_quantiles_of_a_spread_rise_from_its_least_to_its_greatest_value(values: list[float]) -> None:
    spread = Spread(LATENCY_BUCKETS_S)
    for value in values:
        spread.observe(value)

    found = [spread.quantile(share) or 0.0 for share in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)]

    assert found == sorted(found)
    assert min(values) <= found[0]
    assert found[-1] <= max(values)


def test_sum_of_two_spreads_is_as_if_one_had_seen_all() -> None:
    one, other, whole = Spread((1.0, 2.0)), Spread((1.0, 2.0)), Spread((1.0, 2.0))
    for spread, values in ((one, (0.5, 3.0)), (other, (1.5,)), (whole, (0.5, 3.0, 1.5))):
        for value in values:
            spread.observe(value)

    both = one.plus(other)

    assert (both.counts, both.sum, both.least, both.most) == (whole.counts, whole.sum, 0.5, 3.0)
    assert both.quantile(0.5) == whole.quantile(0.5)
    assert both.quantile(1.0) == 3.0
    assert Spread((1.0,)).plus(Spread((1.0,))).quantile(0.5) is None


def test_reader_named_again_takes_the_place_of_the_first() -> None:
    registry = Registry()
    registry.gauge("level", "Level.", read=lambda: 1)

    gauge = registry.gauge("level", "Level.", read=lambda: 2)

    assert [value.value for _, value in gauge.items()] == [2]
    registry.release()
    assert gauge.items() == []


def test_owner_that_ends_gives_way_to_the_one_before() -> None:
    registry = Registry()
    first, second = registry.view(), registry.view()
    gauge = first.gauge("level", "Level.", read=lambda: 1)
    second.gauge("level", "Level.", read=lambda: 2)

    shown = [gauge.items()[0][1].value]
    second.release()
    shown.append(gauge.items()[0][1].value)
    first.release()

    assert shown == [2, 1]
    assert gauge.items() == []


def test_view_shows_and_counts_what_the_registry_does() -> None:
    registry = Registry()
    view = registry.view()

    view.counter("a_total", "A.").inc()
    registry.counter("a_total", "A.").inc()
    view.gauge("set", "Set by hand.").set(3)
    view.release()

    assert view.counter("a_total", "A.").series().value == 2
    assert [metric.name for metric in view] == [metric.name for metric in registry] == ["a_total", "set"]
    assert registry.gauge("set", "Set by hand.").items()[0][1].value == 3
