"""What a failed request leaves behind: nothing that waits for the garbage collector, which is let run rarely."""

import gc
from collections.abc import Callable, Iterator

import pytest

from proxy.exchange import Exchange
from proxy.testing import CutOff, FakeProvider, Faults, ProxyHarness

CHAT = b'{"model": "fake-model", "messages": [{"role": "user", "content": "hi"}], "stream": true}'

FAILURES: dict[str, Callable[[FakeProvider], None]] = {
    "refused": lambda upstream: upstream.reply_status(500),
    "silent": lambda upstream: upstream.reply("x", faults=Faults(never_answer=True)),
    "reset": lambda upstream: upstream.reply("x", faults=Faults(cut_after_bytes=0)),
    "cut": lambda upstream: upstream.stream(["a", "b"], faults=Faults(cut_after_events=2)),
    "stalled": lambda upstream: upstream.stream(["a", "b"], faults=Faults(stall_after_events=2)),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def exchanges() -> int:
    return sum(isinstance(one, Exchange) for one in gc.get_objects())


async def ask(harness: ProxyHarness, body: bytes) -> int:
    try:
        return (await harness.request("POST", "/v1/chat/completions", body)).status
    except CutOff:
        return 0


@pytest.mark.parametrize("failure", FAILURES)
async def test_failed_request_is_freed_without_the_garbage_collector(failure: str, no_collector: None) -> None:
    async with FakeProvider() as first, FakeProvider() as second, ProxyHarness() as harness:
        short = {"firstByte": "50ms", "idle": "50ms"}
        await harness.start(providers={"a": first.provider(timeouts=short), "b": second.provider(timeouts=short)})
        FAILURES[failure](first)
        FAILURES[failure](second)
        before = exchanges()

        statuses = [await ask(harness, CHAT) for _ in range(3)]

        assert all(status != 200 or failure in ("cut", "stalled") for status in statuses)
        assert exchanges() == before


async def test_request_that_lost_a_race_is_freed_without_the_garbage_collector(no_collector: None) -> None:
    async with FakeProvider() as slow, FakeProvider() as other, ProxyHarness() as harness:
        await harness.start(
            providers={"a": slow.provider(), "b": other.provider(priority=1)},
            hedging={"enabled": True, "minRequests": 1, "minDelay": "10ms", "budgetPercent": 100},
        )
        await ask(harness, CHAT)
        slow.once.reply("late", faults=Faults(delay_s=0.2))
        other.once.reply("soon")
        slow.reply_status(500, faults=Faults(delay_s=0.1))
        other.reply_status(500, faults=Faults(delay_s=0.2))
        before = exchanges()

        statuses = [await ask(harness, CHAT) for _ in range(3)]

        assert statuses == [200, 500, 500]
        assert other.requests_seen >= 2
        assert exchanges() == before


async def test_request_that_cannot_be_read_is_freed_without_the_garbage_collector(no_collector: None) -> None:
    async with ProxyHarness() as harness:
        await harness.start()
        before = exchanges()

        statuses = [await ask(harness, b'{"model":') for _ in range(3)]

        assert statuses == [400, 400, 400]
        assert exchanges() == before
