"""Over 200 responses that are not HTTP we can trust; each is a failure `upstream_protocol` (FAULTS A12, A13)."""

import itertools
from collections.abc import Iterator

from tests.proxy.upstream.scripted import OK

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"

STATUS_LINES = [
    b"HTTP/9.9 200 OK",
    b"HTTP/2.0 200 OK",
    b"HTTP/0.9 200 OK",
    b"HTTP/1.2 200 OK",
    b"HTTP/1 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 20 OK",
    b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 000 OK",
    b"HTTP/1.1 099 OK",
    b"HTTP/1.1 -20 OK",
    b"HTTP/1.1 OK",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1\t200 OK",
    b"HTTP/1.1 2 0 OK",
    b"HTTP/1.1 200 O\0K",
    b"HTTP/1.1 200 O\x01K",
    b"HTTP/1.1 200 O\rK",
    b"HTTP/1.1 200OK",
    b"ICY 200 OK",
    b"RTSP/1.0 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b" HTTP/1.1 200 OK",
    b"GET / HTTP/1.1",
    b"SSH-2.0-OpenSSH_9.0",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"HTTP/1.1 \xb2\xb2\xb2 OK",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket",
    b"{}",
    b"<html>",
    b"",
]
HEADERS = [
    b"A: a\0b",
    b"A: a\x01b",
    b"A: a\x7fb",
    b"A: a\x0bb",
    b"A: a\rb",
    b"A: a\r\n b",
    b"A: a\r\n\tb",
    b"A\0: b",
    b"A b: c",
    b"A : b",
    b" A: b",
    b"A\r: b",
    b": b",
    b"A",
    b"A\xff: b",
    b"A(: b",
    b"A: b\nB: c",
    b"\nB: c",
    b"Content-Length: -1",
    b"Content-Length: +1",
    b"Content-Length: 1_0",
    b"Content-Length: 0x5",
    b"Content-Length: 5,5",
    b"Content-Length: 5, 6",
    b"Content-Length: ",
    b"Content-Length: 5 5",
    b"Content-Length: \xd9\xa5",
    b"Content-Length: 1.0",
    b"Content-Length: 1e3",
    b"Content-Length: 99999999999999999999999",
    b"Content-Length: five",
    b"Content-Length : 5",
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0\r\ncontent-length: 0",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: identity",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: ",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: gzip\r\nContent-Length: 5",
]
CHUNKS = [
    b"zz\r\n",
    b"-1\r\n",
    b"+1\r\na\r\n",
    b"0x1\r\na\r\n",
    b"1 \r\na\r\n",
    b" 1\r\na\r\n",
    b"\r\n",
    b"1\na\n0\n\n",
    b"1\r\nab\r\n",
    b"1\r\na\n",
    b"1\r\nab",
    b"fffffffffffffffff\r\na",
    b"1_0\r\n",
    b"1\r\r\na",
    b"\xb2\r\n",
    b"1\r\na\r\n0\r\nA\0: b\r\n\r\n",
    b"1\r\na\r\n0\r\nA b\r\n\r\n",
    b"1\r\na\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"1;\0\r\na\r\n",
    b"1\r\na\r\n0\r\nA: b\nB: c\r\n\r\n",
]


def bad_responses() -> Iterator[bytes]:
    yield from (line + b"\r\nContent-Length: 2\r\n\r\nok" for line in STATUS_LINES)
    yield from (LINE + header + b"\r\n\r\nhello" for header in HEADERS)
    yield from (
        LINE + b"Server: x\r\n" + header + b"\r\nDate: now\r\n\r\nhello" for header in HEADERS if header != b"A"
    )
    yield from (CHUNKED + chunk for chunk in CHUNKS)
    for code, position in itertools.product((*range(9), *range(11, 32), 127), (0, 3)):
        value = bytearray(b"value")
        value.insert(position, code)
        if code not in (13, 0x20):
            yield LINE + b"X: " + value + b"\r\nContent-Length: 0\r\n\r\n"
    yield b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK
    yield b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK
    yield LINE.replace(b"OK", b"x" * (1 << 20)) + b"\r\n"
    yield LINE + b"A: " + b"x" * (1 << 20) + b"\r\n\r\n"
    yield LINE + b"A: b\r\n" * 10_000 + b"\r\n"
    yield LINE + b"A: b\r\n" * 300 + b"\r\n"
    yield b"HTTP/1.1 103 Hints\r\n" + b"A: b\r\n" * 300 + b"\r\n" + OK
    yield CHUNKED + b"1;" + b"x" * (1 << 20) + b"\r\na\r\n0\r\n\r\n"
    yield CHUNKED + b"1\r\na\r\n0\r\n" + b"T: " + b"x" * (1 << 20) + b"\r\n\r\n"


BAD = list(bad_responses())
