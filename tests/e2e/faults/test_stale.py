"""Kept connections that a provider closes just as a request is sent over them (FAULTS A5)."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from proxy.testing import FakeProvider, FaultProxy, ProxyProcess, RawClient
from tests.e2e.faults.rig import Heard, Watch, canary, configure, figure, invariants
from tests.e2e.rig import CALLS

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = CALLS["openai"]
REQUESTS = 1000
MOMENTS_S = (-0.0005, 0.0025)
"""From before the client has sent its request until after the answer, usually."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Args:
        is_still: the provider read nothing between the request's beginning and the end of its connections.
        unread: bytes of the request that had reached the provider's host by then.
    """

    heard: Heard
    is_still: bool
    unread: int


async def test_requests_over_connections_that_just_closed_are_neither_lost_nor_doubled(proxy: ProxyProcess) -> None:
    """Half of the time the provider is kept from reading, so that the kernel says for sure what had reached it."""
    moments = random.Random(5)
    async with FakeProvider() as upstream, FaultProxy(upstream.url) as faulty:
        await configure(proxy, {"up": faulty.provider(apiKey=canary("up"))}, breaker={"enabled": False})
        async with invariants(proxy, upstream, faulty) as watch, RawClient(proxy.url) as client:
            outcomes = [
                await ask_while_closing(watch, client, faulty, moments.uniform(*MOMENTS_S), number)
                for number in range(REQUESTS)
            ]
            opened = faulty.connections_made

    good = [one for one in outcomes if one.heard.status == 200]
    told = [one for one in outcomes if one.heard.status != 200]
    untouched = [one for one in outcomes if one.is_still and not one.unread]
    touched = [one for one in outcomes if one.is_still and one.unread]
    users = [one.document.get("user") for one in upstream.requests if one.is_complete]
    most = max(count for user, count in Counter(users).items() if user is not None)
    lost = [one for one in untouched if one in told]
    doubled = [one for one in touched if one in good]
    figure(
        "A5",
        f"{REQUESTS} requests, {opened} connections: {len(lost)} errors in {len(untouched)} that had not reached the "
        f"provider, {len(doubled)} sent again of {len(touched)} that had; one executed {most} times at most",
    )
    assert {one.heard.code for one in told} <= {"upstream_reset", "upstream_cut"}
    assert not lost
    assert not doubled
    assert most == 1
    assert min(len(untouched), len(touched)) >= REQUESTS / 50
    assert opened >= REQUESTS / 3


async def ask_while_closing(
    watch: Watch, client: RawClient, faulty: FaultProxy, moment_s: float, number: int
) -> Outcome:
    """Ask, and end the provider's connections so long before or after the request is sent."""
    user, is_still = f"user-{number}", number % 2 == 0
    if moment_s < 0:
        unread = faulty.drop_connections("fin")
        await wait(-moment_s, is_still=True)
        return Outcome(await watch.ask_on(client, CHAT, user=user), True, unread)
    asking = asyncio.ensure_future(watch.ask_on(client, CHAT, user=user))
    await asyncio.sleep(0)  # it is sent
    await wait(moment_s, is_still=is_still)
    unread = faulty.drop_connections("fin")
    return Outcome(await asking, is_still, unread)


async def wait(seconds: float, *, is_still: bool) -> None:
    """Wait as exactly as can be; still: the provider, which is on the same loop, reads nothing meanwhile."""
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        if not is_still:
            await asyncio.sleep(0)
