"""Upstream work that others read besides the client: it goes on while any of them is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from proxy.errors import ProxyError
from proxy.exchange import Audience, Exchange
from proxy.sink import Sink
from proxy.tasks import Tasks

MAX_AHEAD_BYTES: Final = 1 << 20
"""How much the client may fall behind others who read the same."""
LAG_WAIT_S: Final = 10.0
"""How long others then wait for it; then it is dropped."""


class Shared:
    """The sink of a flight: the client, as long as it is there, and the audience.

    While others read, the client does not set the pace: they go on without it until it is `MAX_AHEAD_BYTES` behind.
    """

    def __init__(self, client: Sink, audience: Audience) -> None:
        self._client: Sink | None = client
        self._audience = audience
        self._ahead_bytes = 0
        self.is_started = False

    def leave(self) -> None:
        """Write to the client no more."""
        self._client = None

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Begin for everybody."""
        self.is_started = True
        if self._client is not None:
            self._client.start(status, headers, length, has_body)
        self._audience.start(status, headers)

    def write(self, data: bytes) -> bool:
        """Send body bytes to everybody; False when somebody is behind who must not be."""
        is_ready = self._audience.write(data)
        if self._client is None:
            return is_ready
        if self._client.write(data):
            self._ahead_bytes = 0
            return is_ready
        self._ahead_bytes += len(data)
        return is_ready and self._audience.is_wanted and self._ahead_bytes <= MAX_AHEAD_BYTES

    def finish(self) -> None:
        """End the response for everybody."""
        if self._client is not None:
            self._client.finish()
        self._audience.finish()

    def fail(self, error: ProxyError) -> None:
        """Tell the client; the audience is told by who runs the flight."""
        if self._client is not None:
            self._client.fail(error)

    def abort(self) -> None:
        """Drop the client's connection."""
        if self._client is not None:
            self._client.abort()

    async def drain(self) -> None:
        """Wait until everybody has caught up, or has been dropped. Raises ConnectionError if a lonely client left."""
        await self._audience.drain()
        if self._client is None or not self._ahead_bytes:
            return
        if not self._audience.is_wanted:
            await self._client.drain()
            return
        try:
            async with asyncio.timeout(LAG_WAIT_S):
                await self._client.drain()
        except (TimeoutError, ConnectionError):
            self.abort()
            self.leave()


class Nobody:
    """The client of a request that is asked anew in the background."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.is_started = False

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Note the status."""
        self.is_started = True
        self._exchange.status = status

    def write(self, data: bytes) -> bool:
        """Count the bytes."""
        self._exchange.bytes_out += len(data)
        return True

    def finish(self) -> None:
        """Take the end."""

    def fail(self, error: ProxyError) -> None:
        """Note how it ended."""
        self._exchange.status = error.status

    def abort(self) -> None:
        """Take the end."""

    async def drain(self) -> None:
        """Never be behind."""


class Flight:
    """One exchange's upstream work in a task of its own.

    Args:
        sink: what the work writes to.
    """

    def __init__(self, sink: Shared, audience: Audience, work: Coroutine[Any, Any, None], tasks: Tasks) -> None:
        self._sink = sink
        self._audience = audience
        self._landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: BaseException | None = None
        """What the work ended with."""
        self.task = tasks.spawn(self._run(work), name="flight")
        self.task.add_done_callback(self._land)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; who follows it hears what went wrong, and nobody may be there to."""
        try:
            await work
        except (Exception, asyncio.CancelledError) as error:
            self.error = error
            if isinstance(error, asyncio.CancelledError):
                raise

    def _land(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            self.error = self.error or asyncio.CancelledError()
        if self.error is not None:
            self._audience.fail(self.error if isinstance(self.error, ProxyError) else None)
        if not self._landed.done():
            self._landed.set_result(None)

    @property
    def has_landed(self) -> bool:
        """The work has ended."""
        return self.task.done()

    async def follow(self) -> None:
        """Wait for the end of the work and raise what it raised; being cancelled meanwhile leaves the work alone."""
        await self._landed
        if self.error is not None:
            raise self.error

    def leave(self, *, is_over: bool = False) -> None:
        """Go on without the client, or, where nobody else reads or it is to be over for all, not at all."""
        self._sink.leave()
        if is_over or not self._audience.is_wanted:
            self.task.cancel()
