"""Providers whose replies are no JSON, or send the client elsewhere, or come before they were asked (A15, A20, A22)."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Mapping

import pytest

from proxy.testing import FakeProvider, Faults, ProxyProcess, RawClient, encode_request
from tests.e2e.faults.rig import Heard, Watch, configure, figure, invariants
from tests.e2e.faults.test_late_and_cut import FORMATS, providers
from tests.e2e.rig import CALLS, STREAMS, Call
from tests.proxy.upstream.bad_responses import LINE

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = CALLS["openai"]
NATIVE = Call("native", "/", {"prompt": "Hello", "model": "gpt-4o"}, {})
CHUNKED_EVENTS = LINE + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_REPLIES = (
    b"<!DOCTYPE html><html><body>It works!</body></html>",
    b"<html>" + b"x" * 300_000,
    b"",
    b"{",
    b'{"choices": [{"message": {"content": "Hel',
    b"null",
    b"[]",
    b'"text"',
    b"NaN",
    b"{}{}",
    b"\xef\xbb\xbf{}",
    b'{"model": "\xff\xfe", "usage": null}',
    b'{"model": "\\ud800", "usage": {"prompt_tokens": "\\ud800"}}',
    b'{"model": 5, "usage": "many", "choices": 7, "content": {}, "candidates": 1, "message": []}',
    b'{"usage": {"prompt_tokens": -1, "input_tokens": 1e400, "completion_tokens": [], "output_tokens": true}}',
    b'{"choices": [null], "content": [null], "candidates": [null], "output": [null], "usage": []}',
    b"[" * 100_000,
    b'{"usage": {"prompt_tokens": ' + b"9" * 10_000 + b"}}",
)
TYPES = (b"Content-Type: application/json\r\n", b"Content-Type: text/html\r\n", b"", b"Content-Encoding: gzip\r\n")
NOT_JSON = (
    b"data: {oops\n\n",
    b"data: \xff\xfe\n\n",
    b"data:\n\n",
    b"nonsense: 5\n\n",
    b'data: ["usage", 1e999]\n\n',
    b": \n\n",
)


async def test_replies_that_are_no_json_pass_byte_for_byte(proxy: ProxyProcess) -> None:
    """There is no analytics yet that could note them as unparsed."""
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            count = 0
            for body, kind, name in itertools.product(NO_REPLIES, TYPES, FORMATS):
                upstream.reply_raw(LINE + kind + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                heard = await watch.ask((CALLS if count % 2 else STREAMS)[name])
                assert (heard.status, heard.is_whole, heard.body) == (200, True, body), (name, kind, body[:80])
                count += 1
            for name in ("openai", "responses", "anthropic", "gemini"):
                upstream.stream(["One", " two", " three"])
                events = (await watch.ask(STREAMS[name])).body.split(b"\n\n")
                odd = b"\n\n".join(events[:3]) + b"\n\n" + b"".join(NOT_JSON) + b"\n\n".join(events[3:])
                upstream.reply_raw(CHUNKED_EVENTS + b"%x\r\n%b\r\n0\r\n\r\n" % (len(odd), odd))
                heard = await watch.ask(STREAMS[name])
                assert (heard.status, heard.is_whole, heard.body) == (200, True, odd), name
                count += 1

    figure("A15", f"{count} replies that are no JSON with 200: all byte for byte, no error of ours")


async def test_replies_that_cannot_be_translated_are_told_as_the_providers_fault(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            outcomes = Counter[str]()
            for body, kind in itertools.product(NO_REPLIES, TYPES):
                upstream.reply_raw(LINE + kind + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                whole, stream = await watch.ask(NATIVE), await watch.ask(NATIVE, stream=True)
                outcomes[str(whole.status)] += 1
                assert (whole.status, whole.is_whole) == (502, True)
                outcomes[f"stream {stream.status}"] += 1
                assert (stream.status, stream.is_whole) == (502, True)
                assert b"upstream_" in stream.body

    figure("A15", f"{outcomes.total()} of them asked for in another format: {dict(outcomes)}")


REDIRECTS = (301, 302, 303, 307, 308)


async def test_redirect_is_passed_on_and_never_followed(proxy: ProxyProcess) -> None:
    async with FakeProvider() as upstream, FakeProvider() as recorder:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            passed, calls = 0, [*(CALLS[name] for name in FORMATS), *(STREAMS[name] for name in FORMATS)]
            for status, call in itertools.product(REDIRECTS, calls):
                where = f"{recorder.url}{call.path}"
                upstream.reply_status(status, b"moved", {"Location": where, "Refresh": f"0; url={where}"})
                heard = await watch.ask(call)
                assert (heard.status, heard.header("location"), heard.body) == (status, where, b"moved")
                passed += 1
            refused = [await watch.ask(NATIVE, stream=is_stream) for is_stream in (False, True)]
            seen = recorder.connections_made

    figure("A22", f"{passed} redirects passed on, the native API's refused; recorder: {seen} connections")
    assert seen == 0
    assert [(one.status, one.code) for one in refused] == [(502, "upstream_protocol")] * 2


UPLOAD_BYTES = 10 << 20
READ_FIRST_BYTES = 64 << 10
UPLOADS = 5
TOO_LARGE = b'{"error": {"message": "too much for us"}}'
IN_CHUNKS = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize("lingers", [True, False], ids=["reads on after its reply", "closes at once"])
async def test_early_reply_reaches_the_client_that_is_still_uploading(proxy: ProxyProcess, lingers: bool) -> None:
    json, raw = CHAT.body(user="x" * UPLOAD_BYTES), b"x" * UPLOAD_BYTES
    uploads = {
        "chat": ("/v1/chat/completions", json, {"Content-Length": str(len(json))}),
        "raw": ("/proxy/openai/files", raw, {"Content-Length": str(len(raw))}),
        "raw in chunks": ("/proxy/openai/files", b"%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw), IN_CHUNKS),
    }
    async with FakeProvider() as upstream:
        await configure(proxy, providers(upstream), breaker={"enabled": False})
        async with invariants(proxy, upstream) as watch:
            upstream.requests.clear()
            upstream.answers_before_body, upstream.body_bytes_first = True, READ_FIRST_BYTES
            upstream.reply_status(413, TOO_LARGE, faults=Faults(close_after=True, lingers=lingers))
            outcomes = Counter[tuple[str, int]]()
            for name, reads_at_once in itertools.product(uploads, (True, False) * UPLOADS):
                heard = await upload(watch, *uploads[name], reads_at_once=reads_at_once)
                outcomes[name, heard.status] += 1
                assert heard.status != 413 or heard.body == TOO_LARGE
            taken = [len(seen.body) for seen in upstream.requests]
            upstream.answers_before_body = False

    figure(
        "A20",
        f"413 after 64 KiB of 10 MiB, then it {'reads on' if lingers else 'closes'}: {dict(outcomes)}; the provider "
        f"read {min(taken) >> 10} to {max(taken) >> 10} KiB",
    )
    assert outcomes == {(name, 413): 2 * UPLOADS for name in uploads}


async def upload(watch: Watch, path: str, body: bytes, fields: Mapping[str, str], *, reads_at_once: bool) -> Heard:
    """Send a body and read the reply.

    Args:
        reads_at_once: while it is sent; else once it is, or once nothing more can be sent.
    """
    head = encode_request("POST", path, None, fields, host=f"127.0.0.1:{watch.proxy.port}")
    async with RawClient(watch.proxy.url) as client:
        began_s = time.monotonic()
        sending = asyncio.ensure_future(client.send(head + body))
        if not reads_at_once:
            await asyncio.wait((sending,))
        response = await client.read_response()
        heard = Heard(response, response.body, True, began_s, time.monotonic())
        sending.cancel()
        await asyncio.wait((sending,))
    watch.saw(repr(response.headers).encode() + heard.body)
    return heard
