"""The proxy as a process of its own, for tests that need the real thing: signals, start-up, memory."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import orjson

from proxy.events import Events
from proxy.tasks import Tasks

ADDRESS: Final = re.compile(rb"http://127\.0\.0\.1:(\d+)")
ROOT: Final = Path(__file__).parents[2]
OUTPUT_BYTES: Final = 4 << 20


class ProxyProcess:
    """`python -m proxy` with a configuration file and a state folder of its own, on a free port.

    Args:
        config: the document, or None for an empty one; `state.dir` is set to a temporary folder.
        arguments: further arguments of the command line.
        environment: the whole environment of the process; None inherits ours.
        prefix: what the command begins with, such as `("taskset", "-c", "0")`.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,  # Any: the document, of whatever shape
        *,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self._config = dict(config or {})
        self._arguments = arguments
        self._environment = environment
        self._prefix = prefix
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._listening = asyncio.Event()
        self._tasks = Tasks(Events())
        self._collecting: asyncio.Task[Any] | None = None  # Any: as in Tasks
        self._output = bytearray()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process; only while it runs."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs, negative if by a signal."""
        return self._process.returncode if self._process else None

    @property
    def output(self) -> str:
        """What it has written so far to both its outputs."""
        return self._output.decode(errors="replace")

    @property
    def config_path(self) -> Path:
        """Its configuration file."""
        return self._home() / "proxy.yaml"

    @property
    def state_path(self) -> Path:
        """Its state folder."""
        return self._home() / "state"

    async def start(self, timeout_s: float = 10.0) -> None:
        """Start it and wait until it says where it listens.

        Raises:
            RuntimeError: it ended, or said nothing in time; with its output.
        """
        if self._folder is None:
            # The name is ours; a second start finds the state of the first.
            self._folder = tempfile.TemporaryDirectory(prefix="switchyard-test-")
            self.write_config(self._config)
        if self._collecting is not None:
            await self._collecting  # what the last process said belongs to it
        self._listening.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self._prefix,
            sys.executable,
            *("-m", "proxy", "--config", str(self.config_path), "--port", "0", *self._arguments),
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._collecting = self._tasks.spawn(self._collect(self._process), name="proxy output")
        try:
            async with asyncio.timeout(timeout_s):
                await self._listening.wait()
        except TimeoutError:
            await self.close()
            raise RuntimeError(
                f"the proxy did not say where it listens within {timeout_s:g} s:\n{self.output}"
            ) from None
        if not self.port:
            await self.close()
            raise RuntimeError(f"the proxy ended with {self.returncode}:\n{self.output}")

    def write_config(self, config: Mapping[str, Any]) -> None:  # Any: as in the constructor
        """Write the configuration file anew, in one step, as an editor does."""
        document = {**config, "state": {"dir": str(self.state_path), **config.get("state", {})}}
        draft = self.config_path.with_suffix(".new")
        draft.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))  # JSON is YAML
        draft.rename(self.config_path)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running().send_signal(number)

    async def wait(self, timeout_s: float = 10.0) -> int:
        """Wait for its end and return how it ended."""
        async with asyncio.timeout(timeout_s):
            return await self._running().wait()

    async def terminate(self, timeout_s: float = 10.0) -> int:
        """Ask it to end by SIGTERM, wait, and return how it ended."""
        if self.returncode is None:
            self.send_signal(signal.SIGTERM)
        return await self.wait(timeout_s)

    async def kill(self) -> int:
        """End it by SIGKILL."""
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)
        return await self.wait()

    async def close(self) -> None:
        """End it if it runs and remove its folder."""
        if self._process is not None and self.returncode is None:
            await self.kill()
        await self._tasks.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def cpu_s(self) -> float:
        """User and system time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Its resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def _collect(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 (for the type checker: it is a pipe)
        begin = len(self._output)
        self.port = 0
        while data := await process.stdout.read(1 << 16):
            self._output += data[: max(0, OUTPUT_BYTES - len(self._output))]
            if not self.port and (match := ADDRESS.search(self._output, begin)):
                self.port = int(match[1])
                self._listening.set()
        await process.wait()
        self._listening.set()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the proxy process is not started")
        return self._process

    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the proxy process is not started")
        return Path(self._folder.name)
