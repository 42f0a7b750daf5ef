"""The yardstick: the relay one writes first, on aiohttp and uvloop, with nothing else in it.

Run as `python bare_relay.py PORT UPSTREAM_URL`.
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = {"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


async def main(port: int, upstream_url: str) -> None:
    """Relay every request to one upstream, streaming what comes back."""
    connector = TCPConnector(limit=0)
    session = ClientSession(connector=connector, auto_decompress=False, timeout=ClientTimeout(total=None))

    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        sent = {key: value for key, value in request.headers.items() if key.lower() not in HOP_BY_HOP}
        body = await request.read()
        async with session.request(request.method, upstream_url + request.path_qs, headers=sent, data=body) as upstream:
            kept = {key: value for key, value in upstream.headers.items() if key.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    await asyncio.get_running_loop().create_server(web.Server(relay), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
