"""Providers that send what is no HTTP, or too much of it (FAULTS A12 to A14)."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import orjson
import pytest

from proxy.testing import FakeProvider, Pause, ProxyProcess, RawClient, SeenRequest, Step
from tests.e2e.faults.rig import SLACK, Heard, Watch, canary, configure, figure, invariants, quietest, start_proxy
from tests.e2e.faults.test_late_and_cut import providers
from tests.e2e.rig import CALLS
from tests.proxy.upstream.bad_responses import BAD, CHUNKED, LINE

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = CALLS["openai"]
TOLD_S = 0.1 * SLACK
GROWTH_BYTES = 2 << 20
HEAD_BYTES = 1 << 20
SURPLUS_REQUESTS = int(os.environ.get("SWITCHYARD_SURPLUS_REQUESTS", "1000"))
"""In each manner; `scripts/prove` says 10,000."""
CLIENTS = 8


async def test_what_is_no_http_is_told_at_once_and_its_connection_never_used_again(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            upstream.requests.clear()
            begun: list[bytes] = []
            took_s = []
            for wire in BAD:
                upstream.reply_raw(wire)
                took_s.append(await quietest(partial(_time_to_refuse, watch, wire, begun), TOLD_S))
            used = [seen.connection for seen in upstream.requests]

    figure(
        "A12",
        f"{len(BAD)} bad responses: 502 after {median(took_s) * 1000:.1f} ms, {max(took_s) * 1000:.0f} ms at most "
        f"(limit 100 ms); {len(set(begun))} had given the client a part of their body, which was cut; "
        f"{len(used)} requests on {len(set(used))} connections",
    )
    assert len(BAD) >= 200
    assert max(took_s) <= TOLD_S
    assert len(set(used)) == len(used) >= len(BAD)
    assert set(begun) <= {wire for wire in BAD if wire.startswith(CHUNKED) and len(wire) > HEAD_BYTES}


async def _time_to_refuse(watch: Watch, wire: bytes, begun: list[bytes]) -> float:
    heard = await watch.ask(CHAT)
    if heard.status == 200 and not heard.is_whole:
        begun.append(wire)
    else:
        assert (heard.status, heard.code) == (502, "upstream_protocol"), wire[:200]
    return heard.took_s


HUGE = {
    "a header of 1 MB": LINE + b"A: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
    "a name of 1 MB": LINE + b"x" * HEAD_BYTES + b": a\r\n\r\n",
    "1 MB without any line end": LINE + b"A: " + b"x" * HEAD_BYTES,
    "10,000 headers": LINE + b"A: b\r\n" * 10_000 + b"\r\n",
    "10,000 names": LINE + b"".join(b"X-%d: b\r\n" % number for number in range(10_000)) + b"\r\n",
    "10,000 headers of an interim response": b"HTTP/1.1 103 Hints\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    "10,000 interim responses": b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000,
    "200 headers, the last with 1 MB": LINE + b"A: b\r\n" * 200 + b"B: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
}


async def test_huge_headers_are_refused_and_kept_nowhere() -> None:
    async with FakeProvider() as upstream, start_proxy() as proxy:  # its own: memory that others used would hide growth
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            for _ in range(40):
                await asyncio.gather(*(watch.ask(CHAT) for _ in range(CLIENTS)))
            before, statuses = proxy.rss_bytes(), Counter[tuple[int, str]]()
            for wire in itertools.chain.from_iterable(itertools.repeat(HUGE.values(), 4)):
                upstream.reply_raw(wire)
                for heard in await asyncio.gather(*(watch.ask(CHAT) for _ in range(4))):
                    statuses[heard.status, heard.code] += 1
            growth = most_rss_bytes(proxy) - before

    figure(
        "A13",
        f"{statuses.total()} huge heads of {len(HUGE)} kinds, four at once: {dict(statuses)}, "
        f"RSS {growth / 1024:+.0f} KiB at most (limit 2048)",
    )
    assert set(statuses) == {(502, "upstream_protocol")}
    assert growth <= GROWTH_BYTES


def most_rss_bytes(proxy: ProxyProcess) -> int:
    """The most memory that was ever resident."""
    status = Path(f"/proc/{proxy.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


EVIL = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{"user":"somebody else"}'
MANNERS: dict[str, Callable[[bytes, int], list[Step]]] = {
    "in one write": lambda good, number: [good + EVIL],
    "in a write of its own": lambda good, number: [good, EVIL],
    "up to 2 ms later": lambda good, number: [good, Pause(number % 9 * 0.00025), EVIL],
}


class Surplus(FakeProvider):
    """Answers with the `user` it was asked by, and adds a whole further response for whoever comes next.

    Args:
        manner: of adding it.
    """

    def __init__(self, manner: str) -> None:
        super().__init__()
        self._manner = MANNERS[manner]

    def steps_for(self, request: SeenRequest) -> Iterator[Step]:
        user = request.document.get("user")
        if user is None:
            return super().steps_for(request)
        number = int(user)
        body = orjson.dumps({"user": user, "text": "x" * (0 if number % 10 else 100_000)})
        head = LINE + b"Content-Type: application/json\r\n"
        if number % 2:
            good = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        else:
            good = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return iter(self._manner(good, number))


@pytest.mark.parametrize("manner", MANNERS)
async def test_bytes_beyond_a_response_never_reach_the_next_client(manner: str) -> None:
    """A surplus that comes when the next request is on its way cannot be told from an answer, so the first one counts.

    It is provoked with a request that nobody follows; from then on no connection is used twice.
    """
    async with Surplus(manner) as upstream, start_proxy() as proxy:  # its own: a long run says more than one may keep
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            outcomes = Counter[str]()
            numbers = iter(range(SURPLUS_REQUESTS))
            await _ask_in_turn(watch, itertools.islice(numbers, 1), outcomes)
            await upstream.wait_for_connections(0)
            await asyncio.gather(*(_ask_in_turn(watch, numbers, outcomes) for _ in range(CLIENTS)))

    figure("A14", f"a second response {manner}, {SURPLUS_REQUESTS} interleaved requests: {dict(outcomes)}")
    assert outcomes.total() == SURPLUS_REQUESTS
    assert set(outcomes) <= {"own answer", "502", "own answer, cut"}


async def _ask_in_turn(watch: Watch, numbers: Iterator[int], outcomes: Counter[str]) -> None:
    """Ask on one connection for each number that is next; the iterator may be shared."""
    while (number := next(numbers, None)) is not None:
        async with RawClient(watch.proxy.url) as client:
            heard = await _ask_as(watch, client, number, outcomes)
            while heard.is_whole and heard.header("connection") != "close":
                if (number := next(numbers, None)) is None:
                    return
                heard = await _ask_as(watch, client, number, outcomes)


async def _ask_as(watch: Watch, client: RawClient, number: int, outcomes: Counter[str]) -> Heard:
    heard = await watch.ask_on(client, CHAT, user=str(number))
    if heard.status == 200:
        own = b'{"user":"%d"' % number
        is_own = heard.body.startswith(own) or (not heard.is_whole and own.startswith(heard.body))
        outcomes["another's answer" if not is_own else "own answer" if heard.is_whole else "own answer, cut"] += 1
    else:
        outcomes[f"{heard.status}"] += 1
    return heard
