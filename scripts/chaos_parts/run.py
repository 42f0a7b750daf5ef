"""One chaos run: a proxy process in front of three providers that fall sick and recover at random."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from proxy.testing import FakeProvider, FaultProxy, ProxyProcess, RawClient
from scripts.chaos_parts.load import Outcome, load
from scripts.chaos_parts.schedule import apply, phases

PROVIDERS = 3
TIMEOUTS = {"connect": "300ms", "firstByte": "300ms", "idle": "1s"}


@dataclass(slots=True)
class Run:
    """What a run came to.

    Args:
        attempts: as the proxy counts them in its metrics.
        cut: responses that a fault proxy broke off after they had begun.
        sick_s: seconds of sickness by its name, all providers together.
    """

    seed: int
    seconds: float
    rate: float
    outcomes: Sequence[Outcome]
    attempts: int
    cut: int = 0
    sick_s: Mapping[str, float] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    in_flight_after: int = 0
    traceback: str = ""


def config(faulty: Sequence[FaultProxy]) -> dict[str, Any]:
    """Write the proxy's configuration: three equals, short timeouts, everything else as it is by default."""
    return {
        "providers": {f"p{index}": one.provider(timeouts=TIMEOUTS) for index, one in enumerate(faulty)},
        "log": {"format": "json"},
    }


async def chaos(seed: int, seconds: float, rate: float) -> Run:
    """Run it."""
    async with AsyncExitStack() as stack:
        providers = [await stack.enter_async_context(FakeProvider()) for _ in range(PROVIDERS)]
        faulty = [
            await stack.enter_async_context(FaultProxy(one.url, seed=seed + index))
            for index, one in enumerate(providers)
        ]
        process = await stack.enter_async_context(ProxyProcess(config(faulty)))
        sick_s: defaultdict[str, float] = defaultdict(float)

        async def sicken() -> None:
            plan = list(phases(seed, seconds, PROVIDERS))
            begin_s = asyncio.get_running_loop().time()
            for phase, after in zip(plan, [*plan[1:], None], strict=True):
                await asyncio.sleep(max(0.0, begin_s + phase.begin_s - asyncio.get_running_loop().time()))
                apply(phase, providers, faulty)
                length_s = (after.begin_s if after is not None else seconds) - phase.begin_s
                for sickness in phase.sick:
                    sick_s[sickness.name if sickness is not None else "well"] += length_s

        task = asyncio.get_running_loop().create_task(sicken())
        try:
            outcomes = await load(process.url, rate, seconds)
        finally:
            task.cancel()
            ended = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(ended, Exception):
            raise ended
        health = await _get(process, "/health")
        attempts, failovers = await _metrics(process)
        output = process.output
        run = Run(seed, seconds, rate, outcomes, int(attempts), sick_s=sick_s)
        run.cut = sum(one.faults["reset"] + one.faults["truncate"] for one in faulty)
        run.in_flight_after = health["requestsInFlight"]
        run.events = Counter(kind for kind in KINDS for _ in range(output.count(f'"{kind}"')))
        run.events["failovers"] = int(failovers)
        run.traceback = output[output.find("Traceback") :][:2000] if "Traceback" in output else ""
        return run


KINDS = ("circuit_open", "circuit_closed", "routing_panic")


async def _get(process: ProxyProcess, path: str) -> dict[str, Any]:
    async with RawClient(process.url) as client:
        response = await client.request("GET", path)
    document = response.json()
    if not isinstance(document, dict):
        raise TypeError(f"{path} answered {response.status}")
    return document


async def _metrics(process: ProxyProcess) -> tuple[float, float]:
    """Sum up the attempts that the proxy counted, and those after which somebody was asked again."""
    async with RawClient(process.url) as client:
        lines = (await client.request("GET", "/metrics")).text.splitlines()
    return _total(lines, "proxy_upstream_requests_total{"), _total(lines, "proxy_failovers_total{")


def _total(lines: list[str], start: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))
