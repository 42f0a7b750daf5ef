"""The verbs on providers and on requests in work."""

import asyncio
from typing import Any

import pytest

from proxy.testing import FakeProvider, Faults, ProxyHarness
from tests.e2e.rig import until
from tests.proxy.cli.rig import Ended, Run, ScriptedProxy, run_process

STATUS: dict[str, Any] = {
    "providers": [
        {
            "name": "openai",
            "type": "openai",
            "state": "degraded",
            "why": "model gpt-4o: 5 in a row",
            "since": "2026-01-31T14:00:00.000Z",
            "nextProbe": "2026-01-31T14:00:05.000Z",
            "inFlight": 3,
            "queued": 2,
            "maxConcurrency": 50,
            "calls": 1234,
            "errorRate": 0.0312,
            "latencyMs": {"p50": 812.4, "p95": 2345.6, "p99": 9000.0},
            "timeToFirstByteMs": {"p50": 301.2, "p95": None, "p99": None},
            "lastError": {"code": "upstream_timeout", "message": "no \x1b[1m first byte", "at": "2026-01-31T14:00:00Z"},
            "adaptiveLimit": 12,
            "keys": [
                {"key": "…aaaa", "state": "ok", "models": []},
                {
                    "key": "…bbbb",
                    "state": "refused",
                    "reason": "the provider refused the key",
                    "until": "2026-01-31T14:00:09.000Z",
                    "models": ["gpt-4o", "o3"],
                },
            ],
            "modelStates": [
                {"model": "gpt-4o", "state": "open", "why": "5 failures in a row", "until": "2026-01-31T14:00:05.000Z"},
                {"model": "o3", "state": "ok", "why": None, "until": None},
            ],
        },
        {"name": "echo", "state": "unknown", "why": None, "inFlight": 0, "queued": 0, "calls": 0, "errorRate": 0.0},
    ],
    "retryBudget": {"left": 43.4, "capacity": 50.0, "ratio": 0.2},
}
CHAT = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
ROW: dict[str, Any] = {"candidate": "a/m", "in": True, "why": "asked first", "share": 1.0, "inFlight": 2, "until": None}
EXPLAINED: dict[str, Any] = {
    "summary": "a/m is asked first",
    "panic": False,
    "candidates": [
        {**ROW, "latencyMs": 1234.5},
        {
            **ROW,
            "candidate": "b/m",
            "in": False,
            "why": "drained by an operator",
            "share": 0.55,
            "until": "2026-01-31T14:00:05.000Z",
        },
    ],
    "fallbacks": [{**ROW, "candidate": "c/n", "why": "asked if others fail"}],
    "notCandidates": [{"provider": "d", "why": "none of its models fits: x"}],
    "notes": ["failover.attempts is 1"],
    "balancer": {"strategy": "latency", "route": None, "sticky": False},
    "policy": {"failover": True, "on": ["connect", "tls"], "attempts": 4, "deadline": 120.0},
}


@pytest.mark.parametrize("words", [("providers",), ("providers", "status")])
def test_status_is_a_table_with_what_is_wrong_below_each(
    ask: Run, scripted: ScriptedProxy, words: tuple[str, ...]
) -> None:
    scripted.on("GET", "/providers/status", STATUS)

    ended = ask(*words)

    assert (ended.code, ended.errors) == (0, "")
    assert [line.rstrip() for line in ended.output.splitlines()] == [
        "PROVIDER  STATE     IN FLIGHT  QUEUED  CALLS  ERRORS  P50     P95       FIRST BYTE  WHY",
        "openai    degraded  3 of 12    2       1234   3.1%    812 ms  2,346 ms  301 ms      model gpt-4o: 5 in a row",
        "    next probe 2026-01-31T14:00:05.000Z",
        "    key …bbbb: refused until 2026-01-31T14:00:09.000Z: the provider refused the key [gpt-4o, o3]",
        "    model gpt-4o: open until 2026-01-31T14:00:05.000Z: 5 failures in a row",
        "    last error 2026-01-31T14:00:00Z: no \\x1b[1m first byte (upstream_timeout)",
        "echo      unknown   0          0       0      -       -       -         -           -",
        "retry budget: 43.4 of 50.0 extra attempts",
    ]


def test_explain_is_a_table_of_who_is_in_and_who_is_out(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/providers/explain", EXPLAINED)

    ended = ask("providers", "explain", "m")

    assert ended.code == 0
    assert [line.rstrip() for line in ended.output.splitlines()] == [
        "a/m is asked first",
        "CANDIDATE  ROLE       IN   SHARE  IN FLIGHT  LATENCY   UNTIL                     WHY",
        "a/m        candidate  in   100%   2          1,234 ms  -                         asked first",
        "b/m        candidate  out  55%    2          -         2026-01-31T14:00:05.000Z  drained by an operator",
        "c/n        fallback   in   100%   2          -         -                         asked if others fail",
        "no candidate: d (none of its models fits: x)",
        "balancer: strategy latency",
        "note: failover.attempts is 1",
        "policy: 4 attempts within 120 s; failover on connect, tls",
    ]


def test_explain_describes_the_request(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/providers/explain", EXPLAINED)

    ask(
        *("providers", "explain", "a/b c", "--format", "native", "--stream", "--size", "2KB"),
        *("--header", "X-Job=a=b", "--header", "X-Session-Id=1"),
    )

    assert scripted.requests[0].query == {
        "model": "a/b c",
        "format": "native",
        "stream": "true",
        "size": "2KB",
        "header.X-Job": "a=b",
        "header.X-Session-Id": "1",
    }


def test_header_without_a_value_is_wrong_usage(ask: Run) -> None:
    ended = ask("providers", "explain", "m", "--header", "X-Job")

    assert (ended.code, "'X-Job' is not NAME=VALUE" in ended.errors) == (2, True)


def test_drain_and_enable_say_what_came_of_it(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("POST", "/providers/a%2Fb/drain", {"state": "drained", "inFlight": 3, "queued": 1})
    scripted.on("POST", "/providers/a%2Fb/enable", {"forgotten": {"circuits": ["a/b"], "cooldowns": 2}})

    drained, enabled = ask("providers", "drain", "a/b"), ask("providers", "enable", "a/b")

    assert drained.output == "a/b takes no new calls (3 in flight, 1 queued); `providers enable` undoes it\n"
    assert enabled.output == "a/b takes calls again (1 circuits closed, 2 cooldowns ended)\n"
    assert all("x-author" in request.headers for request in scripted.requests)


def test_refusal_is_told_in_the_proxys_words(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.problem("POST", "/providers/x/drain", 404, detail="there is no provider 'x'; there are openai")

    ended = ask("providers", "drain", "x")

    assert (ended.code, ended.errors) == (1, "there is no provider 'x'; there are openai\n")


def test_requests_in_work_are_a_table(ask: Run, scripted: ScriptedProxy) -> None:
    request = {
        "id": "req_1",
        "phase": "first_byte",
        "ageMs": 12345.6,
        "model": "gpt-4o",
        "provider": "openai",
        "operation": "openai.chat",
        "bytesOut": 0,
        "attempts": 2,
        "lastFailure": "azure/o3: timeout",
        "peer": "10.0.0.1",
        "caller": "…aaaa",
    }
    scripted.on("GET", "/inflight", {"total": 300, "requests": [request]})

    ended = ask("inflight")

    assert [line.rstrip() for line in ended.output.splitlines()] == [
        "ID     PHASE       AGE     MODEL   PROVIDER  OPERATION    BYTES  ATTEMPTS  CALLER          LAST FAILURE",
        "req_1  first_byte  12.3 s  gpt-4o  openai    openai.chat  0      2         10.0.0.1 …aaaa  azure/o3: timeout",
        "the oldest 1 of 300",
    ]


def test_no_request_in_work_is_said_in_words(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/inflight", {"total": 0, "requests": []})

    assert ask("inflight", "list").output == "no request is in work\n"


@pytest.mark.parametrize(("already", "more"), [(0, ""), (1, ", 1 are ending already")])
def test_end_says_how_many_were_ended(ask: Run, scripted: ScriptedProxy, already: int, more: str) -> None:
    scripted.on("DELETE", "/inflight/a%2Fb", {"id": "a/b", "ended": 2, "endingAlready": already})

    assert ask("inflight", "end", "a/b").output == f"requests ended: 2{more}\n"


@pytest.mark.parametrize(
    "words", [("providers",), ("providers", "explain", "m"), ("providers", "drain", "a"), ("inflight",)]
)
def test_json_is_the_proxys_answer(ask: Run, scripted: ScriptedProxy, words: tuple[str, ...]) -> None:
    for method, path in (("GET", "/providers/status"), ("GET", "/providers/explain"), ("GET", "/inflight")):
        scripted.on(method, path, {"it": "is"})
    scripted.on("POST", "/providers/a/drain", {"it": "is"})

    assert ask("--json", *words).output == '{\n  "it": "is"\n}\n'


async def test_verbs_and_the_running_proxy_understand_each_other(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))
    await proxy.start(providers={"vendor": upstream.provider(maxConcurrency=7)})
    running = asyncio.create_task(proxy.request("POST", "/v1/chat/completions", CHAT, {"X-Request-Id": "mine"}))
    await until(lambda: proxy.app.pipeline.in_flight == 1, "one in work")

    async def run(*words: str) -> Ended:
        ended = await asyncio.to_thread(run_process, "--url", proxy.url, *words)
        assert (ended.code, ended.errors) == (0, ""), ended.errors
        return ended

    listed, status = await run("inflight"), await run("providers")
    drained, explained = await run("providers", "drain", "vendor"), await run("providers", "explain", "m")
    ended, enabled = await run("inflight", "end", "mine"), await run("providers", "enable", "vendor")

    assert (await running).status == 503
    assert "mine  first_byte" in listed.output
    assert "vendor    unknown  1 of 7" in status.output
    assert drained.output.startswith("vendor takes no new calls (1 in flight, 0 queued)")
    assert "vendor/m   candidate  out" in explained.output
    assert (ended.output, enabled.output.partition(" (")[0]) == ("requests ended: 1\n", "vendor takes calls again")
