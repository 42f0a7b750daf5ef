"""The exposition, read back with the library's own parsers."""

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from plugins.metrics import MetricsConfig, MetricsPlugin
from proxy import __version__
from proxy.plugin import AdminReply, AdminRequest
from tests.plugins.rig import Rig


async def expose(rig: Rig, accept: str | None = None) -> AdminReply:
    plugin = MetricsPlugin(MetricsConfig(), rig.context)
    (route,) = plugin.admin_routes()
    headers = {} if accept is None else {"accept": accept}
    reply = await route.handler(AdminRequest("GET", "/metrics", {}, {}, None, headers))
    assert isinstance(reply, AdminReply)
    return reply


async def families(rig: Rig) -> dict[str, Metric]:
    body = (await expose(rig)).body
    assert isinstance(body, bytes)
    return {family.name: family for family in parse_text(body.decode())}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in family.samples
    }


async def test_counters_and_gauges_have_prefix_labels_and_values() -> None:
    rig = Rig()
    requests = rig.metrics.counter("requests_total", "Requests.", ("model", "status"))
    requests.inc('gpt "4"\n', "200", amount=3)
    rig.metrics.gauge("in_flight", "Requests in work.", read=lambda: 7)

    shown = await families(rig)

    assert values(shown["proxy_requests"]) == {("proxy_requests_total", 'gpt "4"\n', "200"): 3}
    assert values(shown["proxy_in_flight"]) == {("proxy_in_flight",): 7}
    assert (shown["proxy_requests"].type, shown["proxy_in_flight"].documentation) == ("counter", "Requests in work.")


async def test_histogram_buckets_are_cumulative() -> None:
    rig = Rig()
    latency = rig.metrics.histogram("latency_seconds", "Latency.", ("provider",), buckets=(0.1, 1))
    for value in (0.05, 0.5, 0.6, 30):
        latency.observe(value, "openai")

    shown = values((await families(rig))["proxy_latency_seconds"])

    assert shown == {
        ("proxy_latency_seconds_bucket", "0.1", "openai"): 1,
        ("proxy_latency_seconds_bucket", "1.0", "openai"): 3,
        ("proxy_latency_seconds_bucket", "+Inf", "openai"): 4,
        ("proxy_latency_seconds_count", "openai"): 4,
        ("proxy_latency_seconds_sum", "openai"): 31.15,
    }


async def test_build_and_process_are_shown_under_their_usual_names() -> None:
    shown = await families(Rig())

    assert values(shown["proxy_build_info"]) == {("proxy_build_info", __version__): 1}
    for name in ("process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"):
        assert shown[name].samples[0].value > 0


async def test_text_is_the_default_and_openmetrics_is_given_when_accepted() -> None:
    rig = Rig()
    rig.metrics.counter("requests_total", "Requests.").inc()

    text = await expose(rig)
    openmetrics = await expose(rig, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")

    assert text.content_type.startswith("text/plain; version=0.0.4")
    assert openmetrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert isinstance(openmetrics.body, bytes)
    assert "proxy_requests" in {family.name for family in parse_openmetrics(openmetrics.body.decode())}
