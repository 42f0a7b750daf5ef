"""Request bodies: large, too large, declared or chunked, forms, raw bytes, and JSON that is none."""

import asyncio
import hashlib
from typing import Any

import orjson
import pytest

from proxy.testing import FakeProvider, ProxyProcess, RawClient, encode_request
from tests.e2e.rig import CALLS, KEYS, ask, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENT_MAX_BYTES = 32 << 20
CHAT = "/v1/chat/completions"
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=frontier"}


def form(model: str, file: bytes, *, is_model_first: bool) -> bytes:
    fields = [
        b'--frontier\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % model.encode(),
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n%b\r\n" % file,
    ]
    return b"".join(fields if is_model_first else reversed(fields)) + b"--frontier--\r\n"


def code_of(body: bytes) -> str:
    return str(orjson.loads(body)["error"]["code"])


async def test_ten_megabytes_of_json_arrive_byte_for_byte(relay: ProxyProcess, upstream: FakeProvider) -> None:
    text = "".join(chr(0x20 + n % 0x50) for n in range(10 << 20)).replace("\\", "/").replace('"', "'")
    body = CALLS["openai"].body(messages=[{"role": "user", "content": text}])

    response = await ask(relay, "POST", CHAT, body)

    assert len(body) > 10 << 20
    assert response.status == 200
    assert hashlib.sha256(upstream.last_request.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("target", [CHAT, "/proxy/rerank/x", "/v1/files", "/"])
async def test_body_declared_too_large_is_refused_before_any_of_it_is_sent(
    relay: ProxyProcess, upstream: FakeProvider, target: str
) -> None:
    headers = {"Content-Length": str(CLIENT_MAX_BYTES + 1), "Content-Type": "application/json"}

    async with RawClient(relay.url) as client:
        await client.send(encode_request("POST", target, None, headers, host=f"127.0.0.1:{relay.port}"))
        response = await client.read_response()
        client.half_close()
        rest = await client.read_until_closed()

    assert (response.status, code_of(response.body)) == (413, "body_too_large")
    assert (rest, upstream.requests_seen) == (b"", 0)


@pytest.mark.parametrize("target", [CHAT, "/proxy/rerank/x"])
async def test_endless_chunked_body_is_cut_at_the_limit(
    relay: ProxyProcess, upstream: FakeProvider, target: str
) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0

    async with RawClient(relay.url) as client:
        await client.send(encode_request("POST", target, None, headers, host=f"127.0.0.1:{relay.port}"))
        try:
            while sent <= CLIENT_MAX_BYTES + (20 << 20):  # beyond the limit: what kernel buffers hold
                await client.send(block)
                sent += 0x10000
            client.half_close()
        except (OSError, TimeoutError):
            pass  # refused while it was sending
        answer = await client.read_until_closed()

    assert sent >= CLIENT_MAX_BYTES - (1 << 20)
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    assert all(not seen.is_complete for seen in upstream.requests)
    await until_idle(relay)


@pytest.mark.parametrize("target", [CHAT, "/proxy/rerank/x"])
async def test_client_that_waits_for_100_continue_gets_it(
    relay: ProxyProcess, upstream: FakeProvider, target: str
) -> None:
    body = CALLS["openai"].body()
    headers = {"Expect": "100-continue", "Content-Length": str(len(body)), "Content-Type": "application/json"}
    upstream.reply_status(200, {"fine": True})

    async with RawClient(relay.url) as client:
        await client.send(encode_request("POST", target, None, headers, host=f"127.0.0.1:{relay.port}"))
        interim = await client.read_head()
        await client.send(body)
        response = await client.read_response()

    assert (interim.status, interim.headers) == (100, [])
    assert (response.status, bytes(upstream.last_request.body)) == (200, body)
    assert upstream.last_request.header("expect") is None


async def test_client_that_waits_for_100_continue_with_too_much_gets_413_instead(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    headers = {"Expect": "100-continue", "Content-Length": str(1 << 40)}

    async with RawClient(relay.url) as client:
        await client.send(encode_request("POST", CHAT, None, headers, host=f"127.0.0.1:{relay.port}"))
        first = await client.read_head()

    assert first.status == 413


@pytest.mark.parametrize("is_model_first", [True, False])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_form_goes_verbatim_to_the_provider_of_its_model(
    relay: ProxyProcess, upstream: FakeProvider, is_model_first: bool, is_chunked: bool
) -> None:
    file = bytes(range(256)) * 40
    body = form("open-gpt-whisper", file, is_model_first=is_model_first)
    upstream.reply_status(200, {"text": "hi"})
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    framing = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(len(body))}
    headers = {**FORM_TYPE, **framing, "Authorization": "Bearer client-key"}

    async with RawClient(relay.url) as client:
        host = f"127.0.0.1:{relay.port}"
        await client.send(encode_request("POST", "/v1/audio/transcriptions", None, headers, host=host) + sent)
        response = await client.read_response()

    seen = upstream.last_request
    assert (response.status, response.json()) == (200, {"text": "hi"})
    assert (seen.path, bytes(seen.body)) == ("/v1/audio/transcriptions", body)
    assert seen.header("content-type") == FORM_TYPE["Content-Type"]
    assert seen.header("authorization") == "Bearer client-key"  # the keyless provider, not the first one


async def test_form_of_a_model_nobody_has_is_refused(relay: ProxyProcess, upstream: FakeProvider) -> None:
    body = form("nobodys-model", b"x", is_model_first=True)

    response = await ask(relay, "POST", "/v1/audio/transcriptions", body, FORM_TYPE)

    assert (response.status, code_of(response.body), upstream.requests_seen) == (404, "model_not_found", 0)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
async def test_named_provider_is_asked_by_any_method_with_query_and_binary_body(
    relay: ProxyProcess, upstream: FakeProvider, method: str
) -> None:
    has_body = method in ("POST", "PUT", "PATCH", "DELETE")
    body = bytes(range(256)) if has_body else None
    upstream.reply_status(207, b"\x00\xff" * 10, {"X-Vendor": "kept", "Content-Type": "application/octet-stream"})

    target = "/proxy/rerank/a%2Fb//c;d=1?x=1&x=%20%26&key=own&y"
    response = await ask(relay, method, target, body, {"Content-Type": "application/octet-stream"})

    seen = upstream.last_request
    assert (seen.method, seen.path) == (method, "/rerank/a%2Fb//c;d=1")
    assert seen.query == "x=1&x=%20%26&key=own&y"
    assert bytes(seen.body) == (body or b"")
    assert seen.header("authorization") == f"Bearer {KEYS['rerank']}"
    assert (response.status, response.header("x-vendor")) == (207, "kept")
    assert response.body == (b"" if method == "HEAD" else b"\x00\xff" * 10)


async def test_other_openai_paths_are_relayed_whatever_they_are(relay: ProxyProcess, upstream: FakeProvider) -> None:
    upstream.reply_status(200, {"deleted": True})

    response = await ask(relay, "DELETE", "/v1/files/file-1?x=1")

    seen = upstream.last_request
    assert (response.status, seen.method, seen.path, seen.query) == (200, "DELETE", "/v1/files/file-1", "x=1")
    assert seen.header("authorization") == f"Bearer {KEYS['openai']}"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"model": "gpt-4o",\n "messages": [}', "line 2, column 15"),
        (b'{"model": "gpt-4o"', "column 19"),
        (b"", ""),
        (b"[1, 2]", ""),
        (b'"text"', ""),
        (b'{"model": NaN}', "column 11"),
        (b'\xef\xbb\xbf{"model": "gpt-4o"}', ""),
        (b'{"model": "gpt-4o", "messages": ["\xff\xfe"]}', ""),
        (b'{"model": "gpt-4o", "messages": [], "user": "\\ud800"}', ""),
        (b'{"messages": []}', "model"),
        (b'{"model": 5, "messages": []}', "model"),
        (b'{"model": "gpt-4o", "stream": "yes"}', "stream"),
    ],
)
async def test_malformed_json_is_refused_with_its_place(
    relay: ProxyProcess, upstream: FakeProvider, body: bytes, place: str
) -> None:
    response = await ask(relay, "POST", CHAT, body)

    assert response.status == 400, response.text
    assert place in response.text
    assert upstream.requests_seen == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "gpt-4o", "model": "open-gpt-1", "messages": []}',
        b'{"model": "gpt-4o", "\\u006dodel": "open-gpt-1", "messages": []}',
        b'{"mod\\u0065l": "gpt-4o", "messages": [], "model": "gpt-4o"}',
    ],
)
async def test_second_model_key_is_refused_however_it_is_written(
    relay: ProxyProcess, upstream: FakeProvider, body: bytes
) -> None:
    response = await ask(relay, "POST", CHAT, body)

    assert (response.status, upstream.requests_seen) == (400, 0)
    assert "model" in response.text


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"model": "gpt-4o", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
        b'{"model": "gpt-4o", "n": ' + b"1" * 1_000_000 + b"}",
        b'{"model": "gpt-4o", ' + b", ".join(b'"k%d": 0' % n for n in range(300_000)) + b"}",
    ],
    ids=["open", "balanced", "objects", "digits", "keys"],
)
async def test_deep_and_wide_json_hurts_nobody(relay: ProxyProcess, upstream: FakeProvider, body: bytes) -> None:
    response, health = await asyncio.gather(ask(relay, "POST", CHAT, body), ask(relay, "GET", "/livez"))

    assert response.status in (200, 400)
    assert health.status == 200
    assert all(bytes(seen.body) == body for seen in upstream.requests)


async def test_json_of_another_content_type_still_chooses_its_provider(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    response = await ask(relay, "POST", CHAT, CALLS["openai"].body(), {"Content-Type": "text/plain"})

    assert (response.status, upstream.last_request.header("content-type")) == (200, "text/plain")


async def test_reply_that_comes_before_the_upload_ends_reaches_the_client(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    upstream.answers_before_body = True
    error: Any = {"error": {"message": "too much for us"}}
    upstream.reply_status(413, error)

    async with RawClient(relay.url) as client:
        headers = {"Content-Length": str(10 << 20)}
        host = f"127.0.0.1:{relay.port}"
        await client.send(encode_request("POST", "/proxy/rerank/x", None, headers, host=host) + b"x" * 65536)
        response = await client.read_response()

    assert (response.status, response.json()) == (413, error)
    await until_idle(relay)
