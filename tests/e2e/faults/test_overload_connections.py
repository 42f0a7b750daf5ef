"""Thousands of connections that say nothing, and no files left to open more (FAULTS C2, C3)."""

import asyncio
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from proxy.testing import FakeProvider, ProxyProcess, RawClient
from tests.e2e.faults.flood import chat
from tests.e2e.faults.rig import CLIENT_KEY, PLUGINS, SLACK, canary, figure, invariants, proxy_files, quietest
from tests.e2e.rig import ask, clean_environment, health, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

WANTED = int(os.environ.get("SWITCHYARD_IDLE_CONNECTIONS", "1500"))
"""How many connections are idle; `scripts/prove` says 10,000."""
FILES_LEFT = 1000
MORE = 200
BATCH = 50
EACH_BYTES = 30 << 10
SOON_S = 0.1

FEW_FILES = 256
EXHAUSTED_S = 2.0
REQUEST = chat(CLIENT_KEY)


def most_idle() -> int:
    """As many connections as wanted, or as this process may hold besides its other files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard - FILES_LEFT - MORE)


@asynccontextmanager
async def starting(upstream: FakeProvider, *prefix: str, **sections: object) -> AsyncIterator[ProxyProcess]:
    """A proxy in front of one provider."""
    config = {"plugins": PLUGINS, "providers": {"up": upstream.provider(apiKey=canary("up"))}, **sections}
    async with ProxyProcess(config, environment=clean_environment(), prefix=prefix) as proxy:
        yield proxy


@asynccontextmanager
async def crowd() -> AsyncIterator[list[RawClient]]:
    """Clients that leave some at a time."""
    clients: list[RawClient] = []
    try:
        yield clients
    finally:
        for number, client in enumerate(clients):
            client.close()
            if number % BATCH == 0:
                await asyncio.sleep(0.01)


async def open_idle(clients: list[RawClient], proxy: ProxyProcess, count: int, *, one_asks_in: int = 0) -> None:
    """Open connections and leave them alone, one in so many after a request."""

    async def one(number: int) -> RawClient:
        client = await RawClient(proxy.url).__aenter__()
        if one_asks_in and number % one_asks_in == 0:
            await client.send(REQUEST)
            assert (await client.read_response()).status == 200
        return client

    for begin in range(0, count, BATCH):
        clients += await asyncio.gather(*(one(number) for number in range(begin, min(begin + BATCH, count))))


async def slowest_s(proxy: ProxyProcess, paths: Sequence[str], times: int) -> float:
    """What 99 of 100 fresh connections waited for an answer of the admin side at most."""
    took = []
    for number in range(times):
        began_s = time.monotonic()
        answer = await ask(proxy, "GET", paths[number % len(paths)])
        took.append(time.monotonic() - began_s)
        assert answer.status == 200
    return statistics.quantiles(took, n=100)[-1]


async def connections_there(proxy: ProxyProcess, most: int) -> int:
    """Count connections once those that give way are gone: a newcomer is let in a moment before."""
    there = 0

    async def has_settled() -> bool:
        nonlocal there
        there = (await health(proxy))["connections"]
        return there <= most

    await until(has_settled, f"at most {most} connections")
    return there


async def test_idle_connections_cost_little_and_give_way() -> None:
    count, paths = most_idle(), ("/health", "/livez", "/providers/status")
    async with (
        FakeProvider() as upstream,
        starting(upstream, server={"maxConnections": count, "headerTimeout": "5m"}) as proxy,
        invariants(proxy, upstream) as watch,
        crowd() as clients,
    ):
        before = proxy.rss_bytes()
        await open_idle(clients, proxy, count - 10, one_asks_in=5)
        each_bytes = (proxy.rss_bytes() - before) / len(clients)
        await open_idle(clients, proxy, MORE)
        there = await connections_there(proxy, count + 1)
        evicted = [await clients[number].read_until_closed() for number in range(1, MORE // 2, 5)]
        p99_s = await quietest(lambda: slowest_s(proxy, paths, 100), SOON_S)
        await clients[-1].send(REQUEST)
        answered = await clients[-1].read_response()
        await until(lambda: bool(watch.fault_lines()), "the log tells of it")
        watch.faults = len(told := watch.fault_lines())

    figure(
        "C2",
        f"{count} connections at most (files allow {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}): {there} there "
        f"after {count - 10 + MORE} were opened, {each_bytes / 1024:.1f} KiB each (limit 30 KiB); the admin side "
        f"answers within {p99_s * 1000:.1f} ms p99 (limit 100 ms)",
    )
    assert each_bytes <= EACH_BYTES
    assert evicted == [b""] * len(evicted)
    assert p99_s <= SOON_S * SLACK
    assert answered.status == 200
    assert [line["event"] for line in told] == ["connections_full"]


async def test_few_files_are_shared_between_clients_and_providers() -> None:
    async with (
        FakeProvider() as upstream,
        starting(upstream, "prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}") as proxy,
        invariants(proxy, upstream) as watch,
    ):
        async with crowd() as clients:
            cpu_s, began_s = proxy.cpu_s(), time.monotonic()
            await open_idle(clients, proxy, 2 * FEW_FILES)
            p99_s = await quietest(lambda: slowest_s(proxy, ("/health",), 100), SOON_S)
            await clients[-1].send(REQUEST)
            answered = await clients[-1].read_response()
            await asyncio.sleep(max(0.0, began_s + EXHAUSTED_S - time.monotonic()))
            load = (proxy.cpu_s() - cpu_s) / (time.monotonic() - began_s)
            limit, files = (await health(proxy))["maxConnections"], proxy_files(proxy)
        watch.faults = len(told := watch.fault_lines())

    figure(
        "C3",
        f"{2 * FEW_FILES} clients at {FEW_FILES} files: {limit} connections at most, {files} files open, CPU "
        f"{load:.0%} of one core (limit 50 %), {len(told)} lines in {EXHAUSTED_S:g} s; "
        f"/health within {p99_s * 1000:.1f} ms p99",
    )
    assert answered.status == 200
    assert files <= FEW_FILES - 10
    assert load < 0.5
    assert p99_s <= SOON_S * SLACK
    assert [line["event"] for line in told] == ["connections_full"]


async def test_no_file_left_neither_spins_nor_floods_the_log_nor_blames_the_provider() -> None:
    async with (
        FakeProvider() as upstream,
        starting(upstream) as proxy,
        invariants(proxy, upstream) as watch,
        RawClient(proxy.url) as client,
    ):
        await client.request("GET", "/livez")
        async with no_file_left(proxy):
            cpu_s, began_s = proxy.cpu_s(), time.monotonic()
            refused, dropped = [], 0
            while time.monotonic() - began_s < EXHAUSTED_S:
                dropped += await is_dropped(proxy)
                await client.send(REQUEST)
                refused.append(await client.read_response())
                await asyncio.sleep(0.01)
            load = (proxy.cpu_s() - cpu_s) / (time.monotonic() - began_s)
        asked, status = upstream.requests_seen - 1, (await ask(proxy, "GET", "/providers/status")).text
        watch.faults = len(told := watch.fault_lines())

    figure(
        "C3",
        f"no file left for {EXHAUSTED_S:g} s: {dropped} new connections dropped, {len(refused)} requests refused, CPU "
        f"{load:.0%} of one core (limit 50 %), {len(told)} lines (limit one a second)",
    )
    assert dropped == len(refused)
    assert {(one.status, one.header("retry-after")) for one in refused} == {(503, "1")}
    assert load < 0.5
    assert len(told) <= EXHAUSTED_S
    assert asked == 0
    assert '"lastError": null' in status


@asynccontextmanager
async def no_file_left(proxy: ProxyProcess) -> AsyncIterator[None]:
    """Let every file the proxy may open be one that it has open."""
    limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{proxy.pid}/fd")}  # noqa: PTH208 (names, and no disk behind them)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), limits[1]))
    try:
        yield
    finally:
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limits)


async def is_dropped(proxy: ProxyProcess) -> bool:
    """Connect and ask; tell whether the connection ends without an answer."""
    async with RawClient(proxy.url) as client:
        try:
            await client.send(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return not await client.read_until_closed()
        except ConnectionError:
            return True
