"""What is counted of two attempts at once that both fail, and what follows them."""

import pytest

from proxy.testing import FakeProvider, Faults, ProxyHarness
from tests.proxy.journey.accounts import kinds, metric
from tests.proxy.journey.hedged import start


@pytest.mark.parametrize(("late_s", "soon_s"), [(0.2, 0.0), (0.12, 0.3)], ids=["second first", "first first"])
async def test_both_fail_and_each_counts_once_as_made_good_by_the_third(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, late_s: float, soon_s: float
) -> None:
    async with FakeProvider() as third:
        await start(proxy, upstream, spare, third)
        upstream.reply_status(500, faults=Faults(delay_s=late_s))
        spare.reply_status(500, faults=Faults(delay_s=soon_s))

        reply = await proxy.chat("Hello")

    assert (reply.status, reply.header("x-attempts")) == (200, "3")
    for name in "ab":
        assert await metric(proxy, f'failovers_total{{kind="server-error",provider="{name}"}}') == 1
        assert await metric(proxy, f'possible_double_executions_total{{provider="{name}"}}') == 1
    assert kinds(proxy) == ["failover", "failover"]


async def test_both_fail_and_neither_counts_as_made_good_where_nobody_else_is_asked(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    await start(proxy, upstream, spare)
    upstream.reply_status(500, faults=Faults(delay_s=0.2))
    spare.reply_status(500)

    reply = await proxy.chat("Hello")

    text = (await proxy.request("GET", "/metrics")).text
    assert (reply.status, reply.header("x-attempts")) == (500, "2")
    assert "proxy_failovers_total{" not in text
    assert "proxy_possible_double_executions_total{" not in text


async def test_both_fail_too_late_for_the_client_and_the_third_is_not_asked(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    async with FakeProvider() as third:
        await start(proxy, upstream, spare, third)
        third.requests.clear()
        upstream.reply_status(500, faults=Faults(delay_s=0.25))
        spare.reply_status(500)

        reply = await proxy.chat("Hello", headers={"x-stainless-read-timeout": "0.2"})

    assert (reply.status, reply.header("x-attempts"), third.requests) == (500, "2", [])
