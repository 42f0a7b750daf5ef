"""What the cache did: counts by outcome and reason, and what was saved."""

from collections import Counter

from plugins.cache.entry import Entry
from proxy.exchange import JsonObject
from proxy.metrics import Registry

MOST_REASONS = 100


class Ledger:
    """Counts since the cache was made or reset."""

    def __init__(self, metrics: Registry) -> None:
        self._requests = metrics.counter(
            "cache_requests_total", "Requests that the cache looked at, by what came of it.", ("result",)
        )
        self._reasons = metrics.counter("cache_misses_total", "Requests that were asked anew, by reason.", ("reason",))
        self._saved_usd = metrics.counter("cache_saved_usd_total", "What answers from the cache would have cost.")
        self._saved_s = metrics.counter("cache_saved_seconds_total", "Time that answers from the cache took when made.")
        self._saved_tokens = metrics.counter("cache_saved_tokens_total", "Tokens that providers need not bill again.")
        self.forget()

    def forget(self) -> None:
        """Begin anew; the process's metrics go on."""
        self.results: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self.bypasses: Counter[str] = Counter()
        self.declined: Counter[str] = Counter()
        """Answers that were not kept, by reason."""
        self.saved_usd = self.saved_s = 0.0
        self.saved_tokens = 0

    def came_to(self, result: str) -> None:
        """Count a request."""
        self.results[result] += 1
        self._requests.inc(result)

    def missed(self, reason: str) -> None:
        """Count a request that is asked anew."""
        self.came_to("miss")
        self.misses[reason] += 1
        self._reasons.inc(reason)

    def bypassed(self, reason: str) -> None:
        """Count a request that the cache left alone."""
        self.came_to("bypass")
        self.bypasses[reason] += 1

    def answered(self, result: str, entry: Entry | None) -> None:
        """Count a request that no provider was asked for; with the entry, also what that saved."""
        self.came_to(result)
        if entry is None:
            return
        cost_usd, tokens = entry.cost_usd or 0.0, entry.total_tokens or 0
        self.saved_usd += cost_usd
        self.saved_s += entry.latency_s
        self.saved_tokens += tokens
        self._saved_usd.inc(amount=cost_usd)
        self._saved_s.inc(amount=entry.latency_s)
        self._saved_tokens.inc(amount=tokens)

    @property
    def hit_rate(self) -> float | None:
        """Share of the requests that could have been answered and were; None before the first."""
        answered = self.results["hit"] + self.results["stale"] + self.results["coalesced"]
        asked = answered + self.results["miss"]
        return answered / asked if asked else None

    def describe(self) -> JsonObject:
        """Show the counts as `/cache/status` does."""
        rate = self.hit_rate
        return {
            "hitRate": None if rate is None else round(rate, 4),
            "hits": self.results["hit"],
            "misses": self.results["miss"],
            "missesByReason": dict(self.misses.most_common()),
            "stale": self.results["stale"],
            "coalesced": self.results["coalesced"],
            "bypassed": self.results["bypass"],
            "bypassedByReason": dict(self.bypasses.most_common()),
            "notKeptByReason": dict(self.declined.most_common()),
            "saved": {
                "usd": round(self.saved_usd, 6),
                "seconds": round(self.saved_s, 3),
                "tokens": self.saved_tokens,
            },
        }
