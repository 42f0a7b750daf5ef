"""Runs `loop_probe.py` beside a scenario, and watches how late this process is itself."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

SCRIPT = Path(__file__).with_name("loop_probe.py")
WAIT_S = 10.0
BEAT_S = 0.02


class Probe:
    """A probe that is at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._late_s = 0.0

    async def beat(self) -> None:
        """Note for ever how late this loop wakes up: what it holds back meanwhile reaches the proxy all at once."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self._late_s = max(self._late_s, time.monotonic() - began_s - BEAT_S)

    async def end(self) -> tuple[float, float]:
        """Stop asking; gives the longest stall of the proxy's loop and the noise of the machine, in seconds."""
        async with asyncio.timeout(WAIT_S):
            output, _ = await self._process.communicate(b"")
        assert self._process.returncode == 0, "I6: the probe of the event loop was not answered"
        document = orjson.loads(output)
        return document["worst"], max(document["noise"], self._late_s)


@asynccontextmanager
async def probing(port: int, pid: int) -> AsyncIterator[Probe]:
    """Probe the event loop of the proxy at a port until `Probe.end`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(SCRIPT), str(port), str(pid)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    probe = Probe(process)
    beating = asyncio.create_task(probe.beat())
    try:
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
        yield probe
    finally:
        beating.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
