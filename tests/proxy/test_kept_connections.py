"""What a client's connection remembers of one request never decides about an unlike one."""

import asyncio
import gc
import os

from proxy.config.credentials import credentials
from proxy.config.loader import document_of
from proxy.reload.generation import Ingredients, build
from proxy.reload.prepare import prepare
from proxy.testing import FakeProvider, ProxyHarness, RawClient, encode_request
from proxy.upstream.response import Chunks

CHAT = "/v1/chat/completions"


def question(model: str = "m", **fields: object) -> bytes:
    extra = "".join(f',"{name}":{value}' for name, value in fields.items())
    return f'{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]{extra}}}'.encode()


async def test_foreign_host_is_refused_each_time(proxy: ProxyHarness) -> None:
    await proxy.start()

    async with RawClient(proxy.url) as client:
        refused = [(await client.request("POST", CHAT, question(), {"Host": "evil.test"})).status for _ in range(3)]
        allowed = await client.request("POST", CHAT, question())

    assert (refused, allowed.status) == ([403] * 3, 200)


async def test_clients_key_goes_only_where_each_request_lets_it(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    async with FakeProvider() as broken:
        broken.reply_status(503)
        await proxy.start(
            providers={"first": broken.provider(apiKey=""), "second": upstream.provider(apiKey="", priority=1)}
        )

        async with RawClient(proxy.url) as client:
            for model in ("second/m", "m", "second/m", "m"):
                await client.request("POST", CHAT, question(model), {"Authorization": "Bearer sk-mine"})

        keys = [one.header("authorization") for one in upstream.requests]
        assert keys == ["Bearer sk-mine", None, "Bearer sk-mine", None]
        assert [one.header("authorization") for one in broken.requests] == [None, None]


async def test_key_of_a_later_revision_is_sent_on_the_same_connection(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider(apiKey="sk-old")})
    pipeline = proxy.app.pipeline

    async with RawClient(proxy.url) as client:
        await client.request("POST", CHAT, question())
        old = pipeline.generation
        config = {"providers": {"vendor": upstream.provider(apiKey="sk-new")}}
        settings = prepare(document_of(config, os.environ, source="test"), {}).loaded.settings
        ingredients = Ingredients(credentials, lambda url, setting: None, proxy.app.metrics, lambda: 0.0)
        pipeline.generation = build(2, settings, old.host, ingredients)
        await client.request("POST", CHAT, question())
    await old.close()

    assert [one.header("authorization") for one in upstream.requests] == ["Bearer sk-old", "Bearer sk-new"]


async def test_method_of_each_request_is_its_own(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})

    async with RawClient(proxy.url) as client:
        for method in ("GET", "HEAD", "GET"):
            await client.request(method, "/v1/models/fake-model")

    assert [one.method for one in upstream.requests] == ["GET", "HEAD", "GET"]


async def test_raw_path_and_known_path_of_one_target_keep_their_own_headers(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    await proxy.start(providers={"vendor": upstream.provider()})

    async with RawClient(proxy.url) as client:
        for path in (CHAT, "/proxy/vendor/chat/completions", CHAT):
            await client.request("POST", path, question(), {"Accept-Encoding": "gzip"})

    assert {one.path for one in upstream.requests} == {CHAT}
    assert [one.header("accept-encoding") for one in upstream.requests] == ["identity", "gzip", "identity"]


async def test_request_that_comes_while_draining_is_refused_on_a_kept_connection_too(proxy: ProxyHarness) -> None:
    await proxy.start()
    request = encode_request("POST", CHAT, question(), host="localhost")

    async with RawClient(proxy.url) as client:
        await client.send(request)
        first = await client.read_response()
        await client.send(request[:20])
        await asyncio.sleep(0.05)  # the beginning has been read: the connection is not idle
        draining = asyncio.create_task(proxy.app.drain(5))
        await asyncio.sleep(0.01)
        await client.send(request[20:])
        second = await client.read_response()

    assert (first.status, second.status) == (200, 503)
    assert b'"code":"draining"' in second.body
    assert await draining


async def test_providers_cookies_pass_on_raw_paths_only(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 2\r\nset-cookie: b=2\r\n\r\n{}")
    await proxy.start(providers={"vendor": upstream.provider()})

    async with RawClient(proxy.url) as client:
        known = await client.request("POST", CHAT, question())
        raw = await client.request("POST", "/proxy/vendor/chat/completions", question())

    assert known.header("set-cookie") is None
    assert [value for name, value in raw.headers if name.lower() == "set-cookie"] == ["a=1", "b=2"]


async def test_idle_connection_keeps_little_however_long_its_requests_were(
    proxy: ProxyHarness, upstream: FakeProvider
) -> None:
    names = [f"p{number}" for number in range(8)]
    await proxy.start(providers={name: upstream.provider() for name in names})

    async with RawClient(proxy.url) as client:
        for name in names:
            await client.request("POST", f"{CHAT}?x={'y' * 15_000}", question(f"{name}/m"))
        (connection,) = proxy.app.connections
        assert connection.facts is not None
        kept = len(repr(connection.facts.written_heads))

    assert upstream.requests_seen == len(names)
    assert kept < 8 << 10


async def test_streams_leave_nothing_for_the_garbage_collector(proxy: ProxyHarness, upstream: FakeProvider) -> None:
    upstream.stream(["one", "two"])
    await proxy.start(providers={"vendor": upstream.provider()})

    gc.collect()
    gc.disable()
    try:
        async with RawClient(proxy.url) as client:
            for _ in range(5):
                await client.request("POST", CHAT, question(stream="true"))
        left = [one for one in gc.get_objects() if isinstance(one, Chunks)]
    finally:
        gc.enable()

    assert left == []
