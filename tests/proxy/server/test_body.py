"""Request bodies: limits, deadlines, `Expect`, and streaming on."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol

from proxy.errors import BodyTooLarge, ClientTimeout, MalformedHttp
from proxy.server.body import CONTINUE, ClientUpload, admit, collect

LIMIT = 100


class Wire:
    """A request whose body is fed by hand."""

    def __init__(self, version: tuple[int, int] = (1, 1)) -> None:
        self.written = b""
        self.is_closing = False
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.connection_made(asyncio.Transport())
        self.content = StreamReader(protocol, 1 << 20, loop=loop)
        transport = SimpleNamespace(
            write=self._write, is_closing=lambda: self.is_closing, get_extra_info=lambda name: None
        )
        plain = SimpleNamespace(content=self.content, transport=transport, version=version)
        self.request = cast(web.BaseRequest, plain)

    def _write(self, data: bytes) -> None:
        self.written += data

    def feed(self, *parts: bytes, end: bool = True) -> "Wire":
        for part in parts:
            self.content.feed_data(part)
        if end:
            self.content.feed_eof()
        return self

    def upload(self, first: bytes = b"", length: int | None = None, idle_s: float = 60) -> ClientUpload:
        return ClientUpload(self.request, first=first, length=length, limit_bytes=LIMIT, idle_s=idle_s)


# -- admitting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "length"), [(b"0", 0), (b"100", 100), (None, None)])
async def test_body_within_the_limit_is_admitted(declared: bytes | None, length: int | None) -> None:
    fields = {} if declared is None else {b"content-length": declared}

    assert admit(Wire().request, fields, LIMIT) == length


async def test_body_declared_above_the_limit_is_refused_without_being_asked_for() -> None:
    wire = Wire()

    with pytest.raises(BodyTooLarge, match=r"101 bytes.*100") as raised:
        admit(wire.request, {b"content-length": b"101", b"expect": b"100-continue"}, LIMIT)

    assert (raised.value.status, wire.written) == (413, b"")


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
async def test_client_that_waits_for_a_word_gets_it(value: bytes) -> None:
    wire = Wire()

    admit(wire.request, {b"content-length": b"5", b"expect": value}, LIMIT)

    assert wire.written == CONTINUE


@pytest.mark.parametrize("fields", [{}, {b"expect": b"something"}])
async def test_client_that_waits_for_nothing_gets_nothing(fields: dict[bytes, bytes]) -> None:
    wire = Wire()

    admit(wire.request, fields, LIMIT)

    assert wire.written == b""


async def test_http_1_0_client_is_never_sent_an_interim_reply() -> None:
    wire = Wire(version=(1, 0))

    admit(wire.request, {b"content-length": b"5", b"expect": b"100-continue"}, LIMIT)

    assert wire.written == b""


# -- collecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [(), (b"x" * 100,), (b"a", b"b", b"c")])
async def test_body_up_to_the_limit_is_collected(parts: tuple[bytes, ...]) -> None:
    wire = Wire().feed(*parts)

    assert await collect(wire.content, LIMIT, 60) == b"".join(parts)


async def test_body_above_the_limit_is_refused_before_its_end() -> None:
    wire = Wire().feed(b"x" * 60, b"x" * 60, end=False)

    with pytest.raises(BodyTooLarge):
        await collect(wire.content, LIMIT, 60)


async def test_body_that_arrives_late_is_waited_for() -> None:
    wire = Wire()
    collecting = asyncio.ensure_future(collect(wire.content, LIMIT, 60))
    await asyncio.sleep(0)

    wire.feed(b"late")

    assert await collecting == b"late"


async def test_silent_client_is_timed_out() -> None:
    wire = Wire().feed(b"half", end=False)

    with pytest.raises(ClientTimeout) as raised:
        await collect(wire.content, LIMIT, 0.001)
    assert raised.value.status == 408


@pytest.mark.parametrize("error", [web.RequestPayloadError("bad chunk"), web.PayloadAccessError()])
async def test_broken_framing_is_the_clients_fault(error: Exception) -> None:
    wire = Wire().feed(b"half", end=False)
    wire.content.set_exception(error)

    with pytest.raises(MalformedHttp) as raised:
        await collect(wire.content, LIMIT, 60)
    assert raised.value.status == 400


# -- streaming on ---------------------------------------------------------------------------------------------------


async def test_upload_gives_what_was_read_and_then_what_comes() -> None:
    upload = Wire().feed(b"two", b"three").upload(first=b"one", length=11)

    parts = [part async for part in upload]

    assert (b"".join(parts), upload.length) == (b"onetwothree", 11)
    assert b"" not in parts


async def test_upload_without_a_length_is_cut_at_the_limit() -> None:
    upload = Wire().feed(b"x" * 60, end=False).upload(first=b"x" * 60)
    parts: list[bytes] = []

    async def take() -> None:
        async for part in upload:
            parts.append(part)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(BodyTooLarge):
        await take()
    assert sum(map(len, parts)) <= LIMIT


async def test_stalled_upload_is_timed_out() -> None:
    upload = Wire().upload(idle_s=0.001)

    with pytest.raises(ClientTimeout):
        [part async for part in upload]


async def test_upload_knows_when_its_client_has_left() -> None:
    wire = Wire()
    upload = wire.upload()

    before = upload.is_client_gone()
    wire.is_closing = True

    assert (before, upload.is_client_gone()) == (False, True)
