"""How replies are framed: events split anywhere, and replies that have no body whatever they say (FAULTS A16, A21)."""

import asyncio
import itertools
import os
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.testing import FakeProvider, Faults, Pause, ProxyProcess, RawClient, SeenRequest, Step, encode_request
from tests.e2e.faults.rig import SLACK, Watch, canary, configure, figure, invariants, quietest
from tests.e2e.faults.test_late_and_cut import FORMATS, providers
from tests.e2e.rig import CALLS, STREAMS, ask
from tests.proxy.upstream.bad_responses import LINE

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = CALLS["openai"]
SPLITS = int(os.environ.get("SWITCHYARD_SPLITS", "300"))
"""Streams that are each split elsewhere; `scripts/prove` says 10,000."""
TEXTS = ("One", " zwei", " três", " 四五", " ✓\n", ' "six" 🎉\\', "", "\u2028\x85")
LINE_ENDS = {"LF": Faults(), "CRLF": Faults(crlf=True), "CR": Faults(cr=True)}
EVENTS, PACE_S, LATE_S = 60, 0.01, 0.005
STAMP = re.compile(rb"[0-9]+\.[0-9]{6}")


@dataclass(frozen=True)
class Cuts:
    """How one stream is sent. `at` are parts of its length, from 0 to 1; `drip_s` keeps writes apart on their way."""

    format: str
    faults: Faults
    at: tuple[float, ...]


@st.composite
def cuts(draw: st.DrawFn) -> Cuts:
    ends = draw(st.sampled_from(sorted(LINE_ENDS)))
    shape = replace(LINE_ENDS[ends], comments=draw(st.booleans()), data_lines=draw(st.booleans()))
    at = draw(st.lists(st.floats(0, 1, exclude_max=True, allow_subnormal=False), min_size=5, max_size=40, unique=True))
    drip_s = draw(st.sampled_from([0.0, 0.0, 0.00005]))
    return Cuts(draw(st.sampled_from(FORMATS)), replace(shape, drip_s=drip_s), tuple(at))


async def test_events_arrive_byte_for_byte_however_they_are_split(proxy: ProxyProcess) -> None:
    whole: dict[tuple[str, Faults], bytes] = {}
    streams = places = 0
    loop = asyncio.get_running_loop()
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:

            async def check(case: Cuts) -> int:
                call, intact = STREAMS[case.format], replace(case.faults, drip_s=0.0)
                if (case.format, intact) not in whole:
                    upstream.stream(TEXTS, faults=intact)
                    answer = await ask(upstream, "POST", call.path, call.body(), call.headers)
                    whole[case.format, intact] = answer.body
                direct = whole[case.format, intact]
                split_at = tuple(sorted({int(part * len(direct)) for part in case.at}))
                upstream.stream(TEXTS, faults=replace(case.faults, split_at=split_at))
                heard = await watch.ask(call)
                assert (heard.status, heard.is_whole, heard.body) == (200, True, direct)
                return len(split_at)

            @settings(max_examples=SPLITS)
            @given(cuts())
            def check_all(case: Cuts) -> None:
                nonlocal streams, places
                places += asyncio.run_coroutine_threadsafe(check(case), loop).result(10)
                streams += 1

            await asyncio.to_thread(check_all)

    figure("A16", f"{streams} streams split at {places} places, {len(whole)} shapes: byte for byte")
    assert streams >= SPLITS


class Stamping(FakeProvider):
    """Streams events that hold the moment at which their last byte was sent; every other one is sent in two writes."""

    def steps_for(self, request: SeenRequest) -> Iterator[Step]:
        end = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}.get(request.document.get("user", ""))
        return super().steps_for(request) if end is None else self._stamped(end)

    def _stamped(self, end: bytes) -> Iterator[Step]:
        yield LINE + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        for number in range(EVENTS):
            yield Pause(PACE_S)
            begin = b'data: {"choices":[{"index":0,"delta":{"content":"'
            if number % 2:
                yield _chunk(begin)
                yield Pause(PACE_S / 2)
                begin = b""
            yield _chunk(b'%b%.6f"}}]}%b' % (begin, time.monotonic(), end * 2))
        yield _chunk(
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}%bdata: [DONE]%b' % (end * 2, end * 2)
        )
        yield b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_each_event_leaves_when_it_has_come(proxy: ProxyProcess) -> None:
    """Compared with clients that ask the provider itself at the same time: what both see is the machine's doing."""
    figures = []
    async with Stamping() as upstream:

        async def excess_s() -> float:
            direct_s, relayed_s = await asyncio.gather(_lateness(upstream.url), _lateness(proxy.url))
            assert len(relayed_s) == EVENTS * len(LINE_ENDS)
            excess_s = _p99(relayed_s) - _p99(direct_s)
            figures.append((excess_s, relayed_s, direct_s))
            return excess_s

        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream):
            await quietest(excess_s, LATE_S, tries=5)

    excess, relayed_s, direct_s = min(figures)
    median_s = statistics.median(relayed_s)
    figure(
        "A16",
        f"{len(relayed_s)} events left {median_s * 1000:.2f} ms after they came, p99 {_p99(relayed_s) * 1000:.2f} ms; "
        f"without the proxy {statistics.median(direct_s) * 1000:.2f} and {_p99(direct_s) * 1000:.2f} ms "
        "(limit 5 ms more)",
    )
    assert median_s <= LATE_S * min(SLACK, 1.6)  # one that waits for the next would be later by PACE_S
    assert excess <= LATE_S


async def _lateness(url: str) -> list[float]:
    """How long after its last byte was sent each event was read, of a stream with each line end at once."""
    streams = await asyncio.gather(*(_lateness_of(url, end) for end in LINE_ENDS))
    return list(itertools.chain.from_iterable(streams))


async def _lateness_of(url: str, end: str) -> list[float]:
    call = STREAMS["openai"]
    async with RawClient(url) as client:
        response = await client.request("POST", call.path, call.body(user=end), call.headers)
    found = [(at_s, STAMP.findall(part)) for at_s, part in response.parts]
    return [at_s - float(stamp) for at_s, stamps in found for stamp in stamps]


def _p99(values_s: list[float]) -> float:
    return statistics.quantiles(values_s, n=100)[98]


OK = LINE + b"Content-Length: 2\r\n\r\nok"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n"
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n'
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
"""What follows a reply that has no body; it looks like the next one."""


@dataclass(frozen=True)
class Odd:
    """One reply, and what of it the client must get: status, Content-Length (None for none), and body."""

    wire: bytes
    status: int
    length: str | None
    body: bytes = b""
    methods: tuple[str, ...] = ("GET", "POST")


def odd_replies() -> Iterator[Odd]:
    for interim in (b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </evil>", b"199 Odd\r\nX-A: evil"):
        for count in (1, 10):
            yield Odd(b"HTTP/1.1 %b\r\n\r\n" % interim * count + OK, 200, "2", b"ok")
    yield Odd(b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK, 502, "any", b"any")
    yield Odd(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil" + OK, 502, "any", b"any")
    yield Odd(b"HTTP/1.1 103 Early Hints\r\n\r\n" + NO_CONTENT + b"\r\n", 204, None)
    for head, status, kept in ((NO_CONTENT, 204, None), (NOT_MODIFIED, 304, "4")):
        for rest in (b"", b"evil", BODY, b"\r\n"):
            yield Odd(head + b"\r\n" + rest, status, None)
            yield Odd(head + b"Content-Length: 4\r\n\r\n" + rest, status, kept)
            yield Odd(head + b"Transfer-Encoding: chunked\r\n\r\n" + rest, status, None)
    for rest in (b"", b"evil", BODY, b"4\r\nevil\r\n0\r\n\r\n"):
        yield Odd(LINE + b"Content-Length: 4\r\n\r\n" + rest, 200, "4", methods=("HEAD",))
        yield Odd(LINE + b"Content-Length: 0\r\n\r\n" + rest, 200, "0", methods=("HEAD",))
        yield Odd(LINE + b"Transfer-Encoding: chunked\r\n\r\n" + rest, 200, None, methods=("HEAD",))
        yield Odd(LINE + b"\r\n" + rest, 200, None, methods=("HEAD",))
        yield Odd(b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\n" + rest, 404, "4", methods=("HEAD",))
        yield Odd(b"HTTP/1.1 302 No\r\nContent-Length: 4\r\n\r\n" + rest, 302, "4", methods=("HEAD",))
    for rest in (b"", OK, b"\x81\x04evil"):
        yield Odd(SWITCH + rest, 502, "any", b"any", ("GET", "POST", "HEAD"))
        yield Odd(b"HTTP/1.1 100 Continue\r\n\r\n" + SWITCH + rest, 502, "any", b"any")


async def test_replies_without_a_body_are_framed_right_whatever_follows_them(proxy: ProxyProcess) -> None:
    """All on one connection: whatever were too much or too little of one would be taken for the next."""
    asked = {"Connection": "upgrade", "Upgrade": "websocket"}
    one_attempt = {"breaker": {"enabled": False}, "failover": {"attempts": 1}}
    counts = dict.fromkeys(("right", "refused"), 0)
    async with FakeProvider() as upstream:
        await configure(proxy, {"up": upstream.provider(apiKey=canary("up"))}, **one_attempt)
        async with invariants(proxy, upstream) as watch, RawClient(proxy.url) as client:
            for odd, fields in itertools.product(odd_replies(), ({}, asked)):
                for method, path in itertools.product(odd.methods, ("/proxy/up/x", "/v1/files", CHAT.path)):
                    if path == CHAT.path and method != "POST":
                        continue
                    upstream.reply_raw(odd.wire)
                    got = await _ask_raw(watch, client, method, path, fields)
                    expected = (odd.status, odd.length, odd.body)
                    assert got == expected, f"{method} {path}: {odd.wire!r} gave {got}"
                    counts["refused" if odd.status == 502 else "right"] += 1

    figure("A21", f"{counts['right']} replies framed right, {counts['refused']} that are none refused")
    assert min(counts.values()) > 50


async def _ask_raw(
    watch: Watch, client: RawClient, method: str, path: str, fields: dict[str, str]
) -> tuple[int, str | None, bytes]:
    """Status, Content-Length and body; of a refusal, the last two are `any`."""
    body = CHAT.body() if method == "POST" else None
    await client.send(encode_request(method, path, body, fields, host=f"127.0.0.1:{watch.proxy.port}"))
    response = await client.read_head()
    has_body = method != "HEAD" and response.status not in (204, 304)
    while has_body and await client.read_part(response):
        pass
    assert response.header("transfer-encoding") is None or response.status == 200
    if response.status == 502:
        watch.faults += 1
        return 502, "any", b"any"
    assert "evil" not in repr(response.headers)
    return response.status, response.header("content-length"), response.body
