"""A provider that is stuck and a caller that is noisy cost the others nothing (FAULTS C4, C5)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from proxy.testing import FakeProvider, Faults, ProxyProcess
from tests.e2e.faults.flood import Answer, Flood, chat, p99_ms, statuses
from tests.e2e.faults.rig import SLACK, canary, configure, figure, invariants, quietest
from tests.e2e.rig import health, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALL_S = 0.1

STUCK_SLOTS = 20
STUCK = 150
"""Requests for the provider that is stuck; the whole process has 100 slots by default."""
DEFAULT_SHARE = 80
HEALTHY_RATE = 40
ROUND_S = 1.5
LONG_ROUND_S = 2.5

SLOTS = 40
LONG_CALL_S = 0.2
QUIET = 4
QUIET_RATE = 10
NOISY_RATE = 20 * QUIET_RATE

SPREAD = (0.5 * LONG_CALL_S, 1.5 * LONG_CALL_S)
"""Calls take differently long. Were all alike, the slots would become free together, and a request that came right
after would wait for a whole call, whoever's it is."""


# -- a provider that is stuck ----------------------------------------------------------------------------------------


async def test_stuck_provider_with_a_limit_slows_no_other(proxy: ProxyProcess) -> None:
    async with FakeProvider() as stuck, FakeProvider() as well:
        providers = {
            "stuck": stuck.provider(apiKey=canary("stuck"), models=["stuck"], maxConcurrency=STUCK_SLOTS),
            "well": well.provider(apiKey=canary("well"), models=["gpt-*"]),
        }
        await configure(proxy, providers)
        async with invariants(proxy, stuck, well):
            stuck.reply(faults=Faults(never_answer=True))
            well.reply(faults=Faults(delay_s=CALL_S))
            ratio = await quietest(lambda: _slower_beside_stuck(proxy, stuck, STUCK_SLOTS), 1.1)

    figure(
        "C4",
        f"{STUCK} requests stuck at a provider with maxConcurrency {STUCK_SLOTS}: p99 of another one {ratio - 1:+.1%} "
        f"(limit +10 % of {CALL_S * 1000:.0f} ms)",
    )
    assert ratio - 1 <= 0.1 * SLACK * SLACK


async def test_stuck_provider_without_a_limit_leaves_the_others_their_share(proxy: ProxyProcess) -> None:
    async with FakeProvider() as stuck, FakeProvider() as well:
        providers = {
            "stuck": stuck.provider(apiKey=canary("stuck"), models=["stuck"]),
            "well": well.provider(apiKey=canary("well"), models=["gpt-*"]),
        }
        await configure(proxy, providers)
        async with invariants(proxy, stuck, well):
            stuck.reply(faults=Faults(never_answer=True))
            well.reply(faults=Faults(delay_s=CALL_S))
            ratio = await quietest(lambda: _slower_beside_stuck(proxy, stuck, DEFAULT_SHARE), 1.1)

    figure(
        "C4",
        f"{STUCK} requests stuck at a provider without a limit, {DEFAULT_SHARE} calls: p99 of another one "
        f"{ratio - 1:+.1%} (limit +10 % of {CALL_S * 1000:.0f} ms)",
    )
    assert ratio <= 1.1


async def _slower_beside_stuck(proxy: ProxyProcess, stuck: FakeProvider, calls: int) -> float:
    """How the p99 of a healthy provider beside a stuck one compares with its p99 before."""
    request = chat(canary("client"))
    async with Flood(proxy.port) as flood:
        calm = await flood.pour(request, HEALTHY_RATE, ROUND_S)
        async with clients_of_stuck(proxy, stuck, calls):
            beside = await flood.pour(request, HEALTHY_RATE, ROUND_S)
    assert statuses([*calm, *beside]) == {200: len(calm) + len(beside)}
    return p99_ms(beside) / p99_ms(calm)


@asynccontextmanager
async def clients_of_stuck(proxy: ProxyProcess, stuck: FakeProvider, calls: int) -> AsyncIterator[None]:
    """Clients that wait for the stuck provider; so many of them reach it."""
    seen = stuck.requests_seen
    flood = Flood(proxy.port)
    request = chat(canary("client"), model="stuck")
    asking = [asyncio.create_task(flood.ask(request)) for _ in range(STUCK)]

    async def all_there() -> bool:
        return (await health(proxy))["requestsInFlight"] >= STUCK

    try:
        await stuck.wait_for_request(seen + calls)
        await until(all_there, f"{STUCK} requests in flight")
        yield
    finally:
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


# -- a caller that is noisy ------------------------------------------------------------------------------------------


async def test_noisy_caller_costs_the_others_no_refusal_and_little_time(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        providers = {"up": upstream.provider(apiKey=canary("up"))}
        await configure(proxy, providers, maxConcurrency=SLOTS, maxQueue=2 * SLOTS)
        async with invariants(proxy, upstream) as watch:
            rounds: list[Round] = []

            async def measure() -> float:
                rounds.append(await play(proxy, upstream))
                return rounds[-1].ratio

            ratio = await quietest(measure, 1.2)
            watch.faults = len(watch.fault_lines())

    noisy, quiet = rounds[-1].noisy, rounds[-1].quiet
    figure(
        "C5",
        f"{QUIET} callers with {QUIET_RATE}/s each beside one with {NOISY_RATE}/s, capacity "
        f"{SLOTS / LONG_CALL_S:.0f}/s: p99 {p99_ms(rounds[-1].calm):.0f} -> {p99_ms(quiet):.0f} ms, at best "
        f"{ratio - 1:+.1%} (limit +20 %); quiet {statuses(quiet)}, noisy {statuses(noisy)}",
    )
    for one in rounds:
        assert statuses(one.quiet) == {200: len(one.quiet)}
        assert statuses(one.noisy).keys() == {200, 503}
    assert ratio - 1 <= 0.2 * SLACK * SLACK


class Round:
    """What callers got, the quiet ones alone and beside a noisy one."""

    def __init__(self, calm: list[Answer], quiet: list[Answer], noisy: list[Answer]) -> None:
        self.calm, self.quiet, self.noisy = calm, quiet, noisy

    @property
    def ratio(self) -> float:
        return p99_ms(self.quiet) / p99_ms(self.calm)


async def play(proxy: ProxyProcess, upstream: FakeProvider) -> Round:
    """Let the quiet ones ask alone, and then beside the noisy one."""
    random = Random(5)
    for _ in range(int((2 * QUIET * QUIET_RATE + NOISY_RATE) * LONG_ROUND_S)):
        upstream.once.reply(faults=Faults(delay_s=random.uniform(*SPREAD)))
    upstream.reply(faults=Faults(delay_s=LONG_CALL_S))
    calm = await ask_quietly(proxy)
    async with Flood(proxy.port) as flood:
        noise = asyncio.create_task(flood.pour(chat(canary("noisy")), NOISY_RATE, 1.25 * LONG_ROUND_S))
        await asyncio.sleep(LONG_ROUND_S / 4)  # until its queue is full
        quiet = await ask_quietly(proxy)
        noisy = await noise
    return Round(calm, quiet, noisy)


async def ask_quietly(proxy: ProxyProcess) -> list[Answer]:
    """Each of the quiet callers asks at its rate."""
    async with Flood(proxy.port) as flood, asyncio.TaskGroup() as tasks:
        asking = [
            tasks.create_task(flood.pour(chat(canary(f"quiet-{number}")), QUIET_RATE, LONG_ROUND_S))
            for number in range(QUIET)
        ]
    return [answer for task in asking for answer in task.result()]
