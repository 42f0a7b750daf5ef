"""Counters, gauges and histograms: cheap to write, bounded in number, read by the exposition and by plugins."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final, Generic, Literal, TypeVar

MAX_SERIES: Final = 1000
"""Label sets one metric may hold; what comes later is counted under `other` (a client must not grow our memory)."""

LATENCY_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

Kind = Literal["counter", "gauge", "histogram"]


class Value:
    """One series of a counter or gauge; hot code keeps it and calls `inc`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add; counters only ever go up."""
        self.value += amount

    def set(self, value: float) -> None:
        """Replace the value of a gauge."""
        self.value = value


class Distribution:
    """One series of a histogram: counts per bucket (not cumulative), the last for what exceeds every bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile by linear interpolation within its bucket; None while nothing was counted.

        Args:
            share: 0.5 for the median, 0.99 for the 99th percentile.
        """
        total = sum(self.counts)
        rank, below = share * total, 0
        for index, count in enumerate(self.counts[:-1]):
            if count and below + count >= rank:
                low = self.bounds[index - 1] if index else 0.0
                return low + (self.bounds[index] - low) * (rank - below) / count
            below += count
        return self.bounds[-1] if total else None


class Spread(Distribution):
    """A distribution that also knows its extremes, so that no estimate lies beyond what was ever seen."""

    __slots__ = ("least", "most")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.least = math.inf
        self.most = -math.inf

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1  # as above: calling it would double the time
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value

    def quantile(self, share: float) -> float | None:
        """Estimate a quantile as `Distribution` does, between the extremes; above the last bound it is the greatest."""
        estimate, total = super().quantile(share), sum(self.counts)
        if estimate is None:
            return None
        if share * total > total - self.counts[-1]:
            return self.most
        return min(max(estimate, self.least), self.most)

    def plus(self, other: "Spread") -> "Spread":
        """Sum up two distributions with the same bounds."""
        both = Spread(self.bounds)
        both.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        both.least, both.most = min(self.least, other.least), max(self.most, other.most)
        return both


SeriesT = TypeVar("SeriesT", Value, Distribution)


class Metric(Generic[SeriesT]):
    """One name with its help text and its series by label values."""

    def __init__(self, name: str, help_text: str, kind: Kind, labels: tuple[str, ...], make: Callable[[], SeriesT]):
        self.name = name
        self.help = help_text
        self.kind: Kind = kind
        self.labels = labels
        self._make: Callable[[], SeriesT] = make
        self._series: dict[tuple[str, ...], SeriesT] = {}

    def series(self, *values: str) -> SeriesT:
        """Get the series of these label values, in the order of `labels`; past `MAX_SERIES` the one called `other`."""
        found = self._series.get(values)
        if found is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, got {values}")
            if len(self._series) >= MAX_SERIES:
                values = ("other",) * len(self.labels)
                found = self._series.get(values)
            if found is None:
                found = self._series[values] = self._make()
        return found

    def items(self) -> list[tuple[tuple[str, ...], SeriesT]]:
        """List every series as (label values, series)."""
        return list(self._series.items())


class Counter(Metric[Value]):
    """Counts events; the name ends in `_total`."""

    def inc(self, *values: str, amount: float = 1.0) -> None:
        """Add to the series of these label values."""
        self.series(*values).value += amount


class Gauge(Metric[Value]):
    """A value that goes up and down, set here or read by a callable at exposition."""

    def __init__(self, name: str, help_text: str, kind: Kind, labels: tuple[str, ...], make: Callable[[], Value]):
        super().__init__(name, help_text, kind, labels, make)
        self._readers: dict[Registry, Callable[[], float]] = {}

    def set(self, value: float, *values: str) -> None:
        """Replace the value of the series of these label values."""
        self.series(*values).value = value

    def items(self) -> list[tuple[tuple[str, ...], Value]]:
        """List every series, after asking the callable if there is one."""
        if self._readers:
            self.series().value = next(reversed(self._readers.values()))()
        return super().items()

    def read_for(self, owner: "Registry", read: Callable[[], float]) -> None:
        """Ask this callable from now on; it takes the place of the owner's last one, and goes before other owners'."""
        self._readers.pop(owner, None)
        self._readers[owner] = read

    def forget(self, owner: "Registry") -> None:
        """Ask the owner's callable no more; without any left there is nothing to show."""
        if self._readers.pop(owner, None) is not None and not self._readers:
            self._series.clear()


class Histogram(Metric[Distribution]):
    """Counts values by bucket; the name ends in its unit."""

    def observe(self, value: float, *values: str) -> None:
        """Count a value in the series of these label values."""
        self.series(*values).observe(value)


class Registry:
    """All metrics of one process; a name is registered once and asked for as often as one likes."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def view(self) -> "Registry":
        """Give the same metrics to an owner who ends before the process does; see `release`."""
        view = Registry()
        view._metrics = self._metrics
        return view

    def release(self) -> None:
        """Forget what gauges read for this owner; the metrics stay."""
        for metric in self:
            if isinstance(metric, Gauge):
                metric.forget(self)

    def __iter__(self) -> Iterator[Counter | Gauge | Histogram]:
        return iter(list(self._metrics.values()))

    def counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        """Get or make a counter; it shows as `proxy_<name>`."""
        metric = self._metrics.get(name) or Counter(name, help_text, "counter", labels, Value)
        return self._keep(metric, Counter, labels)

    def gauge(
        self, name: str, help_text: str, labels: tuple[str, ...] = (), read: Callable[[], float] | None = None
    ) -> Gauge:
        """Get or make a gauge; `read`, only without labels, is asked at each exposition."""
        metric = self._metrics.get(name) or Gauge(name, help_text, "gauge", labels, Value)
        gauge = self._keep(metric, Gauge, labels)
        if read is not None:
            gauge.read_for(self, read)
        return gauge

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Get or make a histogram with these upper bounds, ascending."""
        metric = self._metrics.get(name) or Histogram(
            name, help_text, "histogram", labels, lambda: Distribution(buckets)
        )
        return self._keep(metric, Histogram, labels)

    def _keep(self, metric: "Counter | Gauge | Histogram", kind: type["MetricT"], labels: tuple[str, ...]) -> "MetricT":
        if not isinstance(metric, kind) or metric.labels != labels:
            raise ValueError(f"metric {metric.name} exists as a {metric.kind} with the labels {metric.labels}")
        self._metrics[metric.name] = metric
        return metric


MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)
