"""One question and its answer, byte for byte, for tests of what happens on the way."""

from proxy.testing import FaultProxy, RawClient, encode_request
from proxy.testing.raw_client import Ending

ASK = encode_request("GET", "/x", host="fake")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"
ANSWER = HEAD + BODY


async def ask_once(faulty: FaultProxy) -> tuple[bytes, Ending]:
    """Ask on a connection of its own; what came and how it ended."""
    async with RawClient(faulty.url) as client:
        await client.send(ASK)
        return await client.read_ending()
