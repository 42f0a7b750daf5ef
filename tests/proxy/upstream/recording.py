"""The relay's neighbours as stand-ins that write down what happens to them, and a socket's reads."""

import asyncio

from proxy.errors import ProxyError
from proxy.sink import ResponseHead
from proxy.upstream.relay import Relay
from proxy.usage import Usage

HEAD = ResponseHead(200, [b"Content-Type: text/event-stream"])


class RecordingSink:
    """A client's side; `keeps_up` False makes it fall behind until `catch_up`."""

    def __init__(self) -> None:
        self.is_started = False
        self.keeps_up = True
        self.status = 0
        self.headers = b""
        self.length: int | None = None
        self.has_body = True
        self.writes: list[bytes] = []
        self.is_finished = False
        self.error: ProxyError | None = None
        self._caught_up = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    def start(self, status: int, headers: bytes, length: int | None, has_body: bool) -> None:
        assert not self.is_started
        self.is_started = True
        self.status, self.headers, self.length, self.has_body = status, headers, length, has_body

    def write(self, data: bytes) -> bool:
        assert self.is_started
        assert not self.is_finished
        self.writes.append(data)
        return self.keeps_up

    def finish(self) -> None:
        assert self.is_started
        assert not self.is_finished
        self.is_finished = True

    def whole(self, status: int, headers: bytes, body: bytes) -> bool:
        assert body
        self.start(status, headers, len(body), True)
        is_ready = self.write(body)
        self.finish()
        return is_ready

    def fail(self, error: ProxyError) -> None:
        assert not self.is_finished
        self.error = error

    async def drain(self) -> None:
        await self._caught_up.wait()
        self._caught_up.clear()

    def catch_up(self) -> None:
        self.keeps_up = True
        self._caught_up.set()


class RecordingConnection:
    """The upstream side of a relay."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


class Watcher:
    """An observer of a made-up format: `out` is output, `[DONE]` the end, `oops` an error."""

    def __init__(self) -> None:
        self.has_output = False
        self.is_complete = False
        self.error: str | None = None
        self.usage: Usage | None = None
        self.served_model: str | None = None
        self.seen = b""
        self.is_finished = False

    def feed(self, data: bytes) -> None:
        self.seen += data
        self.has_output = b"out" in self.seen
        self.is_complete = b"[DONE]" in self.seen
        self.error = "oops" if b"oops" in self.seen else None

    def finish(self) -> None:
        self.is_finished = True


def receive(relay: Relay, *reads: bytes, head: ResponseHead | None = HEAD) -> None:
    """Bring one socket read for each piece; the head, if there is one, comes in the first."""
    if head is not None:
        relay.on_head(head)
    for number, data in enumerate(reads):
        relay.on_data(data)
        if head is not None and number == 0:
            relay.on_read()
