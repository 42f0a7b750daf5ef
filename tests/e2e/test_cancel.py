"""A client that leaves ends the provider's work, in every phase and however it leaves."""

import asyncio
import time
from pathlib import Path
from typing import Literal

import pytest

from proxy.testing import FakeProvider, Faults, ProxyProcess, RawClient, Stall, encode_request
from tests.e2e.rig import CALLS, STREAMS, Call, health, until, until_idle

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT_S = 0.25
FORMATS = ["openai", "responses", "anthropic", "gemini", "ollama"]
Leaving = Literal["fin", "rst"]


def leave(client: RawClient, kind: Leaving) -> float:
    """Leave, and say when."""
    client.close() if kind == "fin" else client.reset()
    return time.monotonic()


async def send(client: RawClient, proxy: ProxyProcess, call: Call) -> None:
    await client.send(encode_request("POST", call.path, call.body(), call.headers, host=f"127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize("kind", ["fin", "rst"])
@pytest.mark.parametrize("format", FORMATS)
async def test_leaving_before_the_first_byte_of_a_stream_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider, format: str, kind: Leaving
) -> None:
    upstream.stream(["never"], faults=Faults(never_answer=True))

    async with RawClient(relay.url) as client:
        await send(client, relay, STREAMS[format])
        await upstream.wait_for_request()
        left_s = leave(client, kind)
        seen_s = await upstream.wait_for_disconnect()

    assert seen_s - left_s <= LIMIT_S
    await until_idle(relay)


@pytest.mark.parametrize("kind", ["fin", "rst"])
@pytest.mark.parametrize("format", FORMATS)
async def test_leaving_in_the_middle_of_a_stream_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider, format: str, kind: Leaving
) -> None:
    gate = asyncio.Event()  # never set
    upstream.stream(["first", "second"], gate=gate)

    async with RawClient(relay.url) as client:
        await send(client, relay, STREAMS[format])
        response = await client.read_head()
        while b"first" not in response.body:
            assert await client.read_part(response)
        left_s = leave(client, kind)
        seen_s = await upstream.wait_for_disconnect()

    assert seen_s - left_s <= LIMIT_S
    await until_idle(relay)


@pytest.mark.parametrize("kind", ["fin", "rst"])
@pytest.mark.parametrize("format", FORMATS)
async def test_leaving_a_call_that_is_no_stream_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider, format: str, kind: Leaving
) -> None:
    upstream.reply("never", faults=Faults(never_answer=True))

    async with RawClient(relay.url) as client:
        await send(client, relay, CALLS[format])
        await upstream.wait_for_request()
        left_s = leave(client, kind)
        seen_s = await upstream.wait_for_disconnect()

    assert seen_s - left_s <= LIMIT_S
    await until_idle(relay)


@pytest.mark.parametrize("kind", ["fin", "rst"])
async def test_leaving_in_the_middle_of_a_reply_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider, kind: Leaving
) -> None:
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", Stall())

    async with RawClient(relay.url) as client:
        await send(client, relay, CALLS["openai"])
        response = await client.read_head()
        await client.read_part(response)
        left_s = leave(client, kind)
        seen_s = await upstream.wait_for_disconnect()

    assert seen_s - left_s <= LIMIT_S
    await until_idle(relay)


@pytest.mark.parametrize("kind", ["fin", "rst"])
@pytest.mark.parametrize("framing", [{"Content-Length": str(30 << 20)}, {"Transfer-Encoding": "chunked"}])
async def test_leaving_while_the_upload_is_stalled_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider, kind: Leaving, framing: dict[str, str]
) -> None:
    block = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"  # a chunk, or part of a body of that length
    target = "/proxy/rerank/upload"

    async with RawClient(relay.url) as client:
        await client.send(encode_request("POST", target, None, framing, host=f"127.0.0.1:{relay.port}"))
        await upstream.wait_for_request(is_complete=False)
        upstream.pause_reading()
        while not await is_unread(relay.port, client.port):
            await client.send(block)
        left_s = leave(client, kind)
        await until_idle(relay, 2.0)
        idle_s = time.monotonic()
        upstream.resume_reading()  # a paused reader does not see its peer leave
        await upstream.wait_for_disconnect()

    assert idle_s - left_s <= LIMIT_S
    assert not upstream.last_request.is_complete


async def is_unread(server_port: int, client_port: int) -> bool:
    """Tell from the kernel's list whether a server has stopped reading: the same bytes wait in its socket for 30 ms.

    Not more is sent than that: behind a full receive window, a FIN would not even reach the server's machine.
    """
    ends = (f"0100007F:{server_port:04X}", f"0100007F:{client_port:04X}")

    def waiting() -> int:
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        return next((int(row[4].partition(":")[2], 16) for row in rows if (row[1], row[2]) == ends), 0)

    first = waiting()
    if not first:
        return False
    await asyncio.sleep(0.03)
    return waiting() == first


async def test_leaving_while_the_upload_is_still_coming_ends_the_providers_work(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    async with RawClient(relay.url) as client:
        head = {"Content-Length": "1000"}
        await client.send(
            encode_request("POST", "/proxy/rerank/upload", None, head, host=f"127.0.0.1:{relay.port}") + b"x" * 10
        )
        await upstream.wait_for_request(is_complete=False)
        left_s = leave(client, "fin")
        seen_s = await upstream.wait_for_disconnect()

    assert seen_s - left_s <= LIMIT_S
    await until_idle(relay)


async def test_fifty_clients_that_leave_at_once_leave_nothing_behind(
    relay: ProxyProcess, upstream: FakeProvider
) -> None:
    upstream.stream(["never"], faults=Faults(never_answer=True))
    clients = [RawClient(relay.url) for _ in range(50)]
    for client in clients:
        await client.__aenter__()
        await send(client, relay, STREAMS["openai"])

    async def all_in_flight() -> bool:
        return (await health(relay))["requestsInFlight"] == 50

    await until(all_in_flight, "50 requests in flight")
    await upstream.wait_for_request(50)

    for number, client in enumerate(clients):
        leave(client, "fin" if number % 2 else "rst")

    await upstream.wait_for_disconnect(count=50)
    await until_idle(relay)
    assert (await health(relay))["requestsQueued"] == 0
