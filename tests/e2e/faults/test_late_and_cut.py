"""Providers that answer late, stall, or break off (FAULTS A6 to A11)."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, Fault, FaultProxy, Faults, ProxyProcess
from proxy.testing.steps import CutKind
from tests.e2e.faults.rig import SLACK, Heard, Watch, canary, configure, figure, invariants, quietest
from tests.e2e.rig import CALLS, STREAMS, Call, ask
from tests.e2e.test_streams import error_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORMATS = ("openai", "responses", "anthropic", "gemini", "ollama")
MODELS = {"openai": "gpt-*", "anthropic": "claude-*", "gemini": "gemini-*", "ollama": "llama*"}
FIRST_BYTE_S = IDLE_S = 1.0
NATIVE = Call("native", "/", {"prompt": "Hello", "model": "gpt-4o", "stream": True}, {})
TEXTS = [f" word{number}" for number in range(20)]


def providers(upstream: FakeProvider | FaultProxy, **settings: Any) -> dict[str, Any]:
    """One upstream as a provider of each format."""
    return {
        name: upstream.provider(name, apiKey=canary(name), models=[models], **settings)  # type: ignore[arg-type]
        for name, models in MODELS.items()
    }


async def test_first_byte_that_does_not_come_is_told_at_its_limit(proxy: ProxyProcess) -> None:
    calls = [*(CALLS[name] for name in FORMATS), *(STREAMS[name] for name in FORMATS)]
    took: list[float] = []
    async with FakeProvider() as upstream, FaultProxy(upstream.url) as faulty, FakeProvider() as spare:
        both = {"spare": spare.provider(apiKey=canary("spare"), models=["gpt-both"], priority=1)}
        late = providers(faulty, timeouts={"firstByte": FIRST_BYTE_S})
        await configure(proxy, late | both, breaker={"enabled": False})

        async def off_by(watch: Watch) -> float:
            upstream.requests.clear()
            *heard, good = await asyncio.gather(
                *(watch.ask(call) for call in calls), watch.ask(CALLS["openai"], model="gpt-both")
            )
            assert {one.status for one in heard} == {504}
            assert all(b"upstream_timeout" in one.body for one in heard)
            assert (good.status, good.header("x-provider")) == (200, "spare")
            began = sorted(one.at_s for one in upstream.requests)
            ended = sorted([*(one.ended_s for one in heard), spare.last_request.at_s])
            took[:] = [end_s - begin_s for begin_s, end_s in zip(began, ended, strict=True)]
            return off_by_most(took, FIRST_BYTE_S)

        async with invariants(proxy, upstream, faulty, spare) as watch:
            faulty.set(Fault.stall())
            off = await quietest(lambda: off_by(watch), 0.05)

    figure("A6", f"no first byte: 504 after {min(took):.3f} to {max(took):.3f} s (limit {FIRST_BYTE_S:g} s ±5 %)")
    assert off <= 0.05 * SLACK


async def test_broken_body_is_never_passed_off_as_whole(proxy: ProxyProcess) -> None:
    kinds: tuple[CutKind, ...] = ("rst", "fin")
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            before, outcomes = upstream.requests_seen, await outcomes_of(proxy)
            for name, kind in itertools.product(FORMATS, kinds):
                call = CALLS[name]
                upstream.reply("word " * 500)
                whole = (await ask(upstream, "POST", call.path, call.body(), call.headers)).body
                upstream.reply("word " * 500, faults=Faults(cut_after_bytes=len(whole) // 2, cut=kind))
                heard = await watch.ask(call)
                assert (heard.status, heard.header("content-length")) == (200, str(len(whole)))
                assert (heard.is_whole, heard.body) == (False, whole[: len(whole) // 2])
            upstream.reply("good")
            again = await watch.ask(call)
            outcomes = await outcomes_of(proxy) - outcomes

    figure("A7", f"{len(FORMATS) * 2} bodies cut in the middle: half of each came, then the connection ended")
    assert b"good" in again.body
    assert upstream.requests_seen - before == len(FORMATS) * 4 + 2  # the half answer was not kept for the next one
    assert outcomes == {"upstream_cut": len(FORMATS) * 2, "ok": 1}


async def test_truncated_chunks_are_never_passed_off_as_whole(proxy: ProxyProcess) -> None:
    call = CALLS["openai"]
    async with FakeProvider() as upstream, FaultProxy(upstream.url, record_bytes=1 << 20) as faulty:
        await configure(proxy, providers(faulty), breaker={"enabled": False})
        async with invariants(proxy, upstream, faulty) as watch:
            upstream.reply("word " * 50, is_chunked=True)
            faulty.recorded["down"].clear()
            whole = (await watch.ask(call)).body
            size, head = len(faulty.recorded["down"]), faulty.recorded["down"].index(b"\r\n\r\n") + 4
            offsets = sorted({0, head - 3, head, head + 3, size - 5, size - 3, size - 1, *range(1, size, 23)})
            statuses = Counter[int]()
            for offset in offsets:
                for fault in (Fault.truncate(offset), Fault.reset(offset)):
                    faulty.set(fault)
                    heard = await watch.ask(call)
                    statuses[heard.status] += 1
                    if heard.status == 200:
                        assert not heard.is_whole, f"{offset} of {size} bytes were passed off as a whole body"
                        assert whole.startswith(heard.body)
                    else:
                        assert heard.code in ("upstream_reset", "upstream_cut")

    figure("A11", f"{2 * len(offsets)} chunked bodies cut anywhere: none looks whole, answers by status {statuses}")
    assert set(statuses) == {200, 502}


async def test_broken_stream_hands_on_its_events_then_an_error_then_no_end(proxy: ProxyProcess) -> None:
    heard, direct = {}, {}
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            for name in FORMATS:
                upstream.stream(TEXTS)
                direct[name] = await direct_events(upstream, STREAMS[name])
                upstream.stream(TEXTS, faults=Faults(cut_after_events=10))
                heard[name] = await watch.ask(STREAMS[name])
            upstream.stream(TEXTS, faults=Faults(cut_after_events=10))
            native = await watch.ask(NATIVE)

    figure("A8", f"reset after event 10 of 20: events 1 to 10, an error event and no end, in {len(heard) + 1} formats")
    for name in FORMATS:
        check_broken(name, heard[name], b"".join(direct[name][:10]), "upstream_cut")
    assert not native.is_whole
    assert texts_in(native.body) == TEXTS[:9]  # the first event of ten has the role only
    assert b"event: error" in native.body.split(b"word8")[1]
    assert b"upstream_cut" in native.body


async def test_stalled_stream_is_cut_at_its_idle_limit(proxy: ProxyProcess) -> None:
    silent: list[float] = []
    later: list[float] = []
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream, timeouts={"idle": IDLE_S}), breaker={"enabled": False})
        upstream.stream(TEXTS)
        direct = {name: await direct_events(upstream, STREAMS[name]) for name in FORMATS}

        async def off_by(watch: Watch) -> float:
            upstream.early_closes.clear()
            upstream.stream(TEXTS, faults=Faults(stall_after_events=5))
            heard = await asyncio.gather(*(watch.ask(STREAMS[name]) for name in FORMATS))
            closed_s = await upstream.wait_for_disconnect(count=len(FORMATS))
            for name, one in zip(FORMATS, heard, strict=True):
                check_broken(name, one, b"".join(direct[name][:5]), "upstream_timeout")
            silent[:] = [one.response.parts[-1][0] - one.response.parts[-2][0] for one in heard]
            later.append(closed_s - min(one.response.parts[-1][0] for one in heard))
            return off_by_most(silent, IDLE_S)

        async with invariants(proxy, upstream) as watch:
            off = await quietest(lambda: off_by(watch), 0.05)

    figure(
        "A9",
        f"stream cut {min(silent):.3f} to {max(silent):.3f} s after its last event (limit {IDLE_S:g} s ±5 %), "
        f"provider's connections closed {min(later) * 1000:.0f} ms later (limit 100 ms)",
    )
    assert off <= 0.05 * SLACK
    assert min(later) <= 0.1 * SLACK


async def test_slow_stream_that_goes_on_is_not_killed(proxy: ProxyProcess) -> None:
    timeouts = {"firstByte": 0.5, "idle": 0.5}  # an event takes 0.15 s, all of them more than 5 times the limits
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream, timeouts=timeouts), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            upstream.stream(TEXTS)
            direct = [await direct_events(upstream, STREAMS[name]) for name in FORMATS]
            upstream.stream(TEXTS, delay_s=0.15)
            heard = await asyncio.gather(*(watch.ask(STREAMS[name]) for name in FORMATS))

    took = [one.took_s for one in heard]
    figure("A10", f"slow streams complete after {min(took):.1f} to {max(took):.1f} s (limits 0.5 s, total none)")
    assert min(took) > 2.5
    assert [(one.is_whole, one.body) for one in heard] == [(True, b"".join(events)) for events in direct]


def off_by_most(took_s: Sequence[float], limit_s: float) -> float:
    """How far the one that is farthest from the limit is from it, as a share of it."""
    return max(abs(one / limit_s - 1) for one in took_s)


async def direct_events(upstream: FakeProvider, call: Call) -> list[bytes]:
    """The events of a stream as the provider sends them, terminators included."""
    body = (await ask(upstream, "POST", call.path, call.body(), call.headers)).body
    mark = b"\n" if call.format == "ollama" else b"\n\n"
    return [event + mark for event in body.split(mark) if event]


def check_broken(name: str, heard: Heard, expected: bytes, code: str) -> None:
    """What came is what the provider had sent, then one error event in the client's format, and no end."""
    assert (heard.status, heard.is_whole) == (200, False)
    assert heard.body.startswith(expected)
    rest = heard.body[len(expected) :]
    assert error_of(name, rest, is_timeout=code == "upstream_timeout") == code
    assert rest.count(b"\n\n" if name != "ollama" else b"\n") == 1
    assert b"[DONE]" not in heard.body


def texts_in(native: bytes) -> list[str]:
    lines = (line for line in native.split(b"\n") if line.startswith(b"data: {"))
    found = [orjson.loads(line[6:]).get("delta") for line in lines]
    return [text for text in found if text]


async def outcomes_of(proxy: ProxyProcess) -> Counter[str]:
    """How calls of providers ended since the proxy's start, as /metrics tells."""
    counts = Counter[str]()
    for line in (await ask(proxy, "GET", "/metrics")).text.splitlines():
        if found := re.fullmatch(r'proxy_upstream_requests_total\{.*outcome="(\w+)".*\} ([\d.]+)', line):
            counts[found[1]] += int(float(found[2]))
    return counts
