"""Many large requests at once and little memory for them (FAULTS C6)."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.server.gauge import RESIDENT_GROWTH
from proxy.testing import CutOff, FakeProvider, Faults, ProxyProcess, RawClient
from tests.e2e.faults.flood import chat
from tests.e2e.faults.rig import CLIENT_KEY, Watch, canary, configure, figure, invariants, start_proxy
from tests.e2e.rig import ask, health, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENTS = 50
BODY_BYTES = 2 << 20
AT_ONCE = 4
CALL_S = 0.5
MB = 1 << 20
LARGE = chat(CLIENT_KEY, messages=[{"role": "user", "content": "x" * BODY_BYTES}])

Outcome = tuple[int, bool]
"""Status, 0 for no answer, and whether the answer says when to come back."""


@asynccontextmanager
async def limited_proxy() -> AsyncIterator[ProxyProcess]:
    """A proxy of its own, because its limit cannot be raised again."""
    async with start_proxy() as proxy:
        yield proxy


async def test_addresses_at_one_and_a_half_times_the_usual_shed_load() -> None:
    async with FakeProvider() as upstream, limited_proxy() as proxy:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))})
        async with invariants(proxy, upstream) as watch:
            usual = sizes(proxy)[0]
            limit = usual * 3 // 2
            resource.prlimit(proxy.pid, resource.RLIMIT_AS, (limit, limit))
            await until(lambda: is_limited_by(proxy, "process"), "the proxy has seen its limit")
            outcomes, peak, told = await press(proxy, upstream, watch)

    answered, refused = outcomes.count((200, False)), outcomes.count((503, True))
    figure(
        "C6",
        f"{CLIENTS} bodies of {BODY_BYTES / MB:.0f} MB at once, addresses limited to {limit / MB:.0f} MB, 1.5 times "
        f"the usual: {answered} answered, {refused} got 503, peak {peak[0] / limit:.0%} of the limit; {told}",
    )
    assert answered + refused == CLIENTS, outcomes
    assert min(answered, refused) >= 1
    assert peak[0] <= limit


async def test_resident_memory_stays_below_the_share_where_load_is_shed() -> None:
    async with FakeProvider() as upstream, limited_proxy() as proxy:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))})
        async with invariants(proxy, upstream) as watch:
            limit = sizes(proxy)[1] + AT_ONCE * RESIDENT_GROWTH * BODY_BYTES
            shed = orjson.dumps({"server": {"shedMemoryPercent": 100 * limit / machine_bytes()}})
            assert (await ask(proxy, "PATCH", "/config", shed)).status == 200
            outcomes, peak, told = await press(proxy, upstream, watch)

    answered, refused = outcomes.count((200, False)), outcomes.count((503, True))
    figure(
        "C6",
        f"{CLIENTS} bodies of {BODY_BYTES / MB:.0f} MB at once, resident memory limited to {limit / MB:.0f} MB, enough "
        f"for {AT_ONCE} that come at once: {answered} answered, {refused} got 503, peak {peak[1] / limit:.0%} of the "
        f"limit; {told}",
    )
    assert answered + refused == CLIENTS, outcomes
    assert min(answered, refused) >= 1
    assert peak[1] <= limit


async def press(
    proxy: ProxyProcess, upstream: FakeProvider, watch: Watch
) -> tuple[list[Outcome], tuple[int, int], dict[str, int]]:
    """Send all large bodies at once; beside them, a small one that runs already and one that comes meanwhile.

    Returns:
        What became of each large one, the largest address space and resident memory, and the events, counted.
    """
    upstream.reply(faults=Faults(delay_s=CALL_S))
    peak = [0, 0]

    async def weigh() -> None:
        while True:
            for index, size in enumerate(sizes(proxy)):
                peak[index] = max(peak[index], size)
            await asyncio.sleep(0.002)

    problems: list[str] = []
    weighing = asyncio.create_task(weigh())
    try:
        async with RawClient(proxy.url) as running, asyncio.timeout(30):
            await running.send(chat(CLIENT_KEY))
            await upstream.wait_for_request(upstream.requests_seen + 1)
            sending = [asyncio.create_task(send_large(proxy)) for _ in range(CLIENTS)]
            while not all(task.done() for task in sending):
                problems += (await health(proxy))["problems"]
                await asyncio.sleep(0.02)
            outcomes = [task.result() for task in sending]
            assert (await running.read_response()).status == 200  # it went on
    finally:
        weighing.cancel()

    def counted() -> dict[str, int]:
        lines: list[Any] = [line["event"] for line in watch.lines()]
        return {event: lines.count(event) for event in ("memory_short", "memory_relieved")}

    await until(lambda: counted()["memory_relieved"] == counted()["memory_short"], "the end is told too", 10)
    watch.faults = len(watch.fault_lines())
    assert counted() == {"memory_short": 1, "memory_relieved": 1}
    assert any("memory is at " in problem for problem in problems)
    assert {line["event"] for line in watch.fault_lines()} <= {"memory_short", "overloaded"}
    return outcomes, (peak[0], peak[1]), counted()


async def send_large(proxy: ProxyProcess) -> Outcome:
    """Send a large body until the answer comes, which may be before the body is out."""
    async with RawClient(proxy.url, timeout_s=30) as client:
        sending = asyncio.create_task(client.send(LARGE))
        try:
            response = await client.read_response()
        except CutOff:
            return 0, False
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
    return response.status, response.header("retry-after") is not None


async def is_limited_by(proxy: ProxyProcess, what: str) -> bool:
    return bool((await health(proxy))["memoryLimitedBy"] == what)


def sizes(proxy: ProxyProcess) -> tuple[int, int]:
    """Address space and resident memory of the proxy, in bytes."""
    addresses, resident = Path(f"/proc/{proxy.pid}/statm").read_bytes().split()[:2]
    return int(addresses) * resource.getpagesize(), int(resident) * resource.getpagesize()


def machine_bytes() -> int:
    """The memory of this machine, by which the proxy goes where nothing else limits it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024
