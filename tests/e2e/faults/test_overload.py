"""Ten times as many requests as there is room for (FAULTS C1, C7, C8)."""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from proxy.testing import FakeProvider, Faults, ProxyProcess, RawClient
from tests.e2e.faults.flood import Answer, Flood, chat, of_status, p99_ms, quantile_ms, statuses
from tests.e2e.faults.rig import CLIENT_KEY, SLACK, canary, configure, figure, invariants
from tests.e2e.rig import health

pytestmark = pytest.mark.asyncio(loop_scope="session")

OVERLOAD_S = float(os.environ.get("SWITCHYARD_OVERLOAD_SECONDS", "2"))
"""How long there is too much to do; `scripts/prove` says 60."""

CALL_S = 0.2
SLOTS = 10
CAPACITY = SLOTS / CALL_S
TEN_TIMES = 10 * CAPACITY
LIMITS = {"maxConcurrency": SLOTS, "maxQueue": SLOTS, "queueTimeout": "1s"}
"""A queue as deep as one round of the slots, so that who is let in waits for one call's time at most: the scorecard
allows three calls' time in all. With the default queue of 1,000 they would wait for ten seconds and then be refused."""

REQUEST = chat(CLIENT_KEY)
MB = 1 << 20


@dataclass(slots=True)
class Run:
    """One overload with what came before and after it."""

    calm: list[Answer]
    peak_rate: float
    answers: list[Answer] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    recovered_s: float = 0.0

    @property
    def goodput(self) -> float:
        """Good answers a second while there was too much to do."""
        good = of_status(self.answers, 200)
        first_s = min(answer.sent_s for answer in self.answers)
        return len(good) / (max(answer.sent_s + answer.took_s for answer in good) - first_s)

    @property
    def rss_growth(self) -> float:
        """By how much the second half of it took more memory than the half before, in MB."""
        half = len(self.rss) // 2
        return (statistics.median(self.rss[half:]) - statistics.median(self.rss[half // 2 : half])) / MB


async def overload(proxy: ProxyProcess, seconds: float) -> Run:
    """Find what it can do, ask ten times as much, and see how soon all is as before."""
    async with Flood(proxy.port) as flood:
        await flood.keep_busy(REQUEST, SLOTS, CALL_S)
        calm = await flood.keep_busy(REQUEST, SLOTS // 2, 0.6)
        peak = await flood.keep_busy(REQUEST, SLOTS, 0.8)
        span_s = max(one.sent_s + one.took_s for one in peak) - min(one.sent_s for one in peak)
        run = Run(calm, len(peak) / span_s)
        async with weighing(proxy, run):
            run.answers = await flood.pour(REQUEST, TEN_TIMES, seconds)
        end_s = max(answer.sent_s for answer in run.answers)
        soon_s = 1.2 * quantile_ms(calm, 50) / 1000
        while (answer := await flood.ask(REQUEST)).status != 200 or answer.took_s > soon_s:
            assert time.monotonic() - end_s < 10, f"as before within {soon_s:.3f} s"
        run.recovered_s = answer.sent_s - end_s
    return run


@asynccontextmanager
async def weighing(proxy: ProxyProcess, run: Run) -> AsyncIterator[None]:
    """Note the proxy's memory every 50 ms."""

    async def weigh() -> None:
        while True:
            run.rss.append(proxy.rss_bytes())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(weigh())
    try:
        yield
    finally:
        task.cancel()


async def test_ten_times_the_capacity_costs_nobody_who_is_let_in(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, **LIMITS)
        async with invariants(proxy, upstream) as watch:
            for _ in range(3):  # others use the machine as well
                upstream.reply(faults=Faults(delay_s=CALL_S))
                run = await overload(proxy, OVERLOAD_S)
                if not missed(run):
                    break
            told = watch.fault_lines()
            watch.faults = len(told)

    refused = of_status(run.answers, 503)
    good = of_status(run.answers, 200)
    figure(
        "C1",
        f"{TEN_TIMES:.0f}/s for {OVERLOAD_S:g} s at {CAPACITY:.0f}/s capacity ({LIMITS}): {run.goodput:.0f}/s good of "
        f"{run.peak_rate:.0f}/s at best ({run.goodput / run.peak_rate:.0%}, limit 80 %); {len(refused)} refused, p99 "
        f"{p99_ms(refused):.1f} ms (limit 20 ms); p99 let in {p99_ms(good):.0f} ms, calm {p99_ms(run.calm):.0f} ms "
        f"(limit 3 times); memory {run.rss_growth:+.1f} MB in the second half; back after {run.recovered_s:.2f} s "
        f"(limit 2 s); {len(told)} lines in the log",
    )
    assert missed(run) == []
    assert {line["event"] for line in told} == {"overloaded"}
    assert len(told) <= 3 * (2 + OVERLOAD_S / 10)


def missed(run: Run) -> list[str]:
    """Which figures of the row were not met."""
    refused, good = of_status(run.answers, 503), of_status(run.answers, 200)
    claims = {
        f"only 200 and 503: {statuses(run.answers)}": len(refused) + len(good) == len(run.answers),
        "goodput": run.goodput >= 0.8 * run.peak_rate / min(SLACK, 1.3),
        "every refusal has Retry-After": all(answer.has_retry_after for answer in refused),
        "refusals within 20 ms": p99_ms(refused) <= 20 * SLACK,
        "three times the calm p99": p99_ms(good) <= 3 * p99_ms(run.calm) * min(SLACK, 1.5),
        "memory stays": run.rss_growth <= 1.0 * SLACK,
        "recovery": run.recovered_s <= 2.0,
    }
    return [claim for claim, is_met in claims.items() if not is_met]


async def test_health_answers_during_overload(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, **LIMITS)
        async with invariants(proxy, upstream) as watch:
            for _ in range(2):
                upstream.reply(faults=Faults(delay_s=CALL_S))
                async with Flood(proxy.port) as flood:
                    flooding = asyncio.create_task(flood.pour(REQUEST, TEN_TIMES, 2.0))
                    took = await ask_until(proxy, flooding)
                    await flooding
                if max(p99(times) for times in took.values()) <= 0.1:
                    break
            watch.faults = len(watch.fault_lines())

    figures = ", ".join(
        f"{path} p50 {statistics.median(times) * 1000:.1f} ms, p99 {p99(times) * 1000:.1f} ms of {len(times)}"
        for path, times in took.items()
    )
    figure("C7", f"on a connection of its own each, during {TEN_TIMES:.0f}/s (limit 100 ms): {figures}")
    assert all(p99(times) <= 0.1 * SLACK for times in took.values())


async def ask_until(proxy: ProxyProcess, flooding: asyncio.Task[list[Answer]]) -> dict[str, list[float]]:
    """Ask the paths of health in turn until the flood is over; how long each answer took, in seconds."""
    took: dict[str, list[float]] = {"/health": [], "/livez": [], "/readyz": []}
    while not flooding.done():
        for path, times in took.items():
            began_s = time.monotonic()
            async with RawClient(proxy.url) as client:
                answer = await client.request("GET", path)
            times.append(time.monotonic() - began_s)
            assert answer.status == 200, f"{path}: {answer.status}"  # too much to do is no reason to be replaced
        await asyncio.sleep(0.005)
    return took


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


async def test_health_says_that_limits_are_those_of_one_process(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, maxConcurrency=7)
        async with invariants(proxy, upstream):
            document = await health(proxy)

    figure("C8", f"workers {document['workers']}, maxConcurrency {document['maxConcurrency']}")
    assert (document["workers"], document["maxConcurrency"]) == (1, 7)
