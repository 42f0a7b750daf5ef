"""Show the process's metrics to Prometheus: `GET /metrics`, as text 0.0.4 or OpenMetrics, whichever is accepted."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy import __version__, hookimpl
from proxy.metrics import Counter, Distribution, Gauge, Histogram, Registry, Value
from proxy.plugin import AdminReply, AdminRequest, AdminRoute, Plugin, PluginConfig, PluginContext

PREFIX = "proxy_"

Series = Sequence[tuple[tuple[str, ...], Value | Distribution]]


class MetricsConfig(PluginConfig):
    """Section `metrics`."""


class MetricsPlugin(Plugin[MetricsConfig]):
    """Exposition only: counting is the core's, and goes on while this is off."""

    name = "metrics"

    def __init__(self, config: MetricsConfig, context: PluginContext) -> None:
        super().__init__(config, context)
        self._process = ProcessCollector(registry=None)

    @hookimpl
    def admin_routes(self) -> list[AdminRoute]:
        return [AdminRoute("GET", "/metrics", self.expose, "Every metric, in Prometheus's text format.")]

    async def expose(self, request: AdminRequest) -> AdminReply:
        """Read the metrics here, write them in a thread: a thousand series take longer than the loop can wait."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        snapshot = Snapshot.of(self.context.metrics, self._process)
        return AdminReply(await asyncio.to_thread(encode, snapshot), content_type=content_type)


@dataclass(frozen=True)
class Snapshot(Collector):
    """The series of a moment, as prometheus_client wants them."""

    metrics: Sequence[tuple[Counter | Gauge | Histogram, Series]]
    process: Collector

    @classmethod
    def of(cls, registry: Registry, process: Collector) -> "Snapshot":
        """List the series; on the loop, because gauges may ask there for their value."""
        return cls([(metric, metric.items()) for metric in registry], process)

    def collect(self) -> Iterator[Metric]:
        """Yield every family: the build, ours with the prefix `proxy_`, the process under its standard names."""
        build = GaugeMetricFamily(f"{PREFIX}build_info", "Version of this program.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        for metric, series in self.metrics:
            yield family_of(metric, series)
        yield from self.process.collect()


def family_of(metric: Counter | Gauge | Histogram, series: Series) -> Metric:
    """Put one metric into the library's terms."""
    name = PREFIX + metric.name
    if isinstance(metric, Histogram):
        histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for labels, each in series:
            if isinstance(each, Distribution):
                histogram.add_metric(labels, list(buckets_of(each)), each.sum)
        return histogram
    kind = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    family = kind(name, metric.help, labels=metric.labels)
    for labels, each in series:
        if isinstance(each, Value):
            family.add_metric(labels, each.value)
    return family


def buckets_of(distribution: Distribution) -> Iterable[tuple[str, float]]:
    """Count cumulatively, as the format wants it; the last bucket holds all."""
    bounds = [*(str(float(bound)) for bound in distribution.bounds), "+Inf"]
    return zip(bounds, accumulate(distribution.counts), strict=True)
