"""The sockets that listen, and how many connections are taken from them in one turn of the event loop."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

BACKLOG: Final = 1024

ACCEPTS_A_TURN: Final = 8
"""uvloop takes one connection from a socket in a turn of the loop. Under overload a turn took 60 ms, so that newcomers,
`/health` among them, waited for seconds behind 400 others; each further listener costs a new connection 5 us."""


async def listen(make: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> Sequence[asyncio.Server]:
    """Listen at an address, with several listeners to each socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    first = await loop.create_server(make, host, port, backlog=BACKLOG)
    listeners = [first]
    try:
        for one in first.sockets:
            for _ in range(ACCEPTS_A_TURN - 1):
                again = socket.fromfd(one.fileno(), one.family, one.type)
                listeners.append(await loop.create_server(make, sock=again, backlog=BACKLOG))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners
