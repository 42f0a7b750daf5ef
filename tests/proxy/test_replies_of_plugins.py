"""What clients get of answers that plugins make: framing, and patience with those who do not read."""

import asyncio

import orjson

from proxy.testing import ProxyHarness, RawClient
from proxy.testing.raw_client import encode_request

PLUGINS = ["tests.proxy.replying"]
PROVIDERS = {"echo": {"type": "echo"}}
BODY = orjson.dumps({"model": "echo", "messages": []})


async def test_whole_reply_has_its_length_and_a_stream_goes_in_chunks(proxy: ProxyHarness) -> None:
    await proxy.start(providers=PROVIDERS, plugins=PLUGINS)

    whole = await proxy.request("POST", "/v1/chat/completions", BODY, {"X-Reply": "whole"})
    stream = await proxy.request("POST", "/v1/chat/completions", BODY, {"X-Reply": "stream"})

    assert (whole.body, whole.header("content-length")) == (b'{"a":1}', "7")
    assert (stream.body, stream.header("content-length"), stream.header("transfer-encoding")) == (
        b"data: 1\n\n",
        None,
        "chunked",
    )
    assert stream.header("x-accel-buffering") == "no"


async def test_reply_without_content_has_no_length(proxy: ProxyHarness) -> None:
    await proxy.start(providers=PROVIDERS, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        nothing = await client.request("POST", "/v1/chat/completions", BODY, {"X-Reply": "nothing"})
        after = await client.request("POST", "/v1/chat/completions", BODY, {"X-Reply": "whole"})

    assert (nothing.status, nothing.header("content-length"), nothing.body) == (204, None, b"")
    assert after.body == b'{"a":1}'


async def test_reply_to_head_has_its_length_and_no_body(proxy: ProxyHarness) -> None:
    await proxy.start(providers=PROVIDERS, plugins=PLUGINS)

    async with RawClient(proxy.url) as client:
        await client.send(encode_request("HEAD", "/v1/models", b"", {"X-Reply": "whole"}, host="127.0.0.1"))
        head = await client.read_response(is_head=True)
        after = await client.request("POST", "/v1/chat/completions", BODY, {"X-Reply": "whole"})

    assert (head.status, head.header("content-length")) == (200, "7")
    assert (after.status, after.body) == (200, b'{"a":1}')


async def test_client_that_asks_on_and_reads_nothing_fills_no_memory(proxy: ProxyHarness) -> None:
    await proxy.start(providers=PROVIDERS, plugins=PLUGINS, server={"writeTimeout": "1s"})
    once = encode_request("POST", "/v1/chat/completions", BODY, {"X-Reply": "large"}, host="127.0.0.1")

    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]), limit=1024)
    try:
        writer.write(once * 200)
        seen = 0
        for _ in range(20):
            await asyncio.sleep(0.02)
            seen = max(seen, *(buffered(each) for each in proxy.app._server.connections))
        await asyncio.sleep(1.2)
        data = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()

    assert seen < 2_000_000
    assert data.count(b"HTTP/1.1 200") < 200


def buffered(protocol: object) -> int:
    transport = protocol.transport  # type: ignore[attr-defined]
    return 0 if transport is None else transport.get_write_buffer_size()
