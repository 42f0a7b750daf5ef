"""Replies of a provider in another format: nothing of one that has no output reaches the client."""

import pytest

from proxy.testing import CutOff, FakeProvider, ProxyHarness
from proxy.testing.raw_client import RawResponse
from proxy.testing.steps import Cut, CutKind, Pause
from tests.proxy.journey.accounts import given_back, pair

PAUSE = Pause(0.02)
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
EVENTS = b"Content-Type: text/event-stream\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
THOUGHT = b'data: {"choices":[{"index":0,"delta":{"reasoning":"hm"}}]}\n\n'
ERROR = b'{"error":{"message":"out of luck"}}'
USELESS = {
    "page": (b"Content-Type: text/html\r\n", b"<!DOCTYPE html>\n\n<html>It works!</html>\n\n"),
    "large page": (b"Content-Type: text/html\r\n", b"<html>" + b"x" * 300_000),
    "page called a stream": (EVENTS, b"<!DOCTYPE html>\n\n<html>It works!</html>\n\n"),
    "error": (JSON, ERROR),
    "error called a stream": (EVENTS, ERROR),
    "error as first event": (EVENTS, b"data: " + ERROR + b"\n\n"),
    "error after the preamble": (EVENTS, ROLE + b"data: " + ERROR + b"\n\n"),
    "error after what is not translated": (EVENTS, THOUGHT + b"data: " + ERROR + b"\n\n"),
    "whole reply": (JSON, b'{"choices":[{"message":{"content":"never streamed"},"finish_reason":"stop"}]}'),
    "nothing": (EVENTS, b""),
    "end before any output": (EVENTS, ROLE),
    "end after what is not translated": (EVENTS, THOUGHT),
    "event that is no JSON": (EVENTS, b"data: {oops\n\n"),
    "compressed": (EVENTS + b"Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00rubbish"),
}


async def ask(proxy: ProxyHarness) -> RawResponse:
    return await proxy.request("POST", "/", {"prompt": "Hello", "model": "fake-model", "stream": True})


@pytest.mark.parametrize("case", USELESS)
@pytest.mark.parametrize("is_split", [False, True], ids=["at once", "head first"])
async def test_useless_reply_is_made_good_by_another_provider_unseen(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, case: str, is_split: bool
) -> None:
    kind, body = USELESS[case]
    head = OK + kind + b"Content-Length: %d\r\n\r\n" % len(body)
    upstream.reply_raw(*([head, PAUSE, body[:20], PAUSE, body[20:]] if is_split else [head + body]))
    await proxy.start(providers=pair(upstream, spare))

    response = await ask(proxy)

    assert (response.status, response.header("x-provider"), response.header("x-attempts")) == (200, "second", "2")
    assert response.body.startswith(b'data: {"delta":"from"}\n\n')
    assert response.body.count(b"event: done") == 1
    await given_back(proxy)


@pytest.mark.parametrize("case", USELESS)
async def test_useless_reply_of_the_only_provider_is_an_error_with_its_status(
    proxy: ProxyHarness, upstream: FakeProvider, case: str
) -> None:
    kind, body = USELESS[case]
    upstream.reply_raw(OK + kind + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await proxy.start(providers={"vendor": upstream.provider()})

    response = await ask(proxy)

    assert (response.status, response.header("content-type")) == (502, "application/json")
    assert ("out of luck" in response.text) == case.startswith("error")


@pytest.mark.parametrize("cut", ["fin", "rst"])
async def test_stream_that_breaks_before_its_first_output_is_made_good_unseen(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, cut: CutKind
) -> None:
    upstream.reply_raw(OK + EVENTS + b"Content-Length: 5000\r\n\r\n", PAUSE, ROLE, PAUSE, THOUGHT, PAUSE, Cut(cut))
    await proxy.start(providers=pair(upstream, spare))

    response = await ask(proxy)

    assert (response.status, response.header("x-provider")) == (200, "second")
    assert response.body.startswith(b'data: {"delta":"from"}\n\n')


@pytest.mark.parametrize("body", [b'{"choices":[null]}', b'{"choices":[{"message":{"content":""}}]}', b"<html>", b""])
async def test_whole_reply_with_nothing_in_it_is_made_good_by_another_provider(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider, body: bytes
) -> None:
    upstream.reply_raw(OK + JSON + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    await proxy.start(providers=pair(upstream, spare))

    response = await proxy.request("POST", "/", {"prompt": "Hello", "model": "fake-model"})

    assert (response.status, response.header("x-provider")) == (200, "second")
    assert b"from the spare" in response.body


async def test_stream_that_breaks_after_output_is_told_in_it(
    proxy: ProxyHarness, upstream: FakeProvider, spare: FakeProvider
) -> None:
    output = b'data: {"choices":[{"index":0,"delta":{"content":"One"}}]}\n\n'
    failure = b"data: " + ERROR + b"\n\n"
    length = len(ROLE + output + failure)
    upstream.reply_raw(OK + EVENTS + b"Content-Length: %d\r\n\r\n" % length, ROLE + output, PAUSE, failure)
    await proxy.start(providers=pair(upstream, spare))

    with pytest.raises(CutOff) as caught:
        await ask(proxy)

    assert caught.value.partial.startswith(b'data: {"delta":"One"}\n\nevent: error')
    assert spare.requests_seen == 0
