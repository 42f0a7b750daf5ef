"""What the cache has saved since the start, in money, time and tokens, and what it took in or not."""

from collections import Counter
from dataclasses import dataclass

from plugins.cache.entry import Entry
from plugins.cache.smart import Decision


@dataclass(frozen=True, slots=True)
class Report:
    """Sums since the start.

    Args:
        unpriced_hits: answers from the cache whose price is not known; they are in no sum of money.
        saved_usd: what the calls that were spared would have cost.
        saved_s: how long they would have taken, one after the other.
        saved_tokens: input and output, where both are known.
        kept: answers that were taken in, by reason.
        declined: those that were not, by reason.
    """

    unpriced_hits: int
    saved_usd: float
    saved_s: float
    saved_tokens: int
    kept: dict[str, int]
    declined: dict[str, int]


class Savings:
    """Adds up what hits save, and counts decisions by their reason."""

    def __init__(self) -> None:
        self._unpriced_hits = 0
        self.usd = 0.0
        self.seconds = 0.0
        self.tokens = 0
        self._kept: Counter[str] = Counter()
        self._declined: Counter[str] = Counter()

    def note_hit(self, entry: Entry) -> None:
        """Count an answer from the cache: the call that made it would have been made again."""
        self.seconds += entry.latency_s
        if entry.cost_usd is None:
            self._unpriced_hits += 1
        else:
            self.usd += entry.cost_usd
        if entry.input_tokens is not None and entry.output_tokens is not None:
            self.tokens += entry.input_tokens + entry.output_tokens

    def note_decision(self, decision: Decision) -> None:
        """Count an answer that was taken in or not."""
        (self._kept if decision.is_kept else self._declined)[decision.why] += 1

    def report(self) -> Report:
        """Tell the sums as they are now."""
        return Report(
            unpriced_hits=self._unpriced_hits,
            saved_usd=self.usd,
            saved_s=self.seconds,
            saved_tokens=self.tokens,
            kept=dict(self._kept),
            declined=dict(self._declined),
        )
