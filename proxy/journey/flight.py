"""Upstream work that others read besides the client: it goes on while any of them is there."""

import asyncio
from collections.abc import Callable, Coroutine
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
    """The sink of a flight: the client, as long as it is there, and the audience, as long as it does not fail.

    While others read, the client does not set the pace: they go on without it until it is `MAX_AHEAD_BYTES` behind.

    Args:
        report: told what the audience raised.
    """

    def __init__(self, client: Sink, audience: Audience, report: Callable[[Exception], None]) -> None:
        self._client: Sink | None = client
        self._audience: Audience | None = audience
        self._report = report
        self._ahead_bytes = 0
        self.is_started = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody reads besides the client."""
        return self._audience is not None and self._audience.is_wanted

    def leave(self) -> None:
        """Write to the client no more."""
        self._client = None

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Begin for everybody."""
        self.is_started = True
        if self._client is not None:
            self._client.start(status, headers, length, has_body)
        if self._audience is not None:
            try:
                self._audience.start(status, headers)
            except Exception as error:  # foreign code
                self._drop(error)

    def write(self, data: bytes) -> bool:
        """Send body bytes to everybody; False when somebody is behind who must not be."""
        is_ready = True
        if self._audience is not None:
            try:
                is_ready = self._audience.write(data)
            except Exception as error:  # foreign code
                self._drop(error)
        if self._client is None:
            return is_ready
        if self._client.write(data):
            self._ahead_bytes = 0
            return is_ready
        self._ahead_bytes += len(data)
        return is_ready and self._ahead_bytes <= MAX_AHEAD_BYTES and self.is_wanted

    def finish(self) -> None:
        """End the response for everybody."""
        if self._client is not None:
            self._client.finish()
        if self._audience is not None:
            try:
                self._audience.finish()
            except Exception as error:  # foreign code
                self._drop(error)

    def broke_off(self, error: ProxyError | None) -> None:
        """Tell the audience that there is no whole response; None: everybody left."""
        if self._audience is not None:
            try:
                self._audience.fail(error)
            except Exception as raised:  # foreign code
                self._drop(raised)

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
        if self._audience is not None:
            try:
                await self._audience.drain()
            except Exception as error:  # foreign code
                self._drop(error)
        if self._client is None or not self._ahead_bytes:
            return
        if not self.is_wanted:
            await self._client.drain()
            return
        try:
            async with asyncio.timeout(LAG_WAIT_S):
                await self._client.drain()
        except (TimeoutError, ConnectionError):
            self.abort()
            self.leave()

    def _drop(self, error: Exception) -> None:
        self._audience = None
        self._report(error)


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

    def __init__(self, sink: Shared, work: Coroutine[Any, Any, None], tasks: Tasks) -> None:
        self._sink = sink
        self._landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._has_begun = False
        self.error: BaseException | None = None
        """What the work ended with."""
        self.task = tasks.spawn(self._run(work), name="flight")

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; who follows it hears what went wrong, and nobody may be there to."""
        self._has_begun = True
        try:
            await work
        except Exception as error:  # raised again by `follow`
            self.error = error
        except asyncio.CancelledError as error:
            self.error = error
            raise
        finally:
            self._land()

    def _land(self) -> None:
        if self.error is not None:
            self._sink.broke_off(self.error if isinstance(self.error, ProxyError) else None)
        if not self._landed.done():
            self._landed.set_result(None)

    @property
    def has_landed(self) -> bool:
        """The work has ended."""
        return self._landed.done() and not self._landed.cancelled()

    async def follow(self) -> None:
        """Wait for the end of the work and raise what it raised; being cancelled meanwhile leaves the work alone."""
        await self._landed
        if self.error is not None:
            raise self.error

    def leave(self, *, is_over: bool = False) -> None:
        """Go on without the client, or, where nobody else reads or it is to be over for all, not at all."""
        self._sink.leave()
        if is_over or not self._sink.is_wanted:
            self.task.cancel()
            if not self._has_begun:  # and never will
                self.error = asyncio.CancelledError()
                self._land()
