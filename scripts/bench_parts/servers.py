"""Processes the benchmark starts and ends: where they run, when they answer, what they use."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]
PARTS = Path(__file__).parent
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


@dataclass(frozen=True)
class Server:
    """A running process tree that listens on a port of loopback."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _pids(self) -> list[int]:
        """The process and its descendants."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())
        return found

    def cpu_s(self) -> float:
        """User and system time of the tree so far."""
        total = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS_PER_S

    def rss_bytes(self) -> int:
        """Resident memory of the tree; pages that processes share count in each."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self._pids())
        return sum(map(int, pages)) * PAGE_BYTES


@dataclass(frozen=True)
class Place:
    """Where things run: the core of the servers under test, and a folder for their files."""

    core: int
    folder: Path


def find_tool(name: str) -> str:
    """Find a program; daemons live in /usr/sbin, which is not on everyone's PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if found is None:
        raise BenchError(f"{name} is not installed")
    return found


def free_port() -> int:
    """Find a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, command: Sequence[str], port: int, folder: Path, core: int | None = None) -> Iterator[Server]:
    """Run a command until the block ends; the block begins when its port accepts connections.

    Args:
        core: where it is pinned; None leaves it beside the load generator.
    """
    prefix = [find_tool("taskset"), "-c", str(core)] if core is not None else []
    log = folder / f"{name.replace(' ', '-')}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own command lines)
            [*prefix, *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for_port(process, port, name, log)
        yield Server(name, process, port, log)
    finally:
        end(process)


def wait_for_port(process: subprocess.Popen[bytes], port: int, name: str, log: Path) -> None:
    """Wait until a process accepts connections."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise BenchError(
        f"{name} does not listen (ended with {process.poll()}):\n{log.read_text(errors='replace')[-2000:]}"
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: they are a session of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            try:
                os.killpg(process.pid, number)
                process.wait(STOP_TIMEOUT_S)
            except ProcessLookupError:
                pass
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def switchyard(place: Place, config: dict[str, Any], name: str = "switchyard") -> Iterator[Server]:
    """Run this proxy with a configuration; its state goes to a folder of its own."""
    port = free_port()
    path = place.folder / f"config-{port}.yaml"
    path.write_bytes(orjson.dumps({**config, "state": {"dir": str(place.folder / f"state-{port}")}}))
    command = [sys.executable, "-m", "proxy", "--config", str(path), "--port", str(port)]
    with running(name, command, port, place.folder, place.core) as server:
        yield server


@contextmanager
def bare_relay(place: Place, upstream_url: str) -> Iterator[Server]:
    """Run the yardstick."""
    port = free_port()
    command = [sys.executable, str(PARTS / "bare_relay.py"), str(port), upstream_url]
    with running("bare relay", command, port, place.folder, place.core) as server:
        yield server


@contextmanager
def nginx_proxy(place: Place, upstream: Server) -> Iterator[Server]:
    """Run nginx as a reverse proxy: kept upstream connections, no buffering, no access log."""
    location = """
            proxy_pass http://upstream;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;"""
    before = f"upstream upstream {{ server 127.0.0.1:{upstream.port}; keepalive 256; keepalive_requests 100000000; }}"
    with _nginx("nginx", place.folder, location, before, place.core) as server:
        yield server


@contextmanager
def json_upstream(folder: Path, body: str) -> Iterator[Server]:
    """Run nginx as a provider that answers everything with one JSON text, beside the load generator."""
    location = f"""
            default_type application/json;
            return 200 '{body}';"""
    with _nginx("json upstream", folder, location, "", None) as server:
        yield server


@contextmanager
def stream_upstream(folder: Path, events: int, pace_ms: int) -> Iterator[Server]:
    """Run the provider of streams, beside the load generator."""
    port = free_port()
    command = [sys.executable, str(PARTS / "stream_upstream.py"), str(port), str(events), str(pace_ms)]
    with running("stream upstream", command, port, folder) as server:
        yield server


@contextmanager
def _nginx(name: str, folder: Path, location: str, before: str, core: int | None) -> Iterator[Server]:
    port = free_port()
    home = folder / f"nginx-{port}"
    home.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"    {kind}_temp_path {home}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    path = home / "nginx.conf"
    path.write_text(f"""
{user}
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 100000000;
{paths}
    {before}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{{location}
        }}
    }}
}}
""")
    command = [find_tool("nginx"), "-p", str(home), "-e", str(home / "error.log"), "-c", str(path)]
    with running(name, command, port, folder, core) as server:
        yield server
