"""The loop over a connection's requests: as aiohttp's own, but in the connection's task."""

import asyncio
import gc
import inspect
from hashlib import sha256
from weakref import ReferenceType, ref

import pytest
from aiohttp import StreamReader, web

from proxy.server.connection import ServerProtocol
from proxy.server.serving import KEEP_ALIVE
from proxy.testing import CutOff, RawClient
from tests.proxy.server.served import OK, serving, writing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

MADE_FROM = {
    "start": "2e565fd40c8e04fb",
    "_handle_request": "a88a34ee65a2714c",
    "finish_response": "b7eb53db8f4b30ca",
    "_process_keepalive": "b472e0fb8445ce42",
    "connection_lost": "df2fe6e95fd04c7c",
    "shutdown": "5eb4bd473db61e84",
    "data_received": "1ee57ebe052e6c80",
    "close": "84518f965e198ee3",
    "force_close": "38d0e1e798e4d3b7",
    "BaseRequest": "dae5bbed7d90f1dd",
    "StreamReader": "64f76413d16e4765",
}
"""Digests of what `RequestLoop` and `WholeBody` stand in for or rely on in aiohttp.

Where one differs, read the new source first.
"""


def test_what_the_loop_was_made_from_is_still_what_aiohttp_does() -> None:
    of_others = {
        "BaseRequest": inspect.getsource(web.BaseRequest.__init__),
        "StreamReader": inspect.getsource(StreamReader),
    }
    of_connections = {
        name: inspect.getsource(getattr(web.RequestHandler, name)) for name in MADE_FROM if name not in of_others
    }

    found = {name: sha256(text.encode()).hexdigest()[:16] for name, text in (of_connections | of_others).items()}

    assert found == MADE_FROM


async def goes_on(client: RawClient) -> bool:
    """Ask once more; whether that is answered, rather than the connection closed."""
    async with asyncio.timeout(5):
        try:
            await client.send(GET)
            return (await client.read_response()).status == 200
        except (OSError, CutOff):
            return False


async def test_requests_of_a_connection_run_in_its_one_task() -> None:
    tasks: list[object] = []

    async with (
        serving(writing(lambda _: tasks.append(asyncio.current_task()))) as (_, url),
        RawClient(url) as client,
    ):
        replies = [await client.request("GET", "/") for _ in range(3)]

    assert [each.body for each in replies] == [b"ok"] * 3
    assert (len(tasks), len(set(tasks))) == (3, 1)


async def test_pipelined_requests_are_answered_in_order_also_more_than_are_read_ahead() -> None:
    seen: list[str] = []

    async with (
        serving(writing(lambda request: seen.append(request.path))) as (_, url),
        RawClient(url) as client,
    ):
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(300)))
        replies = [await client.read_response() for _ in range(300)]

    assert {each.status for each in replies} == {200}
    assert seen == [f"/{number}" for number in range(300)]


async def test_lots_of_requests_on_a_kept_connection_are_all_answered() -> None:
    async with serving(writing(lambda _: None)) as (_, url), RawClient(url) as client:
        for _ in range(20):
            await client.send(GET * 10)
            replies = [await client.read_response() for _ in range(10)]

    assert [each.body for each in replies] == [b"ok"] * 10


async def test_connection_in_use_is_kept_beyond_the_time_of_an_idle_one() -> None:
    async with serving(writing(lambda _: None), keep_alive_s=0.3) as (_, url), RawClient(url) as client:
        for _ in range(8):
            reply = await client.request("GET", "/")
            await asyncio.sleep(0.1)

    assert reply.body == b"ok"


@pytest.mark.parametrize(("version", "header", "is_kept"), [
    ("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "", False)
])  # fmt: skip
async def test_request_says_whether_its_connection_may_go_on(version: str, header: str, is_kept: bool) -> None:
    said: list[bool] = []

    async with serving(writing(lambda request: said.append(request.keep_alive))) as (_, url), RawClient(url) as client:
        await client.send(f"GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n".encode())
        await client.read_response()

    assert said == [is_kept]


async def test_all_of_a_request_is_there_for_who_asks() -> None:
    found: list[object] = []

    def look(request: web.BaseRequest) -> None:
        found.extend((request.path, dict(request.query), request.headers["X-A"], request.remote, request.can_read_body))
        with pytest.raises(AttributeError):
            request.nonsense  # type: ignore[attr-defined]  # noqa: B018 (asked for, not used)

    async with serving(writing(look)) as (_, url), RawClient(url) as client:
        reply = await client.request("GET", "/a?b=c", headers={"X-A": "d"})

    assert reply.status == 200
    assert found == ["/a", {"b": "c"}, "d", "127.0.0.1", False]


async def test_answer_made_by_aiohttp_is_sent_by_it() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=request.path)

    async with serving(handle) as (_, url), RawClient(url) as client:
        replies = [await client.request("GET", path) for path in ("/a", "/b")]

    assert [each.text for each in replies] == ["/a", "/b"]


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("ours"), 500), (TimeoutError(), 504)])
async def test_what_a_handler_raises_is_put_into_words_and_ends_the_connection(error: Exception, status: int) -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        raise error

    async with serving(handle) as (_, url), RawClient(url) as client:
        reply = await client.request("GET", "/")
        rest = await client.read_until_closed()

    assert (reply.status, b"ours" in reply.body, rest) == (status, False, b"")


async def test_what_a_handler_raises_after_its_response_has_begun_closes_the_connection() -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, ServerProtocol)
        assert request.transport is not None
        request.protocol.has_begun = True
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        raise RuntimeError("late")

    async with serving(handle) as (_, url), RawClient(url) as client:
        await client.send(GET)
        async with asyncio.timeout(5):
            got = await client.read_until_closed()

    assert got.endswith(b"\r\n\r\nhalf")


async def test_request_whose_handler_raised_is_freed_without_the_garbage_collector() -> None:
    requests: list[ReferenceType[web.BaseRequest]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        requests.append(ref(request))
        raise RuntimeError

    gc.collect()
    gc.disable()
    try:
        async with serving(handle) as (_, url), RawClient(url) as client:
            await client.send(GET)
            await client.read_until_closed()
        assert [each() for each in requests] == [None]
    finally:
        gc.enable()


async def test_lost_connection_that_a_handler_notices_ends_without_an_answer() -> None:
    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        raise ConnectionResetError

    async with serving(handle) as (_, url), RawClient(url) as client:
        await client.send(GET)
        got = await client.read_until_closed()

    assert got == b""


@pytest.mark.parametrize("is_read", [False, True])
async def test_connection_whose_request_was_not_read_to_its_end_is_not_used_again(is_read: bool) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if is_read:
            await request.read()
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    async with serving(handle) as (_, url), RawClient(url) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        if is_read:
            await client.send(b"+half")
        reply = await client.read_response()
        is_kept = await goes_on(client)

    assert (reply.body, is_kept) == (b"ok", is_read)


async def test_who_still_reads_a_request_that_was_answered_hears_that_no_more_comes() -> None:
    reading: list[asyncio.Task[bytes]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        reading.append(asyncio.create_task(request.content.read()))
        await asyncio.sleep(0)
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    async with serving(handle) as (_, url), RawClient(url) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        await client.read_response()
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionResetError):
                await reading[0]


@pytest.mark.parametrize("may_go_on", [False, True])
async def test_answer_says_whether_the_connection_goes_on(may_go_on: bool) -> None:
    async with serving(writing(lambda _: None, goes_on=may_go_on)) as (_, url), RawClient(url) as client:
        await client.request("GET", "/")
        is_kept = await goes_on(client)

    assert is_kept is may_go_on


async def test_connection_that_asks_no_more_is_closed_after_its_time() -> None:
    async with serving(writing(lambda _: None), keep_alive_s=0.1) as (_, url), RawClient(url) as client:
        await client.request("GET", "/")
        async with asyncio.timeout(5):
            rest = await client.read_until_closed()

    assert rest == b""


async def test_wish_to_speak_another_protocol_is_answered_like_any_other_request() -> None:
    upgrade = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    seen: list[str] = []

    async with (
        serving(writing(lambda request: seen.append(request.path))) as (_, url),
        RawClient(url) as client,
    ):
        first = await client.request("GET", "/first")
        await client.send(upgrade)
        reply = await client.read_response()
        await client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        after = await client.read_response()

    assert [each.status for each in (first, reply, after)] == [200] * 3
    assert seen == ["/first", "/a", "/b"]


async def test_what_cannot_be_parsed_after_a_good_request_is_refused() -> None:
    async with serving(writing(lambda _: None)) as (_, url), RawClient(url) as client:
        await client.request("GET", "/")
        await client.send(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        reply = await client.read_response()
        rest = await client.read_until_closed()

    assert (reply.status, rest) == (400, b"")


async def test_stop_waits_for_the_request_in_work() -> None:
    gate, has_begun = asyncio.Event(), asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        has_begun.set()
        await gate.wait()
        assert request.transport is not None
        request.transport.write(OK)
        return KEEP_ALIVE

    async with serving(handle) as (manager, url), RawClient(url) as client:
        await client.send(GET)
        await has_begun.wait()
        stopping = asyncio.create_task(manager.shutdown(5))
        await asyncio.sleep(0.05)
        is_waiting = not stopping.done()
        gate.set()
        reply = await client.read_response()
        await stopping

    assert (is_waiting, reply.body) == (True, b"ok")


@pytest.mark.parametrize("target", ["/", "http://xn--/"])
async def test_client_that_leaves_cancels_its_request(target: str) -> None:
    has_begun, is_cancelled = asyncio.Event(), asyncio.Event()

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise
        return KEEP_ALIVE

    async with serving(handle) as (_, url):
        async with RawClient(url) as client:
            await client.send(f"GET {target} HTTP/1.1\r\nHost: xn--\r\n\r\n".encode())
            await has_begun.wait()
        async with asyncio.timeout(5):
            await is_cancelled.wait()
