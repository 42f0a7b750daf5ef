"""Where a response goes that others read besides the client, and one that no client waits for."""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.errors import ProxyError
from proxy.exchange import Audience, Exchange
from proxy.sink import Sink
from proxy.tasks import Tasks

MAX_AHEAD_BYTES: Final = 1 << 20
"""How much the client may fall behind others who read the same."""
LAG_WAIT_S: Final = 10.0
"""How long others then wait for it; then it is dropped."""
PART_OF_PATIENCE: Final = 0.9
"""Or it is dropped when this much of the time is over after which everybody would lose the response."""
LOOK_AGAIN_S: Final = 0.05
"""How often it is looked whether others have come who read, or have left."""


class Shared:
    """The client and an audience as one sink, the audience as long as it does not fail.

    While others read, the client does not set the pace: they go on without it until it is `MAX_AHEAD_BYTES` behind.

    Args:
        report: told what the audience raised.
        tasks: for a client that is behind.
        patience_s: how long whoever waits for the readers does so; then it takes the client for gone, and the
            response ends for all. Who is too slow is dropped before that.
    """

    _reading: "asyncio.Task[bool] | None" = None

    def __init__(
        self,
        client: Sink,
        audience: Audience,
        report: Callable[[Exception], None],
        tasks: Tasks,
        patience_s: float,
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._patience_s = patience_s
        self._audience: Audience | None = audience
        self._report = report
        self._ahead_bytes = 0
        self.is_started = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody reads besides the client."""
        return self._audience is not None and self._audience.is_wanted

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        """Begin for everybody."""
        self.is_started = True
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
        if self._client.write(data):
            self._ahead_bytes = 0
            return is_ready
        return self._may_lag(len(data)) and is_ready

    def finish(self) -> None:
        """End the response for everybody."""
        self._client.finish()
        if self._audience is not None:
            try:
                self._audience.finish()
            except Exception as error:  # foreign code
                self._drop(error)

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Send a whole response to everybody; False when somebody is behind who must not be."""
        self.is_started = True
        keeps_up, is_ready = self._client.whole(status, headers, body), True
        if self._audience is not None:
            try:
                self._audience.start(status, headers)
                is_ready = self._audience.write(body)
                self._audience.finish()
            except Exception as error:  # foreign code
                self._drop(error)
        return (keeps_up or self._may_lag(len(body))) and is_ready

    def _may_lag(self, length: int) -> bool:
        """Take note that the client is behind by so many bytes more; whether others may go on without it."""
        self._ahead_bytes += length
        return self._ahead_bytes <= MAX_AHEAD_BYTES and self.is_wanted

    def broke_off(self, error: ProxyError | None) -> None:
        """Tell the audience that there is no whole response; None: everybody left."""
        if self._audience is not None:
            try:
                self._audience.fail(error)
            except Exception as raised:  # foreign code
                self._drop(raised)

    def fail(self, error: ProxyError) -> None:
        """Tell the client; the audience is told by who asked for the response."""
        self._client.fail(error)

    def abort(self) -> None:
        """Drop the client's connection."""
        self._client.abort()

    async def drain(self) -> None:
        """Wait until everybody has caught up, or has been dropped. Raises ConnectionError if a lonely client left."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + self._patience_s * PART_OF_PATIENCE
        if self._audience is not None:
            try:
                await self._audience.drain()
            except Exception as error:  # foreign code
                self._drop(error)
        if not self._ahead_bytes:
            return
        reading, late_s = self._begin_reading(), 0.0
        while not reading.done() and late_s < LAG_WAIT_S:
            if self.is_wanted:
                if self._ahead_bytes <= MAX_AHEAD_BYTES:
                    return
                if clock() >= until_s:
                    break
                late_s += LOOK_AGAIN_S
            await asyncio.wait((reading,), timeout=LOOK_AGAIN_S)
        if not reading.done():
            self.abort()
        elif not reading.result() and not self.is_wanted:
            raise ConnectionResetError("the client left")
        self._ahead_bytes = 0

    def _begin_reading(self) -> "asyncio.Task[bool]":
        """Have it waited for that the client reads on: a wait of a sink is not to be given up and begun again."""
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.spawn(_reads_on(self._client), name="client that is behind")
        return self._reading

    def _drop(self, error: Exception) -> None:
        self._audience = None
        self._report(error)


async def _reads_on(client: Sink) -> bool:
    """Wait until a client has caught up; False if it left."""
    try:
        await client.drain()
    except ConnectionError:
        return False
    return True


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

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        """Note the status and count the bytes."""
        self.start(status, headers, len(body), True)
        return self.write(body)

    def fail(self, error: ProxyError) -> None:
        """Note how it ended."""
        self._exchange.status = error.status

    def abort(self) -> None:
        """Take the end."""

    async def drain(self) -> None:
        """Never be behind."""
