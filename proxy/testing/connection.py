"""One connection to a fake provider: requests in, steps out, and what became of it."""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Protocol, cast

import httptools

from proxy.testing.requests import EarlyClose, SeenRequest
from proxy.testing.steps import Cut, CutKind, HalfClose, Pause, Stall, Step

LINGER_ZERO: Final = struct.pack("ii", 1, 0)
SETTLE_S: Final = 0.02
"""Between the last bytes and a reset, so that what was sent is there before it."""


class Owner(Protocol):
    """What a connection tells, and asks; FakeProvider says what each means."""

    def began(self, request: SeenRequest) -> None: ...
    def answers_early(self, request: SeenRequest) -> bool: ...
    def completed(self, request: SeenRequest) -> None: ...
    def steps_for(self, request: SeenRequest) -> Iterator[Step]: ...
    def closed_early(self, close: EarlyClose) -> None: ...
    def lost(self, connection: "Connection") -> None: ...
    def spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> "asyncio.Task[Any]": ...  # Any: as in Tasks


class Connection(asyncio.Protocol):
    """Parses requests with httptools and answers them one at a time."""

    def __init__(self, owner: Owner, number: int, opened: Callable[["Connection"], None]) -> None:
        self._owner = owner
        self._number = number
        self._opened = opened
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._request: SeenRequest | None = None
        self._waiting: deque[SeenRequest] = deque()
        self._task: asyncio.Task[Any] | None = None  # Any: as in Tasks
        self._unanswered: SeenRequest | None = None
        self._bytes_sent = 0
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._is_ours = False  # whether the end of the connection is our doing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close("fin", f"HTTP/1.1 400 Bad Request\r\nX-Reason: {error}\r\n\r\n".encode())

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._can_write.set()
        pending = self._unanswered or (self._waiting[0] if self._waiting else self._request)
        if pending is not None and not self._is_ours:
            self._owner.closed_early(EarlyClose(pending, self._bytes_sent))
        if self._task is not None:
            self._task.cancel()
        self._owner.lost(self)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode()
        request = SeenRequest(method, path, query, self._headers, time.monotonic(), self._number)
        self._url, self._headers, self._request = b"", [], request
        self._owner.began(request)
        self._answer_early(request)
        if not request.is_answered_early and (request.header("expect") or "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        if self._request is not None:
            self._request.body += data
            self._answer_early(self._request)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        if request is None:
            return
        request.is_complete = True
        self._owner.completed(request)
        if not request.is_answered_early:
            self._enqueue(request)

    def pause_reading(self) -> None:
        """Take no more bytes; what the peer sends piles up at its side."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking bytes."""
        self._transport.resume_reading()

    def close(self, kind: CutKind, last: bytes = b"") -> None:
        """End the connection from this side."""
        self._is_ours = True
        if last:
            self._transport.write(last)
        if kind == "fin":
            self._transport.close()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self._transport.abort()

    def _answer_early(self, request: SeenRequest) -> None:
        if not request.is_answered_early and self._owner.answers_early(request):
            request.is_answered_early = True
            self._enqueue(request)

    def _enqueue(self, request: SeenRequest) -> None:
        self._waiting.append(request)
        if self._task is None or self._task.done():
            self._task = self._owner.spawn(self._answer_all(), name=f"fake provider {self._number}")

    async def _answer_all(self) -> None:
        while self._waiting and not self._has_ended():
            self._unanswered = request = self._waiting.popleft()
            self._bytes_sent = 0
            for step in self._owner.steps_for(request):
                await self._take(step)
                if self._has_ended():
                    return
            self._unanswered = None
            if (request.header("connection") or "").lower() == "close":
                self.close("fin")

    def _has_ended(self) -> bool:
        return self._is_ours or self._transport.is_closing()

    async def _take(self, step: Step) -> None:
        if isinstance(step, bytes):
            self._transport.write(step)
            self._bytes_sent += len(step)
            await self._can_write.wait()
            await asyncio.sleep(0)  # a reader on the same loop sees each write by itself
        elif isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, asyncio.Event):
            await step.wait()
        elif isinstance(step, Cut):
            if step.kind == "rst":
                await asyncio.sleep(SETTLE_S)
            self.close(step.kind)
        elif isinstance(step, HalfClose):
            self._is_ours = True
            self._transport.write_eof()
        elif isinstance(step, Stall):
            await asyncio.Event().wait()  # until connection_lost cancels this task
