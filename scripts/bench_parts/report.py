"""From measurements to a table: medians over the rounds, ratios within each round, the machine."""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import proxy
from scripts.bench_parts.load import Measurement
from scripts.bench_parts.memory import Footprint
from scripts.bench_parts.servers import find_tool

LIMITS = {"json": 0.60, "stream": 0.75}
"""Most CPU per request of this proxy, as a part of the bare relay's in the same round."""
MOST_START_S = 1.0
MOST_IDLE_MB = 70.0
MOST_PER_STREAM_KB = 40.0
OURS = "switchyard"
HIT, MISS, THREE_RULES = "cache hit", "cache miss", "three limits"
"""This proxy with one plugin more, by what it does then."""
MOST_HIT_RATIO = 0.35
MOST_ADDED_US = {MISS: 15.0, THREE_RULES: 5.0}
"""CPU per request beside this proxy without them."""
YARDSTICK = "bare relay"

Rounds = dict[str, list[Measurement]]
"""Measurements by server, one a round."""


@dataclass(frozen=True)
class Row:
    """Medians of one server in one scenario; ratios are to the bare relay, None where it did not run."""

    server: str
    cpu_us: float
    cpu_ratio: float | None
    per_s: float
    per_s_ratio: float | None
    p50_ms: float
    p99_ms: float
    rss_mb: float


def rows_of(rounds: Rounds) -> list[Row]:
    """Reduce the rounds of one scenario."""

    def median(server: str, pick: Callable[[Measurement], float]) -> float:
        return statistics.median(map(pick, rounds[server]))

    def ratio(server: str, pick: Callable[[Measurement], float]) -> float | None:
        if YARDSTICK not in rounds:
            return None
        pairs = zip(rounds[server], rounds[YARDSTICK], strict=True)
        return statistics.median(pick(one) / pick(other) for one, other in pairs)

    return [
        Row(
            server,
            cpu_us=median(server, lambda one: one.cpu_us),
            cpu_ratio=ratio(server, lambda one: one.cpu_us),
            per_s=median(server, lambda one: one.per_s),
            per_s_ratio=ratio(server, lambda one: one.per_s),
            p50_ms=median(server, lambda one: one.p50_ms),
            p99_ms=median(server, lambda one: one.p99_ms),
            rss_mb=median(server, lambda one: one.rss_mb),
        )
        for server in rounds
    ]


def table(title: str, rows: Sequence[Row]) -> str:
    """Lay one scenario out."""
    lines = [
        title,
        f"  {'':<12}{'CPU/request':>12}{'ratio':>7}{'requests/s':>12}{'ratio':>7}{'p50':>10}{'p99':>10}{'memory':>9}",
    ]
    lines += [
        f"  {row.server:<12}{row.cpu_us:>9,.1f} µs{_ratio(row.cpu_ratio)}{row.per_s:>12,.0f}"
        f"{_ratio(row.per_s_ratio)}{row.p50_ms:>7,.2f} ms{row.p99_ms:>7,.2f} ms{row.rss_mb:>6,.0f} MB"
        for row in rows
    ]
    return "\n".join(lines)


def footprint_table(footprint: Footprint) -> str:
    """Lay start and memory out."""
    return (
        f"{OURS} alone\n"
        f"  start to first answer        {footprint.start_s:>8.2f} s    (limit {MOST_START_S:g} s)\n"
        f"  resident memory, idle        {footprint.idle_mb:>8.1f} MB   (limit {MOST_IDLE_MB:g} MB)\n"
        f"  per idle open stream         {footprint.per_stream_kb:>8.1f} KB   (limit {MOST_PER_STREAM_KB:g} KB; "
        f"{footprint.streams} open)"
    )


def misses(rows: dict[str, list[Row]], footprint: Footprint | None) -> list[str]:
    """List the limits that are not kept; what was not measured is not judged."""
    found = []
    for scenario, limit in LIMITS.items():
        found += [
            f"{scenario}: CPU per request is {row.cpu_ratio:.2f} of the bare relay's, limit {limit:g}"
            for row in rows.get(scenario, [])
            if row.server == OURS and row.cpu_ratio is not None and row.cpu_ratio > limit
        ]
    found += _plugin_misses({row.server: row for row in rows.get("plugins", [])})
    if footprint is not None:
        measured = (
            ("start to first answer, s", footprint.start_s, MOST_START_S),
            ("idle memory, MB", footprint.idle_mb, MOST_IDLE_MB),
            ("memory per idle stream, KB", footprint.per_stream_kb, MOST_PER_STREAM_KB),
        )
        found += [f"{name}: {value:.2f}, limit {limit:g}" for name, value, limit in measured if value > limit]
    return found


def _plugin_misses(rows: dict[str, Row]) -> Iterator[str]:
    if not rows:
        return
    hit_ratio = rows[HIT].cpu_ratio
    if hit_ratio is not None and hit_ratio > MOST_HIT_RATIO:
        yield f"{HIT}: CPU per request is {hit_ratio:.2f} of the bare relay's, limit {MOST_HIT_RATIO:g}"
    for name, limit_us in MOST_ADDED_US.items():
        added_us = rows[name].cpu_us - rows[OURS].cpu_us
        if added_us > limit_us:
            yield f"{name}: adds {added_us:.1f} µs of CPU to a request, limit {limit_us:g} µs"


def machine() -> dict[str, str]:
    """Describe the machine and the versions of what was measured."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    nginx = subprocess.run(  # noqa: S603 (our own command line)
        [find_tool("nginx"), "-v"], capture_output=True, text=True, timeout=10, check=False
    )
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        OURS: proxy.__version__,
        "aiohttp": version("aiohttp"),
        "uvloop": version("uvloop"),
        "httptools": version("httptools"),
        "nginx": nginx.stderr.strip().rpartition("/")[2],
    }


def _ratio(value: float | None) -> str:
    return f"{'–':>7}" if value is None else f"{value:>7.2f}"
