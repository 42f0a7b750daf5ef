"""The benchmark's command line: runs the scenarios in turn, round by round, and prints the table."""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from scripts.bench_parts.load import Measurement, measure, run_wrk, write_script
from scripts.bench_parts.memory import Footprint, measure_footprint, openai_provider, reads_per_stream
from scripts.bench_parts.report import (
    HIT,
    MISS,
    OURS,
    THREE_RULES,
    YARDSTICK,
    Rounds,
    Row,
    footprint_table,
    machine,
    misses,
    rows_of,
    table,
)
from scripts.bench_parts.servers import (
    BenchError,
    Place,
    Server,
    bare_relay,
    json_upstream,
    nginx_proxy,
    stream_upstream,
    switchyard,
)

SCENARIOS = ("json", "stream", "echo", "plugins", "memory")
JSON_CONNECTIONS, STREAM_CONNECTIONS = 64, 100
EVENTS, PACE_MS = 50, 4
IDLE_STREAMS = 500
RULES = [
    {"name": name, "counts": "requests", "per": [per], "amount": 10**9, "period": "1h"}
    for name, per in (("callers", "caller"), ("models", "model"), ("everybody", "all"))
]
BUSY_LOAD = 0.5
"""Load average of the last minute, before anything is started, above which the run is called disturbed."""
QUESTION = "Summarise the difference between a forward and a reverse proxy in two plain sentences, please."


def request_body(**extra: object) -> str:
    """Write a chat completion request of about 250 bytes."""
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": QUESTION}]
    return json.dumps({"model": "gpt-bench", "messages": messages, "temperature": 0.2, "max_tokens": 100, **extra})


def reply_body(size: int = 600) -> str:
    """Write a chat completion of `size` bytes."""
    usage = {"prompt_tokens": 31, "completion_tokens": 42, "total_tokens": 73}
    message = {"role": "assistant", "content": ""}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "chatcmpl-bench0001", "object": "chat.completion", "created": 1760000000, "model": "gpt-bench"}
    document = {**head, "choices": [choice], "usage": usage, "system_fingerprint": "fp_bench"}
    message["content"] = ("A proxy stands between two parties. " * 20)[: size - len(json.dumps(document))]
    return json.dumps(document)


class Bench:
    """One run of the benchmark."""

    def __init__(self, place: Place, *, rounds: int, seconds: int, targets: Sequence[str]) -> None:
        self._place = place
        self._rounds = rounds
        self._seconds = seconds
        self._targets = targets
        self.results: dict[str, Rounds] = {}
        self.rows: dict[str, list[Row]] = {}
        self.footprint: Footprint | None = None

    def json(self) -> None:
        """A JSON reply of 600 bytes over 64 connections."""
        script = write_script(self._place.folder, "json", request_body())
        with json_upstream(self._place.folder, reply_body()) as upstream:
            alone = run_wrk(upstream, script, JSON_CONNECTIONS, 1)
            say(f"upstream without a proxy: {alone['requests'] / alone['duration_us'] * 1e6:,.0f} requests/s")
            with ExitStack() as stack:
                servers = self._servers(stack, upstream)
                self._rounds_of("json", dict.fromkeys(servers, script), JSON_CONNECTIONS)
        self._print("json", f"JSON reply of {len(reply_body())} bytes, {JSON_CONNECTIONS} connections")

    def stream(self) -> None:
        """A stream of 50 events over 100 connections."""
        body = request_body(stream=True)
        script = write_script(self._place.folder, "stream", body)
        with stream_upstream(self._place.folder, EVENTS, PACE_MS) as upstream, ExitStack() as stack:
            servers = self._servers(stack, upstream)
            for server in servers:
                reads = reads_per_stream(server, body.encode(), STREAM_CONNECTIONS)
                say(f"{server.name}: passes a stream of {EVENTS} events on in {reads:.1f} writes")
            self._rounds_of("stream", dict.fromkeys(servers, script), STREAM_CONNECTIONS)
        self._print("stream", f"stream of {EVENTS} events, one every {PACE_MS} ms, {STREAM_CONNECTIONS} connections")

    def echo(self) -> None:
        """This proxy's own echo provider, without any upstream."""
        script = write_script(self._place.folder, "echo", request_body())
        with switchyard(self._place, {}) as server:
            self._rounds_of("echo", {server: script}, JSON_CONNECTIONS)
        self._print("echo", f"echo provider, JSON, {JSON_CONNECTIONS} connections")

    def plugins(self) -> None:
        """What cache and limits cost: as `json`, each request another question where it must not hit."""
        same, unlike = (
            write_script(self._place.folder, name, request_body(), is_unlike=is_unlike)
            for name, is_unlike in (("same", False), ("unlike", True))
        )
        with json_upstream(self._place.folder, reply_body()) as upstream, ExitStack() as stack:
            provider = {"providers": {"openai": openai_provider(upstream)}}
            cache = {"enabled": True, "size": 10_000}
            settings: dict[str, tuple[dict[str, Any], Path]] = {  # Any: of whatever shape
                OURS: ({}, unlike),
                HIT: ({"cache": cache}, same),
                MISS: ({"cache": cache}, unlike),
                THREE_RULES: ({"rateLimit": {"enabled": True, "perHour": "none", "rules": RULES}}, unlike),
            }
            servers = {
                stack.enter_context(switchyard(self._place, {**provider, **extra}, name)): script
                for name, (extra, script) in settings.items()
            }
            servers[stack.enter_context(bare_relay(self._place, upstream.url))] = unlike
            self._rounds_of("plugins", servers, JSON_CONNECTIONS)
        self._print("plugins", f"plugins: JSON reply of {len(reply_body())} bytes, {JSON_CONNECTIONS} connections")

    def memory(self) -> None:
        """Start and memory of this proxy."""
        held = request_body(stream=True, user="hold").encode()
        with stream_upstream(self._place.folder, EVENTS, PACE_MS) as upstream:
            self.footprint = measure_footprint(self._place, upstream, held, IDLE_STREAMS)
        print(f"\n{footprint_table(self.footprint)}", flush=True)

    def _servers(self, stack: ExitStack, upstream: Server) -> list[Server]:
        make = {
            OURS: lambda: switchyard(self._place, {"providers": {"openai": openai_provider(upstream)}}),
            YARDSTICK: lambda: bare_relay(self._place, upstream.url),
            "nginx": lambda: nginx_proxy(self._place, upstream),
        }
        return [stack.enter_context(make[target]()) for target in self._targets]

    def _rounds_of(self, scenario: str, servers: Mapping[Server, Path], connections: int) -> None:
        """Measure the servers, each by its script, in turn: a slow minute of the machine meets them all."""
        found: dict[str, list[Measurement]] = {server.name: [] for server in servers}
        for number in range(self._rounds):
            for server, script in servers.items():
                one = measure(server, script, connections, self._seconds)
                found[server.name].append(one)
                say(f"{scenario}, round {number + 1} of {self._rounds}: {server.name} {one.cpu_us:,.1f} µs/request")
        self.results[scenario] = found

    def _print(self, scenario: str, title: str) -> None:
        self.rows[scenario] = rows_of(self.results[scenario])
        print(f"\n{table(title, self.rows[scenario])}", flush=True)


def say(line: str) -> None:
    """Tell how far it is, beside the results."""
    print(line, file=sys.stderr, flush=True)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure this proxy beside a bare aiohttp relay and nginx, all on one core in one run.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds a scenario (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, metavar="S", help="seconds a measurement (%(default)s)")
    parser.add_argument(
        "--only", default=",".join(SCENARIOS), metavar="NAMES", help="scenarios, comma-separated (%(default)s)"
    )
    parser.add_argument(
        "--servers",
        default=f"{OURS},{YARDSTICK},nginx",
        metavar="NAMES",
        help="servers of json and stream, comma-separated (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--check", action="store_true", help="end with 1 when a limit of docs/benchmark.md is missed")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    options.servers = options.servers.split(",")
    for chosen, known in ((options.only, SCENARIOS), (options.servers, (OURS, YARDSTICK, "nginx"))):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    return options


def place_in(folder: str) -> Place:
    """Give the servers under test the first core and ourselves, with all we start beside them, the last."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        say("only one core: the load shares it with the servers, so only CPU per request means something")
    os.sched_setaffinity(0, {cores[-1]})
    return Place(cores[0], Path(folder))


def run(options: argparse.Namespace) -> int:
    """Measure and report; the result is the exit code."""
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    if (load := os.getloadavg()[0]) > BUSY_LOAD:
        print(f"other programs are busy (load average {load:.1f}): no figure below is worth quoting", flush=True)
    with tempfile.TemporaryDirectory(prefix="switchyard-bench-") as folder:
        place = place_in(folder)
        bench = Bench(place, rounds=options.rounds, seconds=options.seconds, targets=options.servers)
        for name in options.only:
            {
                "json": bench.json,
                "stream": bench.stream,
                "echo": bench.echo,
                "plugins": bench.plugins,
                "memory": bench.memory,
            }[name]()
    missed = misses(bench.rows, bench.footprint)
    print("\n" + "\n".join([f"missed: {line}" for line in missed] or ["every limit measured here is kept"]))
    if options.json:
        rounds = {
            scenario: {server: [asdict(one) for one in found] for server, found in by_server.items()}
            for scenario, by_server in bench.results.items()
        }
        footprint = asdict(bench.footprint) if bench.footprint else None
        medians = {scenario: [asdict(row) for row in rows] for scenario, rows in bench.rows.items()}
        document = {"machine": about, "rounds": rounds, "medians": medians, "alone": footprint, "missed": missed}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if missed and options.check else 0


def _stop(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; whatever it started has ended when this returns."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        return run(parse_arguments(arguments))
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        say("bench: stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
