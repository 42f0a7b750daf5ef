"""When the store is left alone, and for how long; pure counting, with the time passed in."""

from typing import Final

from proxy.config.store_models import StoreBreakerSettings

COOLDOWNS_TO_FORGET: Final = 10
"""A circuit that stays closed for so many of its last cooldowns starts from the shortest again."""


class Circuit:
    """Opens after failures in a row, and closes when somebody who tried says so: no request is sent to find out.

    A call tells how it went with the era it began in. What began before the last opening or closing counts for
    nothing: it tells how things were.

    Args:
        settings: failures in a row, and cooldowns in seconds.
    """

    def __init__(self, settings: StoreBreakerSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._calm_from_s = 0.0
        self.is_open = False
        self.era = 0
        """Changes so far."""
        self.since_s = 0.0
        """When it opened last."""
        self.cooldown_s = settings.cooldown
        """Until the next try while it is open."""

    def succeed(self, era: int) -> None:
        """Note a call that was answered."""
        if era == self.era:
            self._failures = 0

    def fail(self, era: int, now_s: float) -> bool:
        """Note a call that was not.

        Args:
            now_s: monotonic clock in seconds, here and below; never earlier than at the last call.
        Returns:
            Whether this one has opened it.
        """
        if era != self.era or self.is_open:
            return False
        self._failures += 1
        if self._failures < self._settings.failures:
            return False
        self.open(now_s)
        return True

    def open(self, now_s: float) -> None:
        """Leave the store alone; soon after it was back, for twice as long as the last time."""
        self._change(is_open=True)
        self.since_s = now_s
        if now_s < self._calm_from_s:
            self.stay_open()
        else:
            self.cooldown_s = min(self._settings.cooldown, self._settings.max_cooldown)

    def stay_open(self) -> None:
        """Note that it was tried in vain: the next cooldown is twice as long."""
        self.cooldown_s = min(self.cooldown_s * 2, self._settings.max_cooldown)

    def close(self, now_s: float) -> None:
        """Let calls through again."""
        self._change(is_open=False)
        self._calm_from_s = now_s + COOLDOWNS_TO_FORGET * self.cooldown_s

    def _change(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.era += 1
        self._failures = 0
