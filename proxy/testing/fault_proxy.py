"""A TCP proxy on loopback that does to what passes through it what a bad network or a dying server would."""

import asyncio
import random
import socket
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Self
from urllib.parse import urlsplit

from proxy.events import Events
from proxy.exchange import JsonObject
from proxy.tasks import Tasks
from proxy.testing.changes import Changes
from proxy.testing.endpoints import Format, provider_entry
from proxy.testing.fault import Direction, Fault, FaultKind, Mix
from proxy.testing.link import Link
from proxy.testing.listener import Listener
from proxy.testing.steps import CutKind

FROZEN: Final = replace(Fault.stall(), directions=("up", "down"))
WATCH_S: Final = 0.02
"""A client that leaves while nothing is read from it is noticed this often."""


class FaultProxy:
    """Passes bytes on to a server, and faults as it is told; one turn, one fault.

    `faulty.set(Fault.stall(after_bytes=200))` says what befalls every turn from now on, those under way included;
    `faulty.once(Fault.reset())` what befalls the next one first; `faulty.mix({Fault.reset(): 0.1})` draws lots.
    Every wait has a timeout and raises TimeoutError.

    Args:
        url: whom it passes to; only scheme, host and port count. A server that cannot be reached resets the client.
        seed: the n-th turn of a run draws what it drew in the last run with the same seed.
        record_bytes: so much of what passes in each direction is kept in `recorded`.
    """

    def __init__(self, url: str, *, seed: int = 0, record_bytes: int = 0) -> None:
        split = urlsplit(url)
        self._scheme = split.scheme
        self._upstream = (split.hostname or "127.0.0.1", split.port or 80)
        self._seed = seed
        self._random = random.Random()
        self._standing: Fault | Mix | None = None
        self._next: deque[Fault] = deque()
        self._listener: Listener | None = None
        self._open: dict[Link, asyncio.Task[Any]] = {}  # Any: as in Tasks
        self._changes = Changes("fault proxy")
        self._tasks = Tasks(Events())
        self.connections_made = 0
        self.turns = 0
        self.bytes_passed: Counter[Direction] = Counter()
        """By direction: `up` is to the upstream, `down` to the client."""
        self.recorded: dict[Direction, bytearray] = {"up": bytearray(), "down": bytearray()}
        """Of all connections, in the order in which it passed."""
        self._record_bytes = record_bytes
        self.faults: Counter[FaultKind] = Counter()
        """Turns in which a fault has done something, by kind; and how often `refuse` and `blackhole` were set."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """Where it listens, or would; it does not change."""
        if self._listener is None:
            raise RuntimeError("the fault proxy has not been started")
        return self._listener.port

    @property
    def url(self) -> str:
        """The same, with the scheme of the upstream: TLS passes through."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def connections_open(self) -> int:
        """How many connections of clients are open now."""
        return len(self._open)

    def provider(
        self,
        format: Format = "openai",
        **settings: Any,  # Any: whatever the configuration takes
    ) -> JsonObject:
        """Describe the upstream behind it as an entry of `providers:`, as `FakeProvider.provider` does."""
        return provider_entry(self.url, format, {"apiKey": "sk-fake", **settings})

    def set(self, fault: Fault) -> None:
        """Let a fault befall every turn from now on, and those under way with the next bytes that come."""
        self._stand(fault)

    def once(self, *faults: Fault) -> None:
        """Let one fault each befall the next turns, before what stands.

        Raises:
            ValueError: a fault befalls no turn.
        """
        if not all(fault.is_of_turn for fault in faults):
            raise ValueError("refuse and blackhole befall no turns: set them")
        self._next.extend(faults)

    def mix(self, shares: Mapping[Fault, float]) -> None:
        """Draw for every turn that begins.

        Args:
            shares: of the turns, as `{Fault.reset(range(500)): 0.05, Fault.delay(0.2): 0.1}`; the rest go well.
        Raises:
            ValueError: the shares exceed 1 together, or a fault befalls no turn.
        """
        self._stand(Mix(shares))

    def clear(self) -> None:
        """Let all go well; what a stall has held back passes."""
        self._next.clear()
        self._stand(None)

    def drop_connections(self, kind: CutKind = "rst") -> int:
        """End every connection, idle ones too; with `fin`, nothing that comes after this call is taken any more.

        Returns:
            How many bytes of clients had come by then and were not read: whoever sent them cannot know.
        """
        unread = 0
        for link, task in self._open.items():
            if not task.cancelling():  # else it has been dropped already
                unread += link.end_with(kind)
                task.cancel()
        return unread

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._listener = Listener(self._connect, port)
        self._apply(self._listener)
        self._tasks.spawn(self._watch(), name="fault proxy watch")

    async def close(self) -> None:
        """Stop listening and reset every connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._tasks.close()

    async def wait_for_connections(self, count: int, timeout_s: float = 5.0) -> None:
        """Wait until exactly so many connections are open."""
        await self._changes.wait(
            lambda: len(self._open) == count, timeout_s, lambda: f"{count} connections, {len(self._open)} open"
        )

    async def wait_for_faults(self, count: int = 1, kind: FaultKind | None = None, timeout_s: float = 5.0) -> None:
        """Wait until faults, of one kind or any, have done something so often in all."""

        def seen() -> int:
            return self.faults.total() if kind is None else self.faults[kind]

        await self._changes.wait(lambda: seen() >= count, timeout_s, lambda: f"{count} faults, {seen()} there")

    def draw(self, *, is_reused: bool) -> Fault | None:
        """Called by a link: a turn begins."""
        self.turns += 1
        self._random.seed(f"{self._seed}/{self.turns}")  # so that it does not matter how much others drew
        standing = self._standing_for(is_reused=is_reused)
        if standing is FROZEN or not self._next or (self._next[0].only_reused and not is_reused):
            return standing
        return self._next.popleft().drawn(self._random)

    def passed(self, direction: Direction, data: memoryview) -> None:
        """Called by a link: bytes have been sent on."""
        self.bytes_passed[direction] += len(data)
        self.recorded[direction] += data[: self._record_bytes - len(self.recorded[direction])]

    def struck(self, kind: FaultKind) -> None:
        """Called by a link: a fault does something."""
        self.faults[kind] += 1
        self._changes.notify()

    def _stand(self, standing: Fault | Mix | None) -> None:
        self._standing = standing
        for link in self._open:
            link.switch(None if isinstance(standing, Mix) else self._standing_for(is_reused=link.is_reused))
        if self._listener is not None:
            self._apply(self._listener)

    def _standing_for(self, *, is_reused: bool) -> Fault | None:
        fault = self._standing.draw(self._random) if isinstance(self._standing, Mix) else self._standing
        if fault is None or (fault.only_reused and not is_reused):
            return None
        return fault.drawn(self._random) if fault.is_of_turn else FROZEN

    def _apply(self, listener: Listener) -> None:
        """Be there for clients, or not."""
        kind = self._standing.kind if isinstance(self._standing, Fault) else None
        if kind == "refuse":
            listener.refuse()
            self.drop_connections("rst")
            self.struck(kind)
        elif kind == "blackhole":
            listener.go_dark()
            self.struck(kind)
        else:
            listener.accept()

    def _connect(self, client: socket.socket) -> None:
        link = Link(self, client, self._upstream)
        task = self._tasks.spawn(link.run(), name=f"fault proxy {self.connections_made}")
        self.connections_made += 1
        self._open[link] = task
        task.add_done_callback(lambda _: self._ended(link))
        self._changes.notify()

    def _ended(self, link: Link) -> None:
        link.close()
        del self._open[link]
        self._changes.notify()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for link, task in self._open.items():
                if link.is_left():
                    link.end_with("rst")
                    task.cancel()
