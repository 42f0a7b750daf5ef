"""What clients do that is neither a request nor its end: preflights, reading nothing, leaving in the middle."""

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyHarness, RawClient, encode_request
from tests.e2e.rig import until

CHAT = "/v1/chat/completions"
PAGE = "https://app.example"


@pytest.mark.parametrize("allowed", [PAGE, "*", PAGE.upper()])
async def test_preflight_of_an_allowed_page_is_answered_and_so_is_its_call(proxy: ProxyHarness, allowed: str) -> None:
    await proxy.start(server={"allowedOrigins": [allowed]})
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}

    preflight = await proxy.request("OPTIONS", CHAT, headers=asked)
    call = await proxy.request("POST", CHAT, body, {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"})

    assert preflight.status == 204
    told = {name: preflight.header(f"Access-Control-Allow-{name}") for name in ("Origin", "Headers", "Methods")}
    assert told == {"Origin": PAGE, "Headers": "x-api-key", "Methods": "GET, POST, PUT, PATCH, DELETE"}
    assert (preflight.header("Access-Control-Max-Age"), preflight.header("Vary")) == ("600", "Origin")
    assert (call.status, call.header("Access-Control-Allow-Origin"), call.header("Vary")) == (200, PAGE, "Origin")


async def test_client_that_reads_nothing_is_dropped_after_the_write_timeout(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    size = 64 << 20
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    await proxy.start(providers={"vendor": upstream.provider()}, server={"writeTimeout": "200ms"})
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", CHAT, body, host="localhost"))
        await upstream.wait_for_request()
        await until(lambda: not proxy.app.pipeline.in_flight and not proxy.app.connections, "the client is dropped")
        got = await client.read_until_closed()

    assert len(got) < size
    assert (proxy.app.pipeline.slots.in_use, upstream.connections_open) == (0, 0)


async def test_form_without_a_length_is_refused_when_its_beginning_is_already_too_large(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()}, server={"clientMaxSize": "1KB"})
    fields = {"Content-Type": "multipart/form-data; boundary=b", "Transfer-Encoding": "chunked"}

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("POST", "/v1/audio/transcriptions", None, fields, host="localhost"))
        await client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (3000, b"--b\r\n" + b"x" * 2995))
        response = await client.read_response()

    assert (response.status, orjson.loads(response.body)["error"]["code"]) == (413, "body_too_large")
    assert upstream.requests_seen == 0


async def test_request_whose_client_leaves_within_its_body_is_counted_once_as_499(proxy: ProxyHarness) -> None:
    await proxy.start()

    async with RawClient(proxy.url) as client:
        head = encode_request("POST", CHAT, None, {"Content-Length": "100"}, host="localhost")
        await client.send(head + b'{"model":')
    await until(lambda: not proxy.app.connections, "the client has left")
    metrics = await proxy.request("GET", "/metrics")

    assert 'proxy_http_requests_total{method="POST",route="openai.chat",status="499"} 1.0' in metrics.text
    assert await proxy.app.drain(1)
