"""No attempt begins after the request's time, however many lines it waited in; nor is it sent away before."""

import asyncio
import time
from typing import Any

import pytest

from proxy.testing import ChatReply, FakeProvider, ProxyHarness
from proxy.upstream.slots import Slots
from tests.e2e.rig import until
from tests.proxy.journey.accounts import given_back, pair

OURS: dict[str, Any] = {"failover": {"deadline": "150ms", "backoff": "1ms"}}
THEIRS: dict[str, Any] = {"failover": {"backoff": "1ms"}}
SAID = {"x-stainless-read-timeout": "0.15"}
WHOSE = pytest.mark.parametrize(("settings", "headers"), [(OURS, {}), (THEIRS, SAID)], ids=["ours", "clients"])
LONG_S = 0.2
"""Longer than the deadline."""


def line_of(proxy: ProxyHarness, name: str = "first") -> Slots:
    return proxy.app.pipeline.generation.endpoints[name].slots


def ask(proxy: ProxyHarness, headers: dict[str, str] | None = None) -> "asyncio.Task[ChatReply]":
    return asyncio.create_task(proxy.chat("Hello", headers=headers or {}))


def hold_up() -> None:
    """Keep the loop busy until after the deadline, so that no timer is in time."""
    time.sleep(LONG_S)


def message(reply: ChatReply) -> str:
    return str(reply.response.json()["error"]["message"])  # type: ignore[index, call-overload]  # JSON of our own making


@WHOSE
async def test_first_attempt_leaves_a_providers_line_at_the_deadline_and_the_client_is_told_so(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, **settings)
    line_of(proxy).try_take()

    began_s = time.monotonic()
    reply = await ask(proxy, headers)
    took_s = time.monotonic() - began_s
    line_of(proxy).release()

    assert (reply.status, upstream.requests_seen) == (503, 0)
    assert "which is all that was left of the request's time (failover.deadline, or the client's own)" in message(reply)
    assert reply.header("retry-after") is not None
    assert 0.1 < took_s < 1.0
    await given_back(proxy)


@WHOSE
async def test_who_got_a_providers_place_waits_for_one_of_the_process_only_until_the_deadline(
    proxy: ProxyHarness, upstream: FakeProvider, settings: dict[str, Any], headers: dict[str, str]
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, **settings)
    process, line = proxy.app.pipeline.slots, line_of(proxy)
    line.try_take()
    asking = ask(proxy, headers)
    await until(lambda: line.waiting == 1, "it waits for the provider")

    process.adapt(0)
    line.release()
    reply = await asyncio.wait_for(asking, 1.0)
    process.adapt(100)

    assert (reply.status, upstream.requests_seen) == (503, 0)
    assert message(reply).startswith("this proxy (maxConcurrency): none of 0 became free within 0.1")
    await given_back(proxy)


async def test_place_in_the_process_is_waited_for_only_until_the_deadline(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider()}, **OURS)
    process = proxy.app.pipeline.slots

    process.adapt(0)
    reply = await asyncio.wait_for(ask(proxy), 1.0)
    process.adapt(100)

    assert (reply.status, upstream.requests_seen) == (503, 0)
    assert "the request's time" in message(reply)
    await given_back(proxy)


async def test_place_that_comes_after_the_deadline_is_given_back_unused(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, **OURS)
    line = line_of(proxy)
    line.try_take()
    asking = ask(proxy)
    await until(lambda: line.waiting == 1, "it waits for the provider")

    hold_up()
    line.release()
    reply = await asking

    assert (reply.status, upstream.requests_seen) == (503, 0)
    assert message(reply) == "first: its turn came when 0.15 s are over (failover.deadline, or the client's own)"
    await given_back(proxy)


async def test_provider_is_not_asked_again_after_a_pause_that_outlasted_the_deadline(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    upstream.reply_status(503, headers={"retry-after-ms": "50"})
    spare.reply_status(503, headers={"retry-after-ms": "50"})
    await proxy.start(providers=pair(upstream, spare), **OURS)
    asking = ask(proxy)
    await until(lambda: len(proxy.events.recent()) == 2, "a retry that was announced")

    hold_up()
    reply = await asking

    assert (reply.status, upstream.requests_seen, spare.requests_seen) == (503, 1, 1)
    assert "0.15 s are over (failover.deadline, or the client's own)" in message(reply)
    await given_back(proxy)


async def test_pause_ends_at_the_deadline_where_the_process_has_no_room_after_it(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply_status(503)
    await proxy.start(providers={"first": upstream.provider()}, failover={"deadline": "300ms", "backoff": "20ms"})
    process = proxy.app.pipeline.slots
    asking = ask(proxy)
    await until(lambda: len(proxy.events.recent()) >= 1, "a retry that was announced")

    process.adapt(0)
    reply = await asyncio.wait_for(asking, 1.0)
    process.adapt(100)

    assert reply.status == 503
    assert "the request's time" in message(reply)
    await given_back(proxy)


async def test_line_that_is_given_up_sooner_than_the_deadline_says_its_own_time(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1, queueTimeout="60ms")})
    line_of(proxy).try_take()

    reply = await ask(proxy, {"x-stainless-read-timeout": "600"})
    line_of(proxy).release()

    assert (reply.status, message(reply)) == (503, "first: none of 1 became free within 0.06 s")


async def test_first_attempt_waits_as_long_as_line_and_deadline_allow(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    upstream.reply("Paris")
    await proxy.start(providers={"first": upstream.provider(maxConcurrency=1)}, failover={"deadline": "5s"})
    line = line_of(proxy)
    line.try_take()
    asking = ask(proxy, {"x-stainless-read-timeout": "5"})
    await until(lambda: line.waiting == 1, "it waits for the provider")

    await asyncio.sleep(0.3)  # the wait is a real one
    line.release()

    assert (await asking).text == "Paris"
    await given_back(proxy)
