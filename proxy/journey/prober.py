"""Finds out by an unbilled call whether a provider whose circuit is open is back, so that no request has to."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.errors import ProxyError, UpstreamError
from proxy.events import Events
from proxy.providers.base import RemoteProvider
from proxy.reload.generation import Generation
from proxy.routing.health import ProviderHealth
from proxy.sink import ResponseHead
from proxy.tasks import Tasks
from proxy.upstream.endpoint import Endpoint
from proxy.upstream.headers import begin_head, frame_head, write_request_headers
from proxy.upstream.pool import Pool

ALIVE_BELOW = 500
"""A provider that says 401 or 404 is there."""


class Pulse:
    """Receiver of a response of which only the status counts."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_head(self, head: ResponseHead) -> None:
        """Take the status."""
        if not self.status.done():
            self.status.set_result(head.status)

    def on_data(self, data: bytes) -> None:
        """Pass over the body."""

    def on_read(self) -> None:
        """Pass over the end of a read."""

    def on_end(self) -> None:
        """Pass over the end."""

    def on_failure(self, error: UpstreamError) -> None:
        """Take the news that there is no response."""
        if not self.status.done():
            self.status.set_exception(error)


class Prober:
    """Probes providers with open circuits, one task for each.

    Args:
        generation: gives the one in force.
        clock: monotonic seconds.
    """

    def __init__(
        self, tasks: Tasks, events: Events, generation: Callable[[], Generation], clock: Callable[[], float]
    ) -> None:
        self._tasks = tasks
        self._events = events
        self._generation = generation
        self._clock = clock
        self._running: dict[ProviderHealth, asyncio.Task[Any]] = {}  # Any: as in Tasks

    def begin(self, health: ProviderHealth) -> None:
        """Probe a provider until it is back, if its settings say so; requests are no probes meanwhile."""
        if self._endpoint(health) is None or health in self._running:
            return
        health.awaits_probe = True
        self._running[health] = self._tasks.spawn(self._watch(health), name=f"probe of {health.name}")

    def _endpoint(self, health: ProviderHealth) -> Endpoint | None:
        """Give where to probe a provider; None if it is not to be, or if its name leads to another place now."""
        generation = self._generation()
        if generation.health.get(health.name) is not health:
            return None
        endpoint = generation.endpoints[health.name]
        return endpoint if endpoint.provider.settings.active_probe.enabled else None

    async def _watch(self, health: ProviderHealth) -> None:
        name = health.name
        try:
            while health.has_open_circuit:
                if (endpoint := self._endpoint(health)) is None:
                    return
                await asyncio.sleep(endpoint.provider.settings.active_probe.interval)
                if (endpoint := self._endpoint(health)) is None:  # changed meanwhile
                    return
                if (status := await _status(endpoint)) is not None and status < ALIVE_BELOW:
                    self._events.emit("INFO", "probe_answered", f"{name} answers a probe with status {status}")
                    return
        finally:
            health.awaits_probe = False
            health.hasten(self._clock())
            del self._running[health]


async def _status(endpoint: Endpoint) -> int | None:
    """Make one call; None if there was no answer in time."""
    remote, pool, probe = endpoint.remote, endpoint.pool, endpoint.provider.settings.active_probe
    if remote is None or pool is None:
        return None
    try:
        async with asyncio.timeout(probe.timeout):
            return await _ask(remote, pool, probe.path)
    except (TimeoutError, ProxyError):
        return None


async def _ask(remote: RemoteProvider, pool: Pool, path: str) -> int:
    credential = remote.credentials[0] if remote.credentials else None
    lines = write_request_headers(remote.own_headers(credential, None, ()))
    target = remote.target(path.encode("ascii"), b"")
    head = frame_head(begin_head(b"GET", target, remote.host_header, lines), None)
    connection = await pool.connect()
    pulse = Pulse()
    try:
        connection.send(head, b"", pulse, False, remote.settings.timeouts)
        return await pulse.status
    finally:
        connection.abort()  # the rest of the answer is not worth reading
