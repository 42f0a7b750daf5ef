"""What the cache did: counts by outcome and reason, and what was saved."""

from collections import Counter

from plugins.cache.entry import Entry
from plugins.cache.savings import Savings
from plugins.cache.smart import Decision
from proxy.exchange import JsonObject
from proxy.metrics import Registry, Value


class Ledger:
    """Counts since the cache was made or reset; the process's metrics go on."""

    def __init__(self, metrics: Registry) -> None:
        results = metrics.counter(
            "cache_requests_total", "Requests that the cache looked at, by what came of it.", ("result",)
        )
        self._series: dict[str, Value] = {
            name: results.series(name) for name in ("hit", "stale", "coalesced", "miss", "bypass", "refresh")
        }
        self._missed = self._series["miss"]
        self._reasons = metrics.counter("cache_misses_total", "Requests that were asked anew, by reason.", ("reason",))
        self._reason_series: dict[str, Value] = {}
        self.forget()
        metrics.gauge("cache_saved_usd", "What answers from the cache would have cost.", read=lambda: self._savings.usd)
        metrics.gauge(
            "cache_saved_seconds",
            "Time that answers from the cache took when they were made.",
            read=lambda: self._savings.seconds,
        )
        metrics.gauge(
            "cache_saved_tokens",
            "Tokens of answers from the cache, which were not billed again.",
            read=lambda: self._savings.tokens,
        )

    def forget(self) -> None:
        """Begin anew."""
        self._before = {name: value.value for name, value in self._series.items()}
        """What had been counted when this began: each request is counted once."""
        self._misses: Counter[str] = Counter()
        self._bypasses: Counter[str] = Counter()
        self._declined: Counter[str] = Counter()
        self._savings = Savings()

    def came_to(self, result: str) -> None:
        """Count a request."""
        self._series[result].value += 1

    def missed(self, reason: str) -> None:
        """Count a request that is asked anew."""
        self._missed.value += 1
        self._misses[reason] += 1
        series = self._reason_series.get(reason)
        if series is None:
            series = self._reason_series[reason] = self._reasons.series(reason)
        series.value += 1

    def bypassed(self, reason: str) -> None:
        """Count a request that the cache left alone."""
        self.came_to("bypass")
        self._bypasses[reason] += 1

    def declined(self, reason: str) -> None:
        """Count an answer that was not kept."""
        self._declined[reason] += 1

    def decided(self, decision: Decision) -> None:
        """Count a decision of `smartCache`."""
        self._savings.note_decision(decision)

    def answered(self, result: str, entry: Entry) -> None:
        """Count a request that was answered with a kept answer, and what that saved."""
        self._series[result].value += 1
        self._savings.note_hit(entry)

    def saved(self, entry: Entry) -> None:
        """Count what an answer would have cost anew."""
        self._savings.note_hit(entry)

    def describe(self) -> JsonObject:
        """Show the counts as `/cache/status` does."""
        results = {name: int(value.value - self._before[name]) for name, value in self._series.items()}
        report = self._savings.report()
        answered = results["hit"] + results["stale"] + results["coalesced"]
        asked = answered + results["miss"]
        return {
            "hitRate": round(answered / asked, 4) if asked else None,
            "hits": results["hit"],
            "misses": results["miss"],
            "missesByReason": dict(self._misses.most_common()),
            "stale": results["stale"],
            "coalesced": results["coalesced"],
            "refreshed": results["refresh"],
            "bypassed": results["bypass"],
            "bypassedByReason": dict(self._bypasses.most_common()),
            "notKeptByReason": dict(self._declined.most_common()),
            "saved": {
                "usd": round(report.saved_usd, 6),
                "seconds": round(report.saved_s, 3),
                "tokens": report.saved_tokens,
                "answersWithoutPrice": report.unpriced_hits,
            },
            "smart": {"keptByReason": report.kept, "declinedByReason": report.declined},
        }
