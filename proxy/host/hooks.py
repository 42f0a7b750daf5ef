"""One implementation of a hook as the dispatcher calls it, and what is known about how it behaves."""

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import pluggy

from proxy.metrics import Registry, Value

WINDOW: Final = 20
"""Calls over which the share of failures is judged."""

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "startup": (),
    "shutdown": (),
    "reconfigure": ("config",),
    "pre_request": ("exchange",),
    "select_provider": ("exchange", "candidates"),
    "stream_filter": ("exchange",),
    "post_response": ("exchange",),
    "admin_routes": (),
    "identify": ("text", "is_credential"),
    "reset": (),
    "config_issues": (),
}
"""Every hook with its arguments, in the order in which the dispatcher passes them."""


class HookStats:
    """What one plugin's hook has cost and how it ended; totals are the process's, what failed lately is this one's."""

    __slots__ = ("calls", "errors", "overruns", "recent", "reported", "seconds")

    def __init__(self, metrics: Registry, plugin: str, hook: str) -> None:
        labels = ("plugin", "hook")
        self.calls: Value = metrics.counter("plugin_hook_calls_total", "Calls of a plugin's hook.", labels).series(
            plugin, hook
        )
        self.seconds: Value = metrics.counter(
            "plugin_hook_seconds_total", "Time in a plugin's hook, waiting included.", labels
        ).series(plugin, hook)
        self.errors: Value = metrics.counter(
            "plugin_hook_errors_total", "Calls of a plugin's hook that raised or answered junk.", labels
        ).series(plugin, hook)
        self.overruns: Value = metrics.counter(
            "plugin_hook_overruns_total", "Calls of a plugin's hook that were cut or blocked the loop.", labels
        ).series(plugin, hook)
        self.recent: deque[bool] = deque(maxlen=WINDOW)
        """Whether each of the last calls went well, newest last."""
        self.reported: dict[str, tuple[float, int]] = {}
        """Per kind of event: when it was last emitted, and how many were left out since."""

    def is_failing(self, most_failures: int) -> bool:
        """Whether the last `most_failures` calls all failed, or half of the last `WINDOW`."""
        recent = self.recent
        if len(recent) >= most_failures and not any(islice(reversed(recent), most_failures)):
            return True
        return len(recent) == WINDOW and recent.count(False) * 2 >= WINDOW

    def describe(self) -> dict[str, float | int]:
        """Show the figures under their names in JSON."""
        return {
            "calls": int(self.calls.value),
            "seconds": round(self.seconds.value, 6),
            "errors": int(self.errors.value),
            "overruns": int(self.overruns.value),
        }


class Hook:
    """One implementation: `call` takes the arguments of `ARGUMENTS[name]`, whichever of them the plugin named.

    Args:
        rank: 0 when it is to be called before the others (`tryfirst`), 2 when after them (`trylast`), else 1.
        events: of a stream filter, the hook under which its events are counted, apart from the making of filters.
        is_noted_only: of `post_response`, it is called for exchanges only that the plugin has noted something of.
    """

    __slots__ = ("call", "events", "is_closed", "is_noted_only", "name", "plugin", "rank", "stats")

    def __init__(
        self,
        name: str,
        plugin: str,
        stats: HookStats,
        call: Callable[..., Any],
        *,
        is_closed: bool,
        rank: int = 1,
        events: "Hook | None" = None,
        is_noted_only: bool = False,
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.is_closed = is_closed
        self.stats = stats
        self.call = call
        self.rank = rank
        self.events = events
        self.is_noted_only = is_noted_only


def adapt(implementation: pluggy.HookImpl, given: tuple[str, ...]) -> Callable[..., Any]:
    """Make a function of exactly the arguments in `given` from one that names only those it uses."""
    function: Callable[..., Any] = implementation.function  # Any: what a plugin answers is checked by the dispatcher
    wanted = tuple(implementation.argnames)
    if wanted == given:
        return function
    if not wanted:
        return lambda *_: function()
    places = tuple(given.index(name) for name in wanted)
    return lambda *arguments: function(*(arguments[place] for place in places))
