"""What the debug plugin writes, and what it never writes."""

from random import Random
from typing import Any

import pytest

from plugins.debug import DebugConfig, DebugPlugin
from proxy.errors import UpstreamTimeout
from proxy.exchange import Attempt, Exchange
from proxy.host.loader import load
from proxy.host.manager import Machinery, PluginHost
from proxy.usage import Usage
from tests.plugins.rig import NO_CORE, Rig, make_exchange


def make(rig: Rig, **settings: Any) -> DebugPlugin:
    return DebugPlugin(DebugConfig.model_validate({"enabled": True, **settings}), rig.context, Random(1))


def finished(**fields: Any) -> Exchange:
    known = {"status": 200, "provider": "openai", "duration_s": 0.5321, "bytes_out": 77, "usage": Usage(12, 34)}
    return make_exchange(**{**known, **fields})


def run(debug: DebugPlugin, exchange: Exchange, *events: bytes) -> None:
    debug.pre_request(exchange)
    stream_filter = debug.stream_filter(exchange) if events else None
    for event in events:
        assert stream_filter is not None
        assert stream_filter.event(event) == event
    debug.post_response(exchange)


def test_it_is_off_by_default() -> None:
    assert DebugConfig().enabled is False


def test_level_info_writes_one_line() -> None:
    rig = Rig()

    make(rig).post_response(finished())

    (event,) = rig.events.recent()
    assert (event.level, event.kind) == ("INFO", "debug_reply")
    assert event.message == "POST /v1/chat/completions gpt-4o -> 200, openai, 0.532 s, 77 bytes, 12+34 tokens"


@pytest.mark.parametrize(
    ("settings", "hooks"),
    [
        ({}, {"post_response"}),
        ({"level": "debug"}, {"pre_request", "post_response"}),
        ({"level": "debug", "replyBodies": True}, {"pre_request", "stream_filter", "post_response"}),
    ],
)
def test_only_hooks_with_work_are_compiled(settings: dict[str, Any], hooks: set[str]) -> None:
    context = Rig().context
    machinery = Machinery(context.clock, context.wall_clock, context.metrics, context.events, context.log, *NO_CORE)
    config = DebugConfig.model_validate({"enabled": True, **settings})

    dispatch = PluginHost(load(["debug"]), {"debug": config}, machinery).dispatch

    assert {name for name in ("pre_request", "stream_filter", "post_response") if getattr(dispatch, name)} == hooks


def test_level_debug_writes_request_and_reply() -> None:
    rig = Rig()
    failed = Attempt("backup", "m", 1000.0)
    failed.duration_s, failed.error, failed.message = 0.1, "upstream_timeout", "silent"
    exchange = finished(attempts=[failed], error=UpstreamTimeout("silent"), status=504, usage=None)

    run(make(rig, level="debug"), exchange)

    assert {event.level for event in rig.events.recent()} == {"DEBUG"}
    (request,), (reply,) = rig.told("debug_request"), rig.told("debug_reply")
    assert request.fields["body"] == '{"model":"gpt-4o"}'
    assert request.fields["trace_id"] == reply.fields["trace_id"] == "r-1"
    assert "504" in reply.message
    assert "upstream_timeout: silent" in reply.message
    assert reply.fields["attempts"] == [
        {"provider": "backup", "status": None, "error": "upstream_timeout", "duration_s": 0.1}
    ]


def test_credentials_are_never_written() -> None:
    rig = Rig()

    run(make(rig, level="debug"), finished())

    assert "sk-canary" not in repr(rig.events.recent())
    headers: Any = rig.told("debug_request")[0].fields["headers"]
    assert headers == {"authorization": "(not shown)", "x-api-key": "(not shown)", "user-agent": "curl/8"}


def test_bodies_are_cut_and_can_be_left_out() -> None:
    rig = Rig()

    make(rig, level="debug", maxBody=4).pre_request(make_exchange(b"abcdefgh"))
    make(rig, level="debug", bodies=False).pre_request(make_exchange(b"abcdefgh"))

    first, second = rig.told("debug_request")
    assert first.fields["body"] == "abcd… (8 bytes, 4 shown)"
    assert "body" not in second.fields


def test_streamed_reply_is_written_when_asked_for() -> None:
    rig = Rig()

    run(make(rig, level="debug", replyBodies=True, maxBody=6), finished(), b"data: a\n\n", b"data: b\n\n")

    assert rig.told("debug_reply")[0].fields["body"] == "data: … (18 bytes, 6 shown)"


def test_share_of_exchanges_is_decided_once_for_both_lines() -> None:
    rig = Rig()
    debug = make(rig, level="debug", sampleRate=0.25)

    for _ in range(2000):
        run(debug, finished())

    requests, replies = len(rig.told("debug_request")), len(rig.told("debug_reply"))
    assert requests == replies
    assert 300 < requests < 700


def test_what_a_client_sends_adds_no_lines_to_the_log() -> None:
    rig = Rig()
    exchange = finished()
    exchange.request.model = "gpt\n2026 ERROR forged\x1b[31m"
    exchange.request.headers = ((b"X-Odd", b"a\rb"),)

    run(make(rig, level="debug"), exchange)

    for event in rig.events.recent():
        assert event.message.isprintable()
    assert rig.told("debug_request")[0].fields["headers"] == {"x-odd": "a\ufffdb"}
