"""Debian's redis-server for tests: in memory only, on loopback and on a Unix socket, ended by its own process id."""

import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.tools import require_tool

READY: Final = "Ready to accept connections"
TRIES: Final = 5
"""Another process may take the free port before the server does."""
ANSWER_S: Final = 10.0


class RedisServer:
    """One server of one's own.

    Args:
        folder: where its socket is; kept short, a path of a Unix socket has 107 characters at most.
        arguments: options of redis-server, such as `"--requirepass", "secret"`.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.path = folder / "redis.sock"
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        """On loopback; stays the same when it is started again."""

    @property
    def url(self) -> str:
        """Where it is by TCP."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """Where it is by its Unix socket."""
        return f"unix://{self.path}"

    def start(self) -> None:
        """Run it until it answers; empty, as it keeps nothing."""
        for _ in range(1 if self.port else TRIES):
            port = self.port or free_port()
            process = self._run(port)
            if _is_ready(process):
                self._process, self.port = process, port
                return
            _end(process)
        raise RuntimeError("redis-server does not start")

    def stop(self) -> None:
        """Kill it: connections are reset, and nobody listens any more."""
        if self._process is not None:
            _end(self._process)
            self._process = None

    def freeze(self) -> None:
        """Stop the process by a signal: connections are taken by the kernel, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with all it was asked meanwhile."""
        self._signal(signal.SIGCONT)

    def ask(self, *words: str) -> str:
        """Send a command without the client under test.

        Returns:
            The first line of the answer, such as `+OK`, `:3` or `-ERR …`.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_S) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().rstrip()

    def clients(self) -> int:
        """Count the connections to it, but this one's."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_S) as connection:
            connection.sendall(b"INFO clients\r\n")
            lines = iter(connection.makefile("rb").readline, b"")
            return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"connected_clients")) - 1

    def _run(self, port: int) -> "subprocess.Popen[str]":
        options = {
            "--port": str(port),
            "--bind": "127.0.0.1",
            "--unixsocket": str(self.path),
            "--dir": str(self._folder),
            "--save": "",
            "--appendonly": "no",
        }
        words = [word for option in options.items() for word in option]
        command = [str(require_tool("redis-server")), *words, *self._arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(number)


def free_port() -> int:
    """Find a port on loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def short_folder() -> "tempfile.TemporaryDirectory[str]":
    """Make a folder whose path is short enough for a socket."""
    return tempfile.TemporaryDirectory(prefix="redis-")


def _is_ready(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout is not None
    return any(READY in line for line in iter(process.stdout.readline, ""))


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait(ANSWER_S)
    if process.stdout is not None:
        process.stdout.close()
