"""The circuit breaker: leaves out what keeps failing, and finds out when it is back."""

import math
from typing import Final, Literal

from proxy.config.routing_models import BreakerSettings
from proxy.routing.window import Window

State = Literal["closed", "open", "half_open"]

FIRST_SHARE: Final = 0.1
"""Share of its requests that a provider gets at once when it is back."""
COOLDOWNS_TO_FORGET: Final = 10
"""Who stays closed for so many of its last cooldowns starts from the shortest again."""


class Breaker:
    """Decides whether one provider, model or key is asked; pure counting, with the time passed in.

    Closed, it counts failures, and opens when there are too many in a row or in the window. Open, it lets nobody in
    until its cooldown is over; then a few probes (half-open). As many successes as there may be probes close it, one
    failed probe opens it again for twice as long. A breaker that opens again soon after it closed goes on doubling.

    What is reported counts only if the attempt began after the last opening, closing or reset: what an earlier attempt
    meets too late says nothing about now. Between two openings at least the first one's cooldown passes. The window
    is looked at when something fails, so that a success never opens.

    All of it is on the path of every request. While `is_calm`, only `count`, for each success, and `fail` need to be
    called.

    Args:
        settings: with `enabled: false` everybody is admitted, and nothing counts.
        now_s: monotonic clock in seconds, here and everywhere; never earlier than at the last call.
    Source:
        M. Nygard, "Release It!", circuit breaker; Envoy's outlier detection for ejection times that grow, and its
        slow start mode for the share.
    """

    state: State
    since_s: float
    """When it came into this state."""
    reason: str | None
    """Why it opened last; None if it never did."""
    until_s: float
    """While open: when the next probe may go."""
    cooldown_s: float
    """How long it stays open, stayed open last, or will the first time."""
    is_calm: bool
    """Closed, no failure in a row and not in slow start: admitted with its whole share. Set by a success."""
    _probes: list[float]
    """When those that hold a place began, the oldest first."""
    _opened_s: float
    _counts_from_s: float
    _doubles_until_s: float
    _slow_until_s: float

    __slots__ = (
        "_counts_from_s",
        "_doubles_until_s",
        "_in_a_row",
        "_opened_s",
        "_probes",
        "_slow_until_s",
        "_successes",
        "_window",
        "cooldown_s",
        "is_calm",
        "reason",
        "settings",
        "since_s",
        "state",
        "until_s",
    )

    def __init__(self, settings: BreakerSettings, now_s: float = 0.0) -> None:
        self.settings = settings
        self._probes = []
        self._window = Window(settings.window, now_s)
        self._start_anew(now_s)
        self._counts_from_s = -math.inf

    # -- looking ----------------------------------------------------------------------------------------------------

    def admits(self, now_s: float) -> bool:
        """Tell whether an attempt may begin; changes nothing."""
        if self.state == "closed":
            return True
        return now_s >= self.until_s and len(self._probes) - self._lost(now_s) < self.settings.probes

    def share(self, now_s: float) -> float:
        """Tell which part of its requests it should get, from 0 (not admitted) to 1.

        After it closed it grows from `FIRST_SHARE` to 1 in the time of `slowStart`. A free place for a probe counts
        as 1: the probe should go soon.
        """
        if self.state != "closed":
            return 1.0 if self.admits(now_s) else 0.0
        if now_s >= self._slow_until_s:
            return 1.0
        grown = (now_s - self.since_s) / (self._slow_until_s - self.since_s)
        return FIRST_SHARE + (1 - FIRST_SHARE) * max(grown, 0.0)

    # -- attempts ---------------------------------------------------------------------------------------------------

    def begin(self, now_s: float) -> bool:
        """Note that an attempt starts.

        The first probe after a cooldown makes the breaker half-open; then `since_s` is `now_s`. Who is not admitted
        and asked all the same, because there is nobody else, is no probe: its success counts like a probe's, its
        failure changes nothing.

        Returns:
            True if it is a probe. It holds a place until its end is told with `is_probe=True`, or, lest a caller that
            got lost holds it for ever, until the longest cooldown has passed: then the place is another's, though the
            late verdict still counts.
        """
        if self.state == "closed" or not self.admits(now_s):
            return False
        del self._probes[: self._lost(now_s)]
        self._probes.append(now_s)
        if self.state == "open":
            self.state, self.since_s = "half_open", now_s
        return True

    def count(self, now_s: float) -> None:
        """Note that an attempt went well, while all is calm: then there is nothing else to it."""
        window = self._window
        if now_s >= window.half_ends_s:
            window.turn(now_s)
        window.requests += 1

    def succeed(self, now_s: float, began_s: float, is_probe: bool = False) -> State | None:
        """Note that an attempt went well.

        Args:
            began_s: what `begin` was given.
        Returns:
            The new state if this changed it.
        """
        if is_probe:
            self._give_back(began_s)
        if began_s < self._counts_from_s or not self.settings.enabled:
            return None
        if self.state == "closed":
            self.count(now_s)
            self._in_a_row = 0
            self.is_calm = now_s >= self._slow_until_s
            return None
        self._successes += 1
        return self._close(now_s) if self._successes >= self.settings.probes else None

    def fail(self, now_s: float, began_s: float, cause: str, is_probe: bool = False) -> State | None:
        """Note that an attempt failed in a way that speaks against the provider.

        Args:
            began_s: what `begin` was given.
            cause: in a word or a few, for `reason`; a code of `errors` does.
        Returns:
            The new state if this changed it.
        """
        if is_probe:
            self._give_back(began_s)
        if began_s < self._counts_from_s or not self.settings.enabled:
            return None
        if self.state != "closed":
            return self._open(now_s, f"a probe failed: {cause}") if is_probe else None
        window = self._window
        window.turn(now_s)
        window.requests += 1
        window.failed += 1
        self._in_a_row += 1
        self.is_calm = False
        if now_s < self.until_s:  # somebody who was asked all the same closed it before its cooldown was over
            return None
        if self._in_a_row >= self.settings.failures:
            return self._open(now_s, f"{self._in_a_row} failures in a row: {cause}")
        requests, failed = window.totals()
        if requests >= self.settings.min_requests and failed / requests >= self.settings.error_ratio:
            return self._open(now_s, f"{failed} of {requests} requests failed in {self.settings.window:g} s: {cause}")
        return None

    def cancel(self, now_s: float, began_s: float, is_probe: bool = False) -> None:
        """Note that an attempt ended without a verdict: gives a probe's place back and changes nothing else."""
        if is_probe:
            self._give_back(began_s)

    def hasten(self, now_s: float) -> None:
        """End the cooldown early: something besides the attempts says that it may be back. A probe decides."""
        if self.state == "open":
            self.until_s = min(self.until_s, now_s)

    # -- operators --------------------------------------------------------------------------------------------------

    def reset(self, now_s: float) -> State | None:
        """Close it and forget all but the places of probes that are under way.

        Returns:
            The new state if this changed it.
        """
        was = self.state
        self._start_anew(now_s)
        return None if was == "closed" else "closed"

    def resettle(self, settings: BreakerSettings, now_s: float) -> State | None:
        """Take changed settings over and keep the state; a shorter cooldown or slow start holds at once.

        Returns:
            The new state if this changed it, which only `enabled` does.
        """
        before, self.settings = self.settings, settings
        self._window.resettle(settings.window, now_s)
        if settings.enabled != before.enabled:
            return self.reset(now_s)
        grown_s = self.cooldown_s / before.cooldown * settings.cooldown
        cooldown_s = min(max(grown_s, settings.cooldown), self._most_s)
        if self.state == "open":
            self.cooldown_s = min(self.cooldown_s, cooldown_s)
            self.until_s = min(self.until_s, self._next_probe_s())
        else:
            self.cooldown_s = cooldown_s
        if self.state == "closed":
            self._slow_until_s = min(self._slow_until_s, self.since_s + settings.slow_start)
        return None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _start_anew(self, now_s: float) -> None:
        self.state, self.since_s, self.reason, self.is_calm = "closed", now_s, None, True
        self.cooldown_s = self.settings.cooldown
        self.until_s = self._opened_s = self._doubles_until_s = self._slow_until_s = -math.inf
        self._counts_from_s = now_s
        self._in_a_row = self._successes = 0
        self._window.clear(now_s)

    def _open(self, now_s: float, reason: str) -> State:
        if self.state == "closed" and now_s >= self._doubles_until_s:
            self.cooldown_s = self.settings.cooldown
        else:
            self.cooldown_s = min(self.cooldown_s * 2, self._most_s)
        self.state, self.since_s, self.reason, self.is_calm = "open", now_s, reason, False
        self._opened_s = now_s
        self.until_s = self._next_probe_s()
        self._counts_from_s = math.nextafter(now_s, math.inf)  # what began in the same instant began before
        self._successes = 0
        return "open"

    def _close(self, now_s: float) -> State:
        self.state, self.since_s = "closed", now_s
        self._counts_from_s = now_s
        self._doubles_until_s = now_s + COOLDOWNS_TO_FORGET * self.cooldown_s
        self._slow_until_s = now_s + self.settings.slow_start
        self._in_a_row = 0
        self._window.clear(now_s)
        return "closed"

    @property
    def _most_s(self) -> float:
        return max(self.settings.cooldown, self.settings.max_cooldown)

    def _next_probe_s(self) -> float:
        over_s = self._opened_s + self.cooldown_s
        too_many = len(self._probes) - self.settings.probes
        if too_many < 0:
            return over_s
        return max(over_s, self._probes[too_many] + self._most_s)  # every place is held: until one is taken back

    def _lost(self, now_s: float) -> int:
        """Count the probes that have held their places too long; they are the first."""
        count = 0
        while count < len(self._probes) and self._probes[count] + self._most_s <= now_s:
            count += 1
        return count

    def _give_back(self, began_s: float) -> None:
        if began_s in self._probes:
            self._probes.remove(began_s)
