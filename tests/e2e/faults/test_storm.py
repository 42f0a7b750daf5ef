"""Providers that refuse, fail by the hundred, or come and go (FAULTS A17 to A19)."""

import asyncio
import itertools
import math
import os
import statistics
import time
from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest

from proxy.testing import FakeProvider, Fault, FaultProxy, Faults, ProxyProcess
from tests.e2e.faults.load import load
from tests.e2e.faults.rig import SLACK, Heard, Watch, canary, configure, figure, invariants, p99_s, quietest
from tests.e2e.rig import CALLS

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORM_S = float(os.environ.get("SWITCHYARD_STORM_SECONDS", "5"))
"""How long a provider fails or flaps; `scripts/prove` says 30."""
RATE = 200
RECOVERY_S = 5.0
OPEN_S = 2.0
COOLDOWN_S = 1.0  # as by default
FLAP_S = 1.0

CHAT = CALLS["openai"]
HOUR_S = 3600


async def test_retry_after_is_waited_for_or_given_up_at_once(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        failover = {"models": {"hurried": {"deadline": "1s"}}}  # the longest wait is 5 s by default
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, failover=failover)
        async with invariants(proxy, upstream) as watch:
            refused, asked = [], upstream.requests_seen
            for model, wait in {"seconds": str(HOUR_S), "date": http_date(HOUR_S), "hurried": "2"}.items():
                upstream.once.reply_status(429, headers={"Retry-After": wait})
                refused.append((wait, await watch.ask(CHAT, model=model), await watch.ask(CHAT, model=model)))
            asked = upstream.requests_seen - asked
            watch.faults += len(refused)  # the second of each: nobody was asked, which is told too
            waited, early_s = [], []
            for model, is_date in (("soon", False), ("soon, by date", True)):
                wait = http_date(1) if is_date else "1"
                upstream.once.reply_status(429, headers={"Retry-After": wait})
                waited.append(await watch.ask(CHAT, model=model))
                first, again = (one.at_s for one in upstream.requests if one.document["model"] == model)
                due_s = monotonic_of(wait) if is_date else first + 1
                early_s.append(due_s - again)

    slowest_ms = max(heard.took_s for _, *both in refused for heard in both) * 1000
    figure(
        "A17",
        f"429: asked again {-early_s[0] * 1000:.0f} ms after Retry-After in seconds, {-early_s[1] * 1000:.0f} ms after "
        f"one by date; one beyond longest wait or deadline passed on in {slowest_ms:.0f} ms and not asked meanwhile",
    )
    assert asked == len(refused)
    assert slowest_ms <= 300 * SLACK
    for wait, first, second in refused:
        assert (first.status, first.header("retry-after"), first.header("x-attempts")) == (429, wait, "1")
        assert (second.status, second.header("x-attempts")) == (429, None)
        assert int(second.header("retry-after") or 0) in ((2,) if wait == "2" else (HOUR_S, HOUR_S + 1))
    assert [(heard.status, heard.header("x-attempts")) for heard in waited] == [(200, "2")] * 2
    assert [late for late in early_s if not -0.5 <= late <= 0.001] == []  # uvloop counts whole milliseconds


def http_date(from_now_s: float) -> str:
    """A date that far ahead or, as it has whole seconds, a little further."""
    return formatdate(math.ceil(time.time() + from_now_s), usegmt=True)


def monotonic_of(date: str) -> float:
    """When a date is, on `time.monotonic()`."""
    return parsedate_to_datetime(date).timestamp() - time.time() + time.monotonic()


async def test_retry_after_sends_others_and_is_kept_for_each_key_and_provider(proxy: ProxyProcess) -> None:
    async with FakeProvider() as first, FakeProvider() as second:
        keys = [canary("one"), canary("two")]
        providers = {
            "keys": first.provider(apiKey="", apiKeys=keys, models=["keys"]),
            "first": first.provider(apiKey=canary("first"), models=["both"]),
            "second": second.provider(apiKey=canary("second"), models=["both", "gpt-*"], priority=1),
        }
        await configure(proxy, providers)
        async with invariants(proxy, first, second) as watch:
            first.once.reply_status(429, headers={"Retry-After": "30"})
            by_keys = [await watch.ask(CHAT, model="keys") for _ in range(10)]
            used = [str(one.header("authorization")) for one in first.requests]
            seen = first.requests_seen
            first.once.reply_status(429, headers={"Retry-After": "1"})
            began_s = time.monotonic()
            elsewhere = [await watch.ask(CHAT, model="both") for _ in range(10)]
            while elsewhere[-1].header("x-provider") != "first":
                assert time.monotonic() - began_s < 3
                await asyncio.sleep(0.02)
                elsewhere.append(await watch.ask(CHAT, model="both"))
            back_s = first.requests[seen + 1].at_s - first.requests[seen].at_s

    figure(
        "A17",
        f"429: another key or provider at once; the key left alone, the provider asked again {back_s:.3f} s later",
    )
    assert [one.header("x-attempts") for one in by_keys] == ["2", *["1"] * 9]
    assert len(set(used[1:])) == 1
    assert used[0] not in used[1:]
    assert [one.header("x-attempts") for one in elsewhere] == ["2", *["1"] * (len(elsewhere) - 1)]
    assert {one.status for one in (*by_keys, *elsewhere)} == {200}
    assert 1.0 <= back_s <= 1.0 + 0.5 * SLACK


@pytest.mark.parametrize("has_spare", [False, True], ids=["alone", "with a healthy one"])
async def test_storm_of_503_is_not_multiplied_and_passes(proxy: ProxyProcess, has_spare: bool) -> None:
    async with FakeProvider() as upstream, FakeProvider() as spare:
        providers = {"up": upstream.provider(apiKey=canary("up"), models=["gpt-*"])}
        if has_spare:
            providers["spare"] = spare.provider(apiKey=canary("spare"), models=["gpt-*"], priority=1)
        await configure(proxy, providers)
        async with invariants(proxy, upstream, spare) as watch:
            before = upstream.requests_seen + spare.requests_seen
            upstream.reply_status(503)
            began_s = time.time()
            heard = await load(watch, CHAT, RATE, lambda passed_s: passed_s >= STORM_S)
            attempts = upstream.requests_seen + spare.requests_seen - before
            upstream.reply()
            healed_s, seen = time.monotonic(), upstream.requests_seen
            after = await load(
                watch, CHAT, RATE, lambda passed_s: upstream.requests_seen > seen or passed_s > RECOVERY_S
            )
            back_s = upstream.requests[seen].at_s - healed_s if upstream.requests_seen > seen else math.inf

    opened_s = events_s(watch, "circuit_open")[0] - began_s
    good = sum(one.status == 200 for one in heard)
    ratio = attempts / len(heard)
    figure(
        "A18",
        f"{'one healthy' if has_spare else 'alone'}: {len(heard)} requests in {STORM_S:g} s, {good} good, {attempts} "
        f"attempts ({ratio:.3f} each, limit 1.2); open after {opened_s:.2f} s (limit {OPEN_S:g} s), "
        f"asked again {back_s:.2f} s after healing (limit {RECOVERY_S:g} s)",
    )
    # The budget that is saved up allows 200 attempts more. They are not needed: an open circuit ends repetitions.
    assert ratio <= 1.2
    assert opened_s <= OPEN_S
    assert back_s <= RECOVERY_S
    assert len(events_s(watch, "circuit_closed")) == 1
    assert good == (len(heard) if has_spare else 0)
    assert after[-1].status == 200
    assert {one.status for one in heard if one.status != 200} <= {503}


async def test_flapping_provider_opens_once_a_cooldown_and_slows_nobody_else(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream, FaultProxy(upstream.url) as faulty, FakeProvider() as well:
        providers = {
            "up": faulty.provider(apiKey=canary("up"), models=["both"]),
            "spare": upstream.provider(apiKey=canary("spare"), models=["both"], priority=1),
            "well": well.provider(apiKey=canary("well"), models=["gpt-*"]),
        }
        await configure(proxy, providers, breaker={"cooldown": COOLDOWN_S})
        async with invariants(proxy, upstream, faulty, well) as watch:
            well.reply(faults=Faults(delay_s=0.1))
            ratio = await quietest(lambda: _slower_beside_flapping(watch, faulty), 1.1)

    opened_s = events_s(watch, "circuit_open")
    least_s = min((later - earlier for earlier, later in itertools.pairwise(opened_s)), default=math.inf)
    figure(
        "A19",
        f"down and up every {FLAP_S:g} s: {len(opened_s)} openings, {least_s:.2f} s apart at least "
        f"(cooldown {COOLDOWN_S:g} s); p99 of a healthy one {ratio - 1:+.1%} (limit +10 %)",
    )
    assert opened_s
    assert least_s >= COOLDOWN_S - 0.005  # the log's times are in milliseconds
    assert ratio - 1 <= 0.1 * SLACK * SLACK


async def _slower_beside_flapping(watch: Watch, faulty: FaultProxy) -> float:
    """How the p99 of a healthy provider while another one flaps compares with its p99 before.

    The median of the p99 of each second counts: one hiccup of the machine would be the p99 of all.
    """
    cycles = round(STORM_S / (2 * FLAP_S))
    _, calm = await _both_loads(watch, cycles * FLAP_S)
    (flapped, beside), _ = await asyncio.gather(_both_loads(watch, cycles * 2 * FLAP_S), _flap(faulty, cycles))
    assert {one.status for one in (*flapped, *beside)} == {200}
    calm_s, beside_s = (
        statistics.median(p99_s(heard[at : at + RATE // 2]) for at in range(0, len(heard) - RATE // 4, RATE // 2))
        for heard in (calm, beside)
    )
    return beside_s / calm_s


async def _both_loads(watch: Watch, seconds: float) -> tuple[list[Heard], list[Heard]]:
    """Ask the one that may flap and the healthy one, each at half the rate."""

    def is_over(passed_s: float) -> bool:
        return passed_s >= seconds

    flapped, beside = await asyncio.gather(
        load(watch, CHAT, RATE / 2, is_over, model="both"), load(watch, CHAT, RATE / 2, is_over)
    )
    return flapped, beside


async def _flap(faulty: FaultProxy, cycles: int) -> None:
    for _ in range(cycles):
        faulty.set(Fault.refuse())
        await asyncio.sleep(FLAP_S)
        faulty.clear()
        await asyncio.sleep(FLAP_S)


def events_s(watch: Watch, event: str) -> list[float]:
    """When an event was logged, in seconds since 1970."""
    times: list[Any] = [line["timestamp"] for line in watch.lines() if line["event"] == event]
    return [datetime.fromisoformat(time).timestamp() for time in times]
