"""What runs while the configuration changes goes on, and counts."""

import asyncio
from typing import Any

from proxy.testing import FakeProvider, Faults, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.server.test_config_routes import call


async def test_stream_goes_on_with_the_provider_that_a_change_took_away(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    gate = asyncio.Event()
    upstream.stream(["one", " two", " three"], gate=gate)
    await proxy.start(providers={"x": upstream.provider(models=["m"])})
    running = asyncio.ensure_future(proxy.chat("hello", model="m", stream=True))
    await upstream.wait_for_request()

    await call(proxy, "PUT", "/config/providers", {"echo": {"type": "echo", "models": ["*"]}})
    gate.set()
    reply = await running

    assert (reply.status, reply.text) == (200, "one two three")
    await until(lambda: upstream.connections_open == 0, "its connection is closed when the stream has ended")


async def test_connections_stay_where_nothing_they_depend_on_changed(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"x": upstream.provider(models=["m"], apiKey="sk-one-aaaaaaaa")})
    await proxy.chat("hello", model="m")

    for change in (
        {"maxQueue": 3},
        {"providers": {"x": {"apiKey": "sk-two-bbbbbbbb", "weight": 2, "models": ["m", "n"]}}},
        {"providers": {"x": {"maxConcurrency": 3, "timeouts": {"idle": "5s"}}}},
    ):
        await call(proxy, "PATCH", "/config", change)
        await proxy.chat("hello", model="m")
    status: Any = (await call(proxy, "GET", "/providers/status")).json()
    await call(proxy, "PATCH", "/config", {"providers": {"x": {"keepAlive": "9s"}}})
    await proxy.chat("hello", model="m")

    anew: Any = (await call(proxy, "GET", "/providers/status")).json()
    connections = upstream.connections_open
    await call(proxy, "PATCH", "/config", {"providers": {"x": {"baseUrl": "http://127.0.0.1:9/v1"}}})
    moved: Any = (await call(proxy, "GET", "/providers/status")).json()
    assert status["providers"][0]["connections"] == {"idle": 1, "busy": 0, "opened": 1, "reused": 3}
    assert anew["providers"][0]["connections"] == {"idle": 1, "busy": 0, "opened": 1, "reused": 0}
    assert [one["providers"][0]["calls"] for one in (status, anew, moved)] == [4, 5, 0]
    assert connections == 1
    keys = [one.header("authorization") for one in upstream.requests]
    assert keys == ["Bearer sk-one-aaaaaaaa"] * 2 + ["Bearer sk-two-bbbbbbbb"] * 3


async def test_lower_limit_counts_calls_of_the_revision_before(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["one"], faults=Faults(never_answer=True))
    await proxy.start(providers={"x": upstream.provider(models=["m"])})
    running = [asyncio.ensure_future(proxy.chat("hello", model="m", stream=True)) for _ in range(4)]
    await upstream.wait_for_request(4)

    await call(proxy, "PATCH", "/config", {"providers": {"x": {"maxConcurrency": 3, "queueSize": 0}}})
    fifth = await proxy.chat("hello", model="m")
    shown: Any = (await call(proxy, "GET", "/providers/status")).json()
    for task in running:
        task.cancel()

    assert fifth.status == 503
    assert (shown["providers"][0]["inFlight"], upstream.requests_seen) == (4, 4)
    await asyncio.wait(running)
    await until(lambda: proxy.app.pipeline.in_flight == 0, "all have left")
    endpoint = proxy.app.pipeline.generation.endpoints["x"]
    assert endpoint.slots.in_use == 0


async def test_provider_that_comes_back_finds_its_running_calls_counted(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.stream(["one"], faults=Faults(never_answer=True))
    provider = upstream.provider(models=["m"], maxConcurrency=1, queueSize=0)
    await proxy.start(providers={"x": provider, "y": {"type": "http", "baseUrl": "http://127.0.0.1:9"}})
    running = asyncio.ensure_future(proxy.chat("hello", model="m", stream=True))
    await upstream.wait_for_request()

    await call(proxy, "DELETE", "/config/providers/x")
    await call(proxy, "PUT", "/config/providers/x", provider)
    second = await proxy.chat("hello", model="m")
    running.cancel()

    assert (second.status, upstream.requests_seen) == (503, 1)
    await asyncio.wait([running])
