"""What becomes of a hook that fails: counted, told once, and its plugin switched off when it goes on so."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import ClientError, PluginFailed, Refused
from proxy.events import Events, Level
from proxy.host.hooks import Hook

if TYPE_CHECKING:
    from loguru import Logger

REPORT_EVERY_S: Final = 10.0
"""The same trouble of the same hook is told at most once in this time."""

LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a plugin may go.

    Args:
        budget_s: what an asynchronous hook may take before it is cut.
        slow_s: what any hook may keep the loop from other work; it cannot be cut, only counted as an overrun.
        most_failures: consecutive failures and overruns of one hook that switch its plugin off.
    """

    budget_s: float = 0.25
    slow_s: float = 0.2
    most_failures: int = 5


class Containment:
    """Judges failures of hooks, for all plugins of one process.

    Args:
        clock: monotonic seconds.
        switch_off: takes the hook that keeps failing and the reason; may be told more than once.
    """

    def __init__(
        self,
        limits: Limits,
        events: Events,
        log: "Logger",
        clock: Callable[[], float],
        switch_off: Callable[[Hook, str], None],
    ) -> None:
        self.limits = limits
        self._events = events
        self._log = log
        self._clock = clock
        self._switch_off = switch_off

    def passed(self, hook: Hook, blocked_s: float) -> None:
        """Note a call that went well; it is an overrun when it kept the loop for too long."""
        if blocked_s < self.limits.slow_s:
            hook.stats.recent.append(True)
            return
        hook.stats.overruns.value += 1
        most_ms = self.limits.slow_s * 1000
        took = f"{blocked_s * 1000:.0f} ms, limit {most_ms:g} ms"
        message = f"plugin {hook.plugin} kept everything waiting in {hook.name}: {took}"
        self._report("WARN", "plugin_slow", hook, message)
        self._judge(hook, "blocks the event loop")

    def failed(self, hook: Hook, error: BaseException, *, is_overrun: bool = False) -> None:
        """Note a call that raised, answered junk or was cut.

        Raises:
            PluginFailed: the plugin is fail-closed.
        """
        self.noted(hook, error, is_overrun=is_overrun)
        self._judge(hook, f"{hook.name} keeps failing: {describe(error)}")
        if hook.is_closed:
            raise PluginFailed(f"the plugin {hook.plugin} failed, and no request may pass without it") from error

    def noted(self, hook: Hook, error: BaseException, *, is_overrun: bool = False) -> None:
        """Count and tell a failure, and leave it at that."""
        (hook.stats.overruns if is_overrun else hook.stats.errors).value += 1
        self.told(hook, error)

    def told(self, hook: Hook, error: BaseException) -> None:
        """Tell a failure that was counted."""
        message = f"plugin {hook.plugin} failed in {hook.name}: {describe(error)}"
        self._report("ERROR", "plugin_failed", hook, message, error)

    def _judge(self, hook: Hook, reason: str) -> None:
        hook.stats.recent.append(False)
        if not hook.is_closed and hook.stats.is_failing(self.limits.most_failures):
            self._switch_off(hook, reason)

    def _report(self, level: Level, kind: str, hook: Hook, message: str, error: BaseException | None = None) -> None:
        now_s = self._clock()
        last_s, left_out = hook.stats.reported.get(kind, (None, 0))
        if last_s is not None and now_s - last_s < REPORT_EVERY_S:
            hook.stats.reported[kind] = (last_s, left_out + 1)
            return
        hook.stats.reported[kind] = (now_s, 0)
        more = f" ({left_out} more like it since the last report)" if left_out else ""
        self._events.emit(level, kind, message + more, plugin=hook.plugin, hook=hook.name, left_out=left_out)
        if error is not None:
            self._log.opt(exception=error).debug("traceback of plugin {} in {}", hook.plugin, hook.name)


def is_answer(error: BaseException) -> bool:
    """Whether an exception is meant for the client rather than a failure of the plugin."""
    return isinstance(error, Refused | ClientError)


def describe(error: BaseException) -> str:
    """Put an exception into one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON].removesuffix(":")
