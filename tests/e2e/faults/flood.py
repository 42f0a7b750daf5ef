"""Thousands of small requests a second from one test, and what became of each; `load` can do some hundreds."""

import asyncio
import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self, cast

from proxy.testing import encode_request
from tests.e2e.rig import CALLS

LONGEST_S: Final = 30.0
TICK_S: Final = 0.005
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got; status 0: the connection ended without an answer. Times are of `time.monotonic()`."""

    status: int
    sent_s: float
    took_s: float
    has_retry_after: bool


def chat(key: str | None = None, **more: object) -> bytes:
    """Write a chat completion for `Flood`, shown with a caller's key."""
    call = CALLS["openai"]
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return encode_request("POST", call.path, call.body(**more), headers, host="127.0.0.1")


class _Connection(asyncio.Protocol):
    """One connection with at most one request on it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_closed = False
        self._buffer = bytearray()
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._answered is None or self._answered.done():
            return
        length = LENGTH.search(self._buffer, 0, end)
        if length is None or len(self._buffer) >= end + 4 + int(length[1]):
            self._answered.set_result(bytes(self._buffer[:end]))
            self._buffer.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(b"")

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for the end of its answer, which must have a length."""
        assert self.transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        sent_s = time.monotonic()
        self.transport.write(request)
        async with asyncio.timeout(LONGEST_S):
            head = await self._answered
        lowered = head.lower()
        if b"\r\nconnection: close" in lowered:
            self.close()
        status = int(head[9:12]) if head else 0
        return Answer(status, sent_s, time.monotonic() - sent_s, b"\r\nretry-after: " in lowered)

    def close(self) -> None:
        self.is_closed = True
        if self.transport is not None:
            self.transport.abort()


@dataclass(slots=True)
class Flood:
    """Clients of a proxy on one host; connections are used again, and made where none is free."""

    port: int
    _free: list[_Connection] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for connection in self._free:
            connection.close()

    async def ask(self, request: bytes) -> Answer:
        """Send one request."""
        while self._free and self._free[-1].is_closed:
            self._free.pop()
        if self._free:
            connection = self._free.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self.port)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if not connection.is_closed:
            self._free.append(connection)
        return answer

    async def pour(self, request: bytes, rate: float, seconds: float) -> list[Answer]:
        """Send so many requests a second, whatever becomes of those before; in the order of sending."""
        begin_s = time.monotonic()
        asking: list[asyncio.Task[Answer]] = []
        async with asyncio.TaskGroup() as tasks:
            while (passed_s := time.monotonic() - begin_s) < seconds:
                while len(asking) < passed_s * rate:
                    asking.append(tasks.create_task(self.ask(request)))
                await asyncio.sleep(min(TICK_S, max(0.0, (len(asking) + 1) / rate - passed_s)))
        return [task.result() for task in asking]

    async def keep_busy(self, request: bytes, clients: int, seconds: float) -> list[Answer]:
        """Have so many clients ask again as soon as they are answered."""
        end_s = time.monotonic() + seconds

        async def client() -> list[Answer]:
            answers = []
            while time.monotonic() < end_s:
                answers.append(await self.ask(request))
            return answers

        return [answer for answers in await asyncio.gather(*(client() for _ in range(clients))) for answer in answers]


def statuses(answers: Iterable[Answer]) -> dict[int, int]:
    """Count answers by status."""
    return dict(Counter(answer.status for answer in answers))


def of_status(answers: Iterable[Answer], status: int) -> list[Answer]:
    """Pick the answers with one status."""
    return [answer for answer in answers if answer.status == status]


def p99_ms(answers: Sequence[Answer]) -> float:
    """What 99 of 100 answers stayed below, in milliseconds."""
    return quantile_ms(answers, 99)


def quantile_ms(answers: Sequence[Answer], percent: int) -> float:
    """What so many percent of the answers stayed below, in milliseconds; NaN for less than two."""
    if len(answers) < 2:
        return math.nan
    took = [answer.took_s for answer in answers]
    return statistics.quantiles(took, n=100, method="inclusive")[percent - 1] * 1000
