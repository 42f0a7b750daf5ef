"""The provider of the stream scenario: heads at once, then one event per stream every few milliseconds.

Streams are spread over as many slots as the pace has milliseconds; each millisecond one slot writes, so that events
of different streams arrive spread out, and each event of a stream by itself. A request whose body contains
`"hold"` gets the first text and then silence. Run as `python stream_upstream.py PORT EVENTS PACE_MS`.
"""

import asyncio
import sys
from typing import cast

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def chunk(delta: bytes, finish: bytes = b"null") -> bytes:
    """Write one event of a chat completion as an HTTP chunk, about 200 bytes."""
    event = (
        b'data: {"id":"chatcmpl-bench0001","object":"chat.completion.chunk","created":1760000000,"model":"gpt-bench",'
        b'"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]}\n\n' % (delta, finish)
    )
    return b"%x\r\n%b\r\n" % (len(event), event)


def stream_of(count: int) -> list[bytes]:
    """Write the events of one stream: role, texts, finish reason, end marker."""
    texts = [chunk(b'{"content":" token%02d"}' % number) for number in range(count - 3)]
    return [chunk(b'{"role":"assistant","content":""}'), *texts, chunk(b"{}", b'"stop"'), LAST]


class Pacer:
    """Writes to the streams of one slot each millisecond."""

    def __init__(self, events: list[bytes], pace_ms: int) -> None:
        self.events = events
        self._slots: list[dict[Stream, None]] = [{} for _ in range(pace_ms)]
        self._joined = 0

    def join(self, stream: "Stream") -> None:
        """Give a stream a slot."""
        stream.slot = self._joined % len(self._slots)
        self._joined += 1
        self._slots[stream.slot][stream] = None

    def leave(self, stream: "Stream") -> None:
        """Take a stream out."""
        self._slots[stream.slot].pop(stream, None)

    async def run(self) -> None:
        """Tick for ever; a tick that is late is not made up for."""
        loop = asyncio.get_running_loop()
        due_s, at = loop.time(), 0
        while True:
            for stream in list(self._slots[at]):
                stream.write_next()
            at = (at + 1) % len(self._slots)
            due_s = max(due_s + 0.001, loop.time())
            await asyncio.sleep(due_s - loop.time())


class Stream(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._next = 0
        self._received = b""
        self.slot = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are of no class of asyncio

    def connection_lost(self, exc: Exception | None) -> None:
        self._pacer.leave(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), None)
        if body.endswith(b"0\r\n\r\n") if length is None else len(body) >= length:
            self._received = b""
            self._begin(is_held=b'"hold"' in body)

    def _begin(self, *, is_held: bool) -> None:
        self._next = 0
        self._transport.write(HEAD)
        if is_held:
            self._transport.write(b"".join(self._pacer.events[:2]))
        else:
            self._pacer.join(self)

    def write_next(self) -> None:
        """Send the next event; after the last the connection is idle."""
        self._transport.write(self._pacer.events[self._next])
        self._next += 1
        if self._next == len(self._pacer.events):
            self._pacer.leave(self)


async def main(port: int, count: int, pace_ms: int) -> None:
    """Serve for ever."""
    pacer = Pacer(stream_of(count), pace_ms)
    await asyncio.get_running_loop().create_server(lambda: Stream(pacer), "127.0.0.1", port, backlog=1024)
    await pacer.run()


if __name__ == "__main__":
    uvloop.run(main(*(int(argument) for argument in sys.argv[1:4])))
