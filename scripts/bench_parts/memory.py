"""What is measured once rather than under load: the start, idle memory, memory per open stream, reads per stream."""

import asyncio
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson

from proxy.testing import RawClient, encode_request
from scripts.bench_parts.servers import (
    START_TIMEOUT_S,
    BenchError,
    Place,
    Server,
    end,
    find_tool,
    free_port,
    switchyard,
)

PATH = "/v1/chat/completions"
SETTLE_S = 0.5


@dataclass(frozen=True)
class Footprint:
    """Start and memory of this proxy."""

    start_s: float
    idle_mb: float
    per_stream_kb: float
    streams: int


def measure_footprint(place: Place, upstream: Server, held: bytes, streams: int) -> Footprint:
    """Start the proxy five times, then open many streams that stay silent and look at its memory.

    Args:
        held: the request of such a stream.
        streams: how many.
    """
    config = {
        "maxConcurrency": streams + 100,
        "providers": {"openai": openai_provider(upstream)},
    }
    start_s = statistics.median(_start_once(place) for _ in range(5))
    with switchyard(place, config) as server:
        time.sleep(SETTLE_S)
        idle = server.rss_bytes()
        grown = asyncio.run(_growth(server, held, streams))
    return Footprint(start_s, idle / 1e6, grown / streams / 1e3, streams)


def openai_provider(upstream: Server) -> dict[str, object]:
    """Configure a provider that is one of our upstreams."""
    return {"type": "openai", "baseUrl": f"{upstream.url}/v1", "apiKey": "sk-bench", "models": ["*"]}


def reads_per_stream(server: Server, body: bytes, connections: int, samples: int = 5) -> float:
    """Count the chunks that a relay passes on for one stream, under load: each of its reads becomes one."""
    try:
        return asyncio.run(_chunks(server, body, connections, samples))
    except ExceptionGroup as group:
        tail = server.log.read_text(errors="replace")[-1000:]
        raise BenchError(f"{server.name}: a stream failed: {group.exceptions[0]!r}\n{tail}") from group


def _start_once(place: Place) -> float:
    """Time from starting the process to the whole answer of the first chat completion, in seconds."""
    port = free_port()
    path = place.folder / f"config-{port}.yaml"
    path.write_bytes(orjson.dumps({"state": {"dir": str(place.folder / f"state-{port}")}}))
    command = [find_tool("taskset"), "-c", str(place.core), sys.executable, "-m", "proxy"]
    started_s = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 (our own command line)
        [*command, "--config", str(path), "--port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        asyncio.run(_first_answer(f"http://127.0.0.1:{port}", process))
        return time.monotonic() - started_s
    finally:
        end(process)


async def _first_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    body = b'{"model":"any","messages":[{"role":"user","content":"Hello"}]}'
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            try:
                async with RawClient(url) as client:
                    response = await client.request("POST", PATH, body)
            except ConnectionRefusedError:
                if process.poll() is not None:
                    raise BenchError(f"the proxy ended with {process.returncode} instead of starting") from None
                await asyncio.sleep(0.005)
            else:
                if response.status != 200:
                    raise BenchError(f"the first answer is {response.status}: {response.text[:300]}")
                return


async def _growth(server: Server, held: bytes, streams: int) -> int:
    async with AsyncExitStack() as stack:
        before = 0
        # One stream first: what it loads and allocates once is not the price of each.
        for number in range(streams + 1):
            client = await stack.enter_async_context(RawClient(server.url))
            await client.send(encode_request("POST", PATH, held, host="127.0.0.1"))
            response = await client.read_head()
            if response.status != 200 or not await client.read_part(response):
                raise BenchError(f"an idle stream begins with {response.status}")
            if number == 0:
                await asyncio.sleep(SETTLE_S)
                before = server.rss_bytes()
        await asyncio.sleep(SETTLE_S)
        return server.rss_bytes() - before


async def _chunks(server: Server, body: bytes, connections: int, samples: int) -> float:
    has_ended = asyncio.Event()

    async def load() -> None:
        async with RawClient(server.url) as client:
            while not has_ended.is_set():
                await client.request("POST", PATH, body)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections - 1):
            group.create_task(load())
        async with RawClient(server.url) as client:
            seen = [len((await client.request("POST", PATH, body)).parts) for _ in range(samples)]
        has_ended.set()
    return statistics.mean(seen)
