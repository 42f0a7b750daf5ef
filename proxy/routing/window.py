"""How many of the recent requests failed, in four counters."""


class Window:
    """Counts in two halves, the present one and the one before, instead of keeping every request.

    It looks back over half a window at least and a whole one at most, which is as good for a share.

    Args:
        length_s: the whole window.
        now_s: monotonic clock in seconds, here and everywhere; never earlier than at the last call.
    """

    __slots__ = ("failed", "failed_before", "half_ends_s", "half_s", "requests", "requests_before")

    requests: int
    """Of the present half, failed ones included; whoever counts one calls `turn` when `half_ends_s` has come."""
    failed: int

    def __init__(self, length_s: float, now_s: float) -> None:
        self.half_s = length_s / 2
        self.clear(now_s)

    def clear(self, now_s: float) -> None:
        """Forget everything."""
        self.half_ends_s = now_s + self.half_s
        self.requests = self.failed = 0
        self.requests_before = self.failed_before = 0

    def turn(self, now_s: float) -> None:
        """Begin the next half if it is time."""
        if now_s < self.half_ends_s:
            return
        is_next = now_s < self.half_ends_s + self.half_s
        self.requests_before = self.requests if is_next else 0
        self.failed_before = self.failed if is_next else 0
        self.requests = self.failed = 0
        self.half_ends_s = self.half_ends_s + self.half_s if is_next else now_s + self.half_s

    def totals(self) -> tuple[int, int]:
        """Return the requests and the failed ones among them, as of the last `turn`."""
        return self.requests + self.requests_before, self.failed + self.failed_before

    def resettle(self, length_s: float, now_s: float) -> None:
        """Take another length over and keep the counts."""
        self.half_s = length_s / 2
        self.half_ends_s = min(self.half_ends_s, now_s + self.half_s)
