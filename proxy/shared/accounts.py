"""What is counted of calls of the shared store."""

from typing import Final

from proxy.metrics import Registry

BUCKETS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class StoreMetrics:
    """What all stores of a process count, one after another."""

    def __init__(self, metrics: Registry) -> None:
        calls = metrics.counter("store_calls_total", "Calls of the shared store, by outcome.", ("outcome",))
        self.ok = calls.series("ok")
        self.late = calls.series("late")
        self.failed = calls.series("failed")
        self.refused = calls.series("refused")
        self.busy = calls.series("busy")
        self.skipped = calls.series("skipped")
        self.seconds = metrics.histogram(
            "store_call_seconds", "Calls of the shared store that were made.", buckets=BUCKETS_S
        ).series()
