"""The common rig of the fault scorecard (FAULTS.md): a proxy process, its bad providers, and the invariants I1 to I7.

async with FakeProvider() as upstream, FaultProxy(upstream.url) as faulty:
    await configure(proxy, {"up": faulty.provider(apiKey=canary("up"))})
    async with invariants(proxy, upstream, faulty) as watch:
        faulty.set(Fault.reset())
        heard = await watch.ask(CALLS["openai"])
        watch.faults = 1

    figure("A7", f"…")
"""

import asyncio
import base64
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from proxy.testing import CutOff, FakeProvider, FaultProxy, ProxyProcess, RawClient, RawResponse, encode_request
from tests.e2e.faults.probing import probing
from tests.e2e.rig import CALLS, Call, ask, clean_environment

PLUGINS = ["debug", "balancer", "metrics", "tests.e2e.faults.witness"]
MARK, TAIL = "c4n4ry9f31", "7e2d51aa"

NEXT_S = 1.0
BASELINE_S = 5.0
SLACK = 1.0 if os.environ.get("SWITCHYARD_EXACT") else 3.0
"""Times of the scorecard are held exactly by `scripts/prove`, on a quiet machine. The quick run, wherever it runs and
whatever else does, allows three times as much: it is there to find what waits that should not wait at all."""
STALL_S = 0.1 * SLACK

OF_STATE = frozenset({"circuit_open", "circuit_closed", "routing_panic"})
"""Events that tell of a change of state, not of one fault."""
WENT_ON = frozenset({"failover", "retry"})
"""Events that tell of a failure after which somebody was asked again, at most one a second for each kind."""


def figure(row: str, text: str) -> None:
    """Print what a row of the scorecard was measured to do; `pytest -rP` shows it."""
    print(f"{row:<4} {text}")


def canary(name: str) -> str:
    """Make a key that must never be seen anywhere but at the provider."""
    return f"sk-{MARK}-{name}-{TAIL}"


CLIENT_KEY = canary("client")


def start_proxy(environment: Mapping[str, str] | None = None, **sections: Any) -> ProxyProcess:
    """A proxy process of its own, to be entered; it takes a second or two to start, so share one where you can."""
    return ProxyProcess({"plugins": PLUGINS, **sections}, environment=clean_environment(**(environment or {})))


async def configure(proxy: ProxyProcess, providers: Mapping[str, Any], **sections: Any) -> None:
    """Replace the whole configuration of a running proxy; providers at new addresses begin with a clean sheet."""
    document = {"plugins": PLUGINS, "state": {"dir": str(proxy.state_path)}, "providers": providers, **sections}
    answer = await ask(proxy, "PUT", "/config", orjson.dumps(document))
    assert answer.status == 200, answer.body


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got; `body` has also what came of a part that was cut. Times are of `time.monotonic()`."""

    response: RawResponse
    body: bytes
    is_whole: bool
    sent_s: float
    ended_s: float

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def took_s(self) -> float:
        return self.ended_s - self.sent_s

    def header(self, name: str) -> str | None:
        return self.response.header(name)

    @property
    def failures(self) -> int:
        """How many attempts failed, by what the head says and how the body ended."""
        attempts = int(self.header("x-attempts") or 0)
        return attempts - (self.is_whole and self.status < 400)

    @property
    def code(self) -> str:
        """The stable code of an error in OpenAI's format."""
        document: Any = orjson.loads(self.body)
        return str(document["error"]["code"])


@dataclass(frozen=True, slots=True)
class Vitals:
    """What must come back to where it was."""

    files: int
    tasks: Mapping[str, int]
    busy: Mapping[str, int]

    def is_within(self, before: "Vitals") -> bool:
        is_small = sum(self.tasks.values()) <= sum(before.tasks.values()) and self.files <= before.files
        return is_small and not any(self.busy.values())


@dataclass(slots=True)
class Watch:
    """One scenario: what is said in it is looked through for secrets, and its faults are counted.

    Args:
        faults: attempts that failed, as clients were told; a scenario that knows better sets or corrects it. Each must
            have left one line in the log; of those after which the request went on, each must have been counted, and
            may share its line with others within the same second.
    """

    proxy: ProxyProcess
    faults: int = 0
    leaks: list[bytes] = field(default_factory=list)
    began_at: int = 0
    went_on_before: int = 0

    async def ask(self, call: Call, headers: Mapping[str, str] | None = None, **more: Any) -> Heard:
        """Send one request on a connection of its own and read until its end, whole or not.

        Args:
            more: fields of the body to add or replace.
        """
        async with RawClient(self.proxy.url) as client:
            return await self.ask_on(client, call, headers, **more)

    async def ask_on(
        self, client: RawClient, call: Call, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Heard:
        """The same on a connection that is there already, and may be used again if the answer was whole."""
        fields = {**call.headers, "Authorization": f"Bearer {CLIENT_KEY}", **(headers or {})}
        host = f"127.0.0.1:{self.proxy.port}"
        sent_s = time.monotonic()
        await client.send(encode_request("POST", call.path, call.body(**more), fields, host=host))
        response = await client.read_head()
        body, is_whole = b"", True
        try:
            while await client.read_part(response):
                pass
            body = response.body
        except CutOff as cut:
            body, is_whole = cut.partial, False
        heard = Heard(response, body, is_whole, sent_s, time.monotonic())
        self.saw(repr(response.headers).encode() + body)
        self.faults += heard.failures
        return heard

    def saw(self, data: bytes) -> None:
        """Look through something that the proxy said."""
        for word in _shapes():
            if (at := data.find(word)) >= 0:
                self.leaks.append(data[max(0, at - 80) : at + 80])

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of this scenario's log so far, each read as JSON."""
        said, _, _ = self.proxy.output[self.began_at :].rpartition("\n")
        return [orjson.loads(line) for line in said.splitlines()]

    def fault_lines(self) -> list[dict[str, Any]]:
        """The lines that tell of one fault each."""
        return [line for line in self.lines() if line["level"] in ("WARN", "ERROR") and line["event"] not in OF_STATE]


@asynccontextmanager
async def invariants(
    proxy: ProxyProcess, *upstreams: FakeProvider | FaultProxy, normal: Call = CALLS["openai"]
) -> AsyncIterator[Watch]:
    """Run a scenario; afterwards everything must be as it was.

    At its end all faults are cleared and every fake answers as if new. Idle connections to the upstreams are dropped
    before files are counted, at the beginning and at the end: what is open then is a leak.

    Args:
        normal: must be answered with 200 before the scenario and after it.
    """
    watch = Watch(proxy)
    pid = proxy.pid
    async with probing(proxy.port, proxy.pid) as probe:
        assert (await watch.ask(normal)).status == 200
        _drop(upstreams)
        before = await _settled(proxy)
        watch.began_at, watch.went_on_before = len(proxy.output), await _went_on(proxy)

        yield watch

        _heal(upstreams)
        assert (proxy.returncode, proxy.pid) == (None, pid), "I1: the process is another one"
        await _check_next(watch, normal)
        _drop(upstreams)
        after = await _back(proxy, before)
        _check_log(watch, await _went_on(proxy))
        await _check_secrets(watch)
        worst_s, noise_s = await probe.end()
    assert worst_s <= STALL_S + noise_s, f"I6: the loop stood still for {worst_s:.3f} s (noise {noise_s:.3f} s)"
    tasks = sum(after.tasks.values())
    print(f"     I1-I7 hold: {after.files} files, {tasks} tasks, loop late by {worst_s * 1000:.0f} ms at most")


def _heal(upstreams: tuple[FakeProvider | FaultProxy, ...]) -> None:
    for upstream in upstreams:
        if isinstance(upstream, FaultProxy):
            upstream.clear()
        else:
            upstream.reply()


def _drop(upstreams: tuple[FakeProvider | FaultProxy, ...]) -> None:
    for upstream in upstreams:
        upstream.drop_connections("fin")


async def _check_next(watch: Watch, normal: Call) -> None:
    heard = await watch.ask(normal)
    assert heard.status == 200, f"I2: the next request got {heard.status}: {heard.body!r}"
    assert heard.took_s <= NEXT_S, f"I2: the next request took {heard.took_s:.3f} s"


async def vitals(proxy: ProxyProcess) -> Vitals:
    """Count files, tasks and what is at work; the tasks and files of the asking itself are always among them."""
    async with RawClient(proxy.url) as client:
        tasks: Any = (await client.request("GET", "/tasks")).json()
        well: Any = (await client.request("GET", "/health")).json()
        status: Any = (await client.request("GET", "/providers/status")).json()
        files = proxy_files(proxy)
    busy = {"in flight": well["requestsInFlight"], "queued": well["requestsQueued"]}
    for one in status["providers"]:
        busy |= {f"{one['name']} in flight": one["inFlight"], f"{one['name']} queued": one["queued"]}
    return Vitals(files, tasks, busy)


async def quietest(measure: Callable[[], Awaitable[float]], limit: float, tries: int = 3) -> float:
    """Measure again while the figure is above its limit, and give the best: others use the machine as well."""
    best = await measure()
    for _ in range(tries - 1):
        if best <= limit:
            break
        best = min(best, await measure())
    return best


def p99_s(heard: Sequence[Heard]) -> float:
    """The 99th percentile of how long they took."""
    return statistics.quantiles((one.took_s for one in heard), n=100, method="inclusive")[-1]


def proxy_files(proxy: ProxyProcess) -> int:
    """Count its open files."""
    return len(list(Path(f"/proc/{proxy.pid}/fd").iterdir()))


async def _settled(proxy: ProxyProcess) -> Vitals:
    """The vitals at rest: the fewest files and tasks in a while."""
    seen = []
    for _ in range(4):
        seen.append(await vitals(proxy))
        await asyncio.sleep(0.02)
    return min(seen, key=lambda one: (one.files, sum(one.tasks.values())))


async def _back(proxy: ProxyProcess, before: Vitals) -> Vitals:
    until_s = time.monotonic() + BASELINE_S
    while not (now := await vitals(proxy)).is_within(before):
        assert time.monotonic() < until_s, f"I3, I7: not back within {BASELINE_S:g} s: {now}, before {before}"
        await asyncio.sleep(0.05)
    return now


async def _went_on(proxy: ProxyProcess) -> int:
    """How many attempts failed after which somebody was asked again."""
    lines = (await ask(proxy, "GET", "/metrics")).text.splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("proxy_failovers_total{")))


def _check_log(watch: Watch, went_on: int) -> None:
    said = watch.proxy.output[watch.began_at :]
    assert "Traceback" not in said, f"I4: a traceback in the log: {said}"
    assert all({"timestamp", "level", "event", "message"} <= set(line) for line in watch.lines())
    told = watch.fault_lines()
    shared = went_on - watch.went_on_before - sum(line["event"] in WENT_ON for line in told)
    assert shared >= 0, f"I4: {-shared} lines more than attempts after which the request went on: {told[:20]}"
    least, most = len(told), len(told) + shared
    assert least <= watch.faults <= most, f"I4: {least} lines, {most} counted, for {watch.faults} faults: {told[:20]}"


async def _check_secrets(watch: Watch) -> None:
    for path in ("/health", "/providers/status", "/metrics", "/config"):
        answer = await ask(watch.proxy, "GET", path)
        watch.saw(answer.body)
    watch.saw(watch.proxy.output.encode())
    assert not watch.leaks, f"I5: a secret was shown: {watch.leaks[:3]}"


def _shapes() -> tuple[bytes, ...]:
    """A canary's middle and end as they are, and its middle in Base64 wherever it may stand there."""
    in_base64 = (base64.b64encode(bytes(skip) + MARK.encode()) for skip in range(3))
    inner = tuple(text[(0, 2, 3)[skip] : -4] for skip, text in enumerate(in_base64))
    return (MARK.encode(), TAIL.encode(), *inner)
