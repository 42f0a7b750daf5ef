"""The load: wrk with a Lua script, and what it measured."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scripts.bench_parts.servers import BenchError, Server, find_tool

WARM_UP_S = 1
MARK = "bench-result "
DONE = """
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\\nbench-result {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}\\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Measurement:
    """One run against one server. Memory is read while the connections are still warm."""

    requests: int
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the server's process tree, for one request."""
    rss_mb: float


UNLIKE = """
local asked, begun = 0, os.time() * 1000000
request = function()
    asked = asked + 1
    return wrk.format(nil, nil, nil, (wrk.body:gsub('please', string.format('please %16d', begun + asked), 1)))
end
"""
"""Makes each request another question, of the same length."""


def write_script(folder: Path, name: str, body: str, *, is_unlike: bool = False) -> Path:
    """Write the script that sends one chat completion again and again, or as many different ones."""
    path = folder / f"{name}.lua"
    path.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n"
        "wrk.headers['Content-Type'] = 'application/json'\nwrk.headers['Authorization'] = 'Bearer sk-client'\n"
        + (UNLIKE if is_unlike else "")
        + DONE
    )
    return path


def measure(server: Server, script: Path, connections: int, seconds: int) -> Measurement:
    """Warm a server up, then load it; an answer that is no success ends the benchmark."""
    run_wrk(server, script, connections, WARM_UP_S)
    before_s = server.cpu_s()
    result = run_wrk(server, script, connections, seconds)
    cpu_s = server.cpu_s() - before_s
    if result["errors"] or not result["requests"]:
        tail = server.log.read_text(errors="replace")[-1000:]
        raise BenchError(f"{server.name}: {result['errors']} of {result['requests']} requests failed\n{tail}")
    return Measurement(
        requests=result["requests"],
        per_s=result["requests"] / result["duration_us"] * 1e6,
        p50_ms=result["p50_us"] / 1e3,
        p99_ms=result["p99_us"] / 1e3,
        cpu_us=cpu_s / result["requests"] * 1e6,
        rss_mb=server.rss_bytes() / 1e6,
    )


def run_wrk(server: Server, script: Path, connections: int, seconds: int) -> dict[str, int]:
    """Run wrk on one thread.

    Returns:
        `{"requests", "duration_us", "p50_us", "p99_us", "errors"}`, all int.
    """
    command = [find_tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    done = subprocess.run(  # noqa: S603 (our own command line)
        [*command, "-s", str(script), f"{server.url}/v1/chat/completions"],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            found: dict[str, int] = json.loads(line.removeprefix(MARK))
            return found
    raise BenchError(f"wrk against {server.name} ended with {done.returncode}: {done.stderr or done.stdout}")
