"""Answers that no server should give, and that the fake provider gives to order."""

import asyncio

import orjson
import pytest

from proxy.testing import FakeProvider, Faults, HalfClose, RawClient, encode_request

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[]}'
STREAM_BODY = b'{"model":"m","messages":[],"stream":true}'
EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize(("body", "is_chunked"), [(BODY, False), (BODY, True), (STREAM_BODY, True)])
async def test_second_response_may_follow_in_the_same_write(
    upstream: FakeProvider, body: bytes, is_chunked: bool
) -> None:
    upstream.reply("Paris", is_chunked=is_chunked, faults=Faults(bytes_after=EXTRA))

    async with RawClient(upstream.url) as client:
        first = await client.request("POST", CHAT, body)
        at_once = await asyncio.wait_for(client.read_response(), 0.05)

    assert b"Paris" in first.body
    assert at_once.body == b"poison"


@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (204, "GET"), (304, "GET")])
async def test_body_may_come_where_there_is_none(upstream: FakeProvider, status: int, method: str) -> None:
    upstream.reply_status(status, faults=Faults(bytes_after=b"body"))

    async with RawClient(upstream.url) as client:
        response = await client.request(method, "/x")
        rest, _ = await client.read_ending(0.05)

    assert (response.status, rest) == (status, b"body")


async def test_interim_response_may_come_before_the_answer(upstream: FakeProvider) -> None:
    upstream.reply("Paris", faults=Faults(bytes_before=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"))

    async with RawClient(upstream.url) as client:
        await client.send(encode_request("POST", CHAT, BODY, host="fake"))
        interim, final = await client.read_head(), await client.read_response()

    assert (interim.status, interim.header("link"), final.status) == (103, "</x>", 200)


@pytest.mark.parametrize(
    ("faults", "line_end"),
    [
        (Faults(data_lines=True), b"\n"),
        (Faults(data_lines=True, crlf=True), b"\r\n"),
        (Faults(cr=True), b"\r"),
        (Faults(cr=True, comments=True, data_lines=True), b"\r"),
    ],
)
async def test_events_are_spread_over_lines_of_any_end(upstream: FakeProvider, faults: Faults, line_end: bytes) -> None:
    upstream.stream(["Zür", "ich"], faults=faults)

    async with RawClient(upstream.url) as client:
        body = (await client.request("POST", CHAT, STREAM_BODY)).body

    assert b"\n" not in body.replace(line_end, b"")
    events = [event.split(line_end) for event in body.split(line_end * 2)]
    data = [b"".join(line[6:] for line in event if line.startswith(b"data: ")) for event in events]
    documents = [orjson.loads(each) for each in data if each.startswith(b"{")]
    texts = [choice["delta"].get("content") for each in documents for choice in each["choices"]]
    assert "".join(text or "" for text in texts) == "Zürich"
    if faults.data_lines:
        assert body.count(b"data: ") == 2 * len(documents) + 1  # [DONE]


async def test_answer_comes_within_the_upload_and_the_rest_is_read(upstream: FakeProvider) -> None:
    upstream.answers_before_body, upstream.body_bytes_first = True, 65536
    upstream.reply_status(413, faults=Faults(close_after=True, lingers=True))

    async with RawClient(upstream.url) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + bytes(65535))
        silence = await client.read_ending(0.05)
        await client.send(b"\0")
        response = await client.read_response()
        await client.send(bytes(10_000_000 - 65536))
        ending = await client.read_ending()
    await upstream.wait_for_connections(0)

    assert silence == (b"", "silence")
    assert (response.status, ending) == (413, (b"", "fin"))
    assert len(upstream.last_request.body) == 10_000_000
    assert upstream.early_closes == []


async def test_answer_within_the_upload_may_end_the_connection(upstream: FakeProvider) -> None:
    upstream.answers_before_body, upstream.body_bytes_first = True, 65536
    upstream.reply_status(413, faults=Faults(close_after=True))

    async with RawClient(upstream.url) as client:
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + bytes(65536))
        response = await client.read_response()
        with pytest.raises(ConnectionError):
            await client.send(bytes(20_000_000))

    assert response.status == 413
    assert not upstream.last_request.is_complete


async def test_body_that_is_shorter_than_awaited_is_answered(upstream: FakeProvider) -> None:
    upstream.answers_before_body, upstream.body_bytes_first = True, 65536
    upstream.reply("Paris")

    async with RawClient(upstream.url) as client:
        responses = [await client.request("POST", CHAT, BODY) for _ in range(2)]

    assert [response.status for response in responses] == [200, 200]


async def test_half_closed_connection_answers_nothing_more(upstream: FakeProvider) -> None:
    upstream.reply_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", HalfClose())
    request = encode_request("GET", "/x", host="fake")

    async with RawClient(upstream.url) as client:
        await client.send(request + request)
        received = await client.read_ending()
        await client.send(request)
        await upstream.wait_for_request(3)

    assert received == (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "fin")
    assert upstream.early_closes == []
