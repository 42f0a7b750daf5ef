"""What is noted about a provider's calls, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import ProviderSettings
from proxy.errors import UpstreamConnect, UpstreamError
from proxy.exchange import Attempt
from proxy.metrics import Registry
from proxy.providers.echo import EchoProvider
from proxy.upstream.endpoint import WINDOW_S, CallStats, Endpoint, UpstreamMetrics
from proxy.upstream.slots import Slots
from proxy.usage import Usage

START_S = 1000.0


class Rig:
    """An endpoint with its registry."""

    def __init__(self, slots: Slots | None = None) -> None:
        self.registry = Registry()
        provider = EchoProvider("a", ProviderSettings.model_validate({"type": "echo", "models": ["*"]}))
        stats = CallStats("a", UpstreamMetrics(self.registry))
        self.endpoint = Endpoint(provider, None, slots or Slots(None, 0, 1.0, "a"), stats)

    def call(
        self, now_s: float = START_S, *, error: UpstreamError | None = None, duration_s: float = 0.2, model: str = "m"
    ) -> None:
        self.endpoint.stats.record(Attempt("a", model, now_s - duration_s), duration_s, now_s, error)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        metric = next(metric for metric in self.registry if metric.name == name)
        return {labels: series.value for labels, series in metric.items() if series.value}


def test_provider_that_was_never_called_has_no_figures() -> None:
    shown = Rig().endpoint.describe(START_S)

    assert (shown["calls"], shown["errorRate"], shown["lastError"]) == (0, 0.0, None)
    for name in ("latencyMs", "timeToFirstByteMs", "timeToFirstTokenMs"):
        assert shown[name] == {"p50": None, "p95": None, "p99": None}


def test_calls_and_failures_make_the_rate() -> None:
    rig = Rig()

    for _ in range(3):
        rig.call()
    rig.call(error=UpstreamConnect("a: connection refused"))

    shown = rig.endpoint.describe(START_S)
    assert (shown["calls"], shown["errorRate"]) == (4, 0.25)
    assert shown["lastError"]["code"] == "upstream_connect"
    assert shown["lastError"]["message"] == "a: connection refused"
    assert shown["lastError"]["at"].endswith("Z")


def test_new_window_begins_without_what_was_seen_and_leaves_the_metrics_alone() -> None:
    rig = Rig()
    rig.call(START_S, error=UpstreamError("no"))
    rig.call(START_S + WINDOW_S, error=UpstreamError("no"))

    rig.endpoint.stats.begin_anew()
    rig.call(START_S + WINDOW_S)

    shown = rig.endpoint.describe(START_S + WINDOW_S)
    assert (shown["calls"], shown["errorRate"], shown["lastError"]["code"]) == (1, 0.0, "upstream_error")
    assert rig.counted("upstream_requests_total") == {("a", "m", "ok"): 1, ("a", "m", "upstream_error"): 2}


def test_percentiles_are_estimated_from_the_durations() -> None:
    rig = Rig()

    for _ in range(100):
        rig.call(duration_s=0.2)

    latency = rig.endpoint.describe(START_S)["latencyMs"]
    assert all(100 <= latency[name] <= 250 for name in ("p50", "p95", "p99"))


@given(durations_s=st.lists(st.floats(0.0005, 400), min_size=1, max_size=20), turn_after=st.integers(0, 20))
def test_percentiles_lie_between_the_least_and_the_most_that_was_seen(
    durations_s: list[float], turn_after: int
) -> None:
    rig = Rig()

    for number, duration_s in enumerate(durations_s):
        rig.call(START_S if number < turn_after else START_S + WINDOW_S, duration_s=duration_s)

    latency = rig.endpoint.describe(START_S + WINDOW_S)["latencyMs"]
    least_ms, most_ms = (round(extreme * 1000, 1) for extreme in (min(durations_s), max(durations_s)))
    assert all(least_ms <= latency[name] <= most_ms for name in ("p50", "p95", "p99"))


def test_percentiles_of_one_call_are_its_time() -> None:
    rig = Rig()

    rig.call(duration_s=0.113)

    assert rig.endpoint.describe(START_S)["latencyMs"] == {"p50": 113.0, "p95": 113.0, "p99": 113.0}


def test_times_to_the_first_byte_and_token_are_told_beside_those_of_whole_calls() -> None:
    rig = Rig()

    attempt = Attempt("a", "m", START_S)
    attempt.first_byte_s = 0.04
    rig.endpoint.stats.record(attempt, 2.0, START_S, None)
    rig.endpoint.stats.record_first_token("m", 0.4)

    shown = rig.endpoint.describe(START_S)
    assert shown["latencyMs"]["p50"] == 2000
    assert shown["timeToFirstByteMs"]["p50"] == 40
    assert shown["timeToFirstTokenMs"]["p50"] == 400


def test_last_window_still_counts_in_the_next() -> None:
    rig = Rig()

    rig.call(START_S, error=UpstreamError("no"))
    rig.call(START_S + WINDOW_S)

    recent = rig.endpoint.stats.recent(START_S + WINDOW_S)
    assert (recent.calls, recent.failures, sum(recent.latency.counts)) == (2, 1, 2)


@pytest.mark.parametrize(("later_s", "calls"), [(0, 5), (WINDOW_S + 1, 5), (2 * WINDOW_S + 1, 0), (86_400, 0)])
def test_what_is_long_past_is_forgotten_though_nothing_is_called(later_s: float, calls: int) -> None:
    rig = Rig()
    for _ in range(5):
        rig.call(START_S, error=UpstreamError("no"))

    recent = rig.endpoint.stats.recent(START_S + later_s)

    assert (recent.calls, recent.failures) == (calls, calls)


def test_old_calls_do_not_mix_with_new_ones_after_a_pause() -> None:
    rig = Rig()
    rig.call(START_S, error=UpstreamError("no"))

    rig.call(START_S + 10 * WINDOW_S)

    assert rig.endpoint.stats.recent(START_S + 10 * WINDOW_S).failures == 0


def test_outcomes_are_counted_by_model_and_code() -> None:
    rig = Rig()

    rig.call()
    rig.call()
    rig.call(error=UpstreamConnect("no"))
    rig.endpoint.stats.record_cancelled(Attempt("a", None, START_S))

    assert rig.counted("upstream_requests_total") == {
        ("a", "m", "ok"): 2,
        ("a", "m", "upstream_connect"): 1,
        ("a", "", "cancelled"): 1,
    }


def test_cancelled_call_is_neither_good_nor_bad() -> None:
    rig = Rig()

    rig.endpoint.stats.record_cancelled(Attempt("a", "m", START_S))

    assert rig.endpoint.stats.recent(START_S).calls == 0


def test_tokens_are_added_by_type() -> None:
    rig = Rig()

    rig.endpoint.stats.record_usage("m", Usage(10, 5, 3, 2, 1))
    rig.endpoint.stats.record_usage("m", Usage(1, None))

    assert rig.counted("tokens_total") == {
        ("a", "m", "input"): 11,
        ("a", "m", "output"): 5,
        ("a", "m", "cache_read"): 3,
        ("a", "m", "cache_write"): 2,
        ("a", "m", "reasoning"): 1,
    }


def test_asking_for_ever_new_models_does_not_grow_memory() -> None:
    rig = Rig()

    for number in range(2500):
        rig.call(model=f"model-{number}")

    assert len(rig.endpoint.stats._series) <= 1000
    assert all(len(metric.items()) <= 1001 for metric in rig.registry)


def test_queue_of_a_limited_provider_is_shown() -> None:
    slots = Slots(1, 10, 10.0, "a")

    shown = Rig(slots).endpoint.describe(START_S)

    assert shown["queued"] == 0
    assert "connections" not in shown


@pytest.mark.parametrize(("status", "failures"), [(200, 0), (404, 0), (429, 0), (500, 1), (529, 1)])
def test_server_error_that_was_relayed_counts_as_a_failure(status: int, failures: int) -> None:
    rig = Rig()

    attempt = Attempt("a", "m", START_S)
    attempt.status = status
    rig.endpoint.stats.record(attempt, 0.1, START_S, None)

    assert rig.endpoint.stats.recent(START_S).failures == failures
