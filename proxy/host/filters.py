"""The stream filters of one stream, one after the other, each of them contained."""

from collections.abc import Callable
from time import perf_counter

from proxy.errors import Refused
from proxy.host.answers import junk
from proxy.host.containment import Containment
from proxy.host.hooks import Hook
from proxy.sink import StreamFilter


class FilterChain:
    """What the relay sees of all filters: one StreamFilter.

    It raises what a filter refuses, and PluginFailed for fail-closed plugins only.
    """

    def __init__(self, filters: list[tuple[Hook, StreamFilter]], containment: Containment) -> None:
        self._filters = [(hook.events or hook, stream_filter) for hook, stream_filter in filters]
        self._containment = containment

    def event(self, event: bytes) -> bytes:
        """Pass an event through every filter; what a failing filter held back is lost, later events pass it by."""
        for hook, stream_filter in tuple(self._filters):
            if not event:
                break
            event = self._run(hook, stream_filter, stream_filter.event, event)
        return event

    def end(self) -> bytes:
        """Collect what the filters hold back; what one gives up still passes the later ones."""
        held = b""
        for hook, stream_filter in tuple(self._filters):
            if held:
                held = self._run(hook, stream_filter, stream_filter.event, held)
            if (hook, stream_filter) in self._filters:
                held += self._run(hook, stream_filter, at_end(stream_filter), b"")
        return held

    def _run(self, hook: Hook, stream_filter: StreamFilter, act: Callable[[bytes], bytes], data: bytes) -> bytes:
        """Call a filter once; after a failure it leaves the chain and the data stays as it was."""
        started = perf_counter()
        try:
            changed = act(data)
            if not isinstance(changed, bytes):
                raise junk("a stream filter", changed, "bytes")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit | Refused):
                raise
            self._filters.remove((hook, stream_filter))
            self._containment.failed(hook, error)
            return data
        took_s = perf_counter() - started
        hook.stats.calls.value += 1
        hook.stats.seconds.value += took_s
        self._containment.passed(hook, took_s)
        return changed


def at_end(stream_filter: StreamFilter) -> Callable[[bytes], bytes]:
    """Give a filter's `end` the shape of its `event`."""
    return lambda _: stream_filter.end()
