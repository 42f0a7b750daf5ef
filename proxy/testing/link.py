"""One connection through a fault proxy: bytes both ways, as its turn's fault lets them."""

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Final, Protocol

from proxy.testing.fault import Direction, Fault, FaultKind
from proxy.testing.raw_client import LINGER_ZERO, READ_BYTES
from proxy.testing.steps import Cut, CutKind, Pause
from proxy.testing.turn import Turn

CONNECT_S: Final = 5.0
SETTLE_S: Final = 0.001
SETTLE_TRIES: Final = 1000
"""So often we look whether the client has what was sent before a reset."""
TCP_CLOSE: Final = 7
TCP_CLOSE_WAIT: Final = 8


class Owner(Protocol):
    """What a link tells, and asks."""

    def draw(self, *, is_reused: bool) -> Fault | None: ...
    def passed(self, direction: Direction, data: memoryview) -> None: ...
    def struck(self, kind: FaultKind) -> None: ...


class _Ended(Exception):
    """A fault has ended the connection."""


class Link:
    """A client's connection and ours to the upstream.

    Args:
        client: connected, not blocking; closed by `close`.
        upstream: host and port.
    """

    def __init__(self, owner: Owner, client: socket.socket, upstream: tuple[str, int]) -> None:
        self._owner = owner
        self._client = client
        self._address = upstream
        self._upstream = socket.socket()
        self._upstream.setblocking(False)
        self.is_reused = False
        """Whether it has had a turn before this one."""
        self._turn: Turn | None = None
        self._has_spoken = False  # the upstream, in this turn
        self._stalled: set[Direction] = set()
        self._changed = asyncio.Event()
        self._end: CutKind = "rst"
        for sock in (client, self._upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Pass bytes until both ends have ended, one of them fails, or a fault ends it; then call `close`."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(self._upstream, self._address)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump("up", self._client, self._upstream))
                pumps.create_task(self._pump("down", self._upstream, self._client))
            self._end = "fin"
        except* (OSError, _Ended):
            pass  # the end that was chosen, else a reset, tells both sides

    def close(self) -> None:
        """End both connections: by RST, unless both sides had ended or a fault said otherwise."""
        for sock in (self._client, self._upstream):
            if self._end == "rst":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            else:
                _shut(sock, socket.SHUT_WR)  # before `close`, which sends RST where bytes are unread
            sock.close()

    def end_with(self, kind: CutKind) -> int:
        """Say how `close` ends it; FIN leaves at once, and what comes after it is answered with RST, not taken.

        Returns:
            How many bytes of the client had come by then, and will never be read.
        """
        self._end = kind
        if kind == "fin":
            for sock in (self._client, self._upstream):
                _shut(sock, socket.SHUT_RDWR)
        return _count(self._client, termios.FIONREAD)

    def switch(self, fault: Fault | None) -> None:
        """Put the turn under another fault; what waits looks again."""
        if self._turn is not None:
            self._turn.switch(fault)
        self._changed.set()
        self._changed = asyncio.Event()

    def is_left(self) -> bool:
        """Tell whether the client is gone, where nothing is read that would show it.

        A client that has sent FIN may still wait for its answer: through a stall it counts as gone when the request
        will not arrive, or when the upstream has ended as well.
        """
        client, upstream = _state(self._client), _state(self._upstream)
        if client == TCP_CLOSE_WAIT and self._stalled:
            return "up" in self._stalled or upstream in (TCP_CLOSE, TCP_CLOSE_WAIT)
        return client == TCP_CLOSE

    async def _pump(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        while data := await self._receive(direction, source):
            self._heard(direction)
            await self._pass(direction, sink, data)
        await self._allowed(direction, 1)  # the end counts as one more byte
        sink.shutdown(socket.SHUT_WR)

    async def _receive(self, direction: Direction, source: socket.socket) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(source, READ_BYTES)
        except ConnectionError:
            if direction == "down":
                await self._allowed(direction, 1)  # a stall holds back a reset as well
            raise

    async def _pass(self, direction: Direction, sink: socket.socket, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            count = await self._allowed(direction, len(rest))
            if not rest:
                return
            await asyncio.get_running_loop().sock_sendall(sink, rest[:count])
            self._owner.passed(direction, rest[:count])
            rest = rest[count:]

    def _heard(self, direction: Direction) -> None:
        if self._turn is None or (direction == "up" and self._has_spoken):
            self.is_reused = self._turn is not None
            self._turn = Turn(self._owner.draw(is_reused=self.is_reused), self._owner.struck)
        self._has_spoken = direction == "down"

    async def _allowed(self, direction: Direction, available: int) -> int:
        """Wait for as long as the fault wants, then tell how many bytes may pass."""
        while True:
            move = available if self._turn is None else self._turn.move(direction, available)
            if isinstance(move, int):
                return move
            if isinstance(move, Cut):
                await self._settle()
                self._end = move.kind
                raise _Ended
            if isinstance(move, Pause):
                await self._wait(move.seconds)
            else:
                self._stalled.add(direction)
                await self._wait(None)
                self._stalled.discard(direction)

    async def _settle(self) -> None:
        """Let the client's kernel have what was sent: a reset throws away what it has not."""
        for _ in range(SETTLE_TRIES):
            if not _count(self._client, termios.TIOCOUTQ):
                return
            await asyncio.sleep(SETTLE_S)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass  # the pause is over


def _state(sock: socket.socket) -> int:
    """Ask the kernel; 0 where it does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _count(sock: socket.socket, request: int) -> int:
    """Ask the kernel for a number of bytes."""
    return int.from_bytes(fcntl.ioctl(sock, request, bytes(4)), sys.byteorder)


def _shut(sock: socket.socket, how: int) -> None:
    try:
        sock.shutdown(how)
    except OSError:
        pass  # it was not connected any more
