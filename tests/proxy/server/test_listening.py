"""How soon newcomers are let in while the loop has much to do."""

import asyncio
import socket

import pytest
import uvloop

from proxy.server.listening import ACCEPTS_A_TURN, listen

NEWCOMERS = 64


async def turns_until_all_are_in() -> int:
    """Have many connect at once, and count the turns of the loop until all have been accepted."""
    accepted: list[asyncio.Protocol] = []

    class Newcomer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(self)

    listeners = await listen(Newcomer, "127.0.0.1", 0)
    address = listeners[0].sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(NEWCOMERS)]  # into the backlog: nobody accepts yet
    turns = 0
    try:
        async with asyncio.timeout(5):
            while len(accepted) < NEWCOMERS:
                turns += 1
                await asyncio.sleep(0)
    finally:
        for client in clients:
            client.close()
        for listener in listeners:
            listener.close()
    return turns


def test_several_newcomers_are_let_in_each_turn() -> None:
    turns = uvloop.run(turns_until_all_are_in())

    assert turns <= 2 * NEWCOMERS / ACCEPTS_A_TURN + 4


async def test_port_is_free_again_when_all_listeners_are_closed() -> None:
    listeners = await listen(asyncio.Protocol, "127.0.0.1", 0)
    address = listeners[0].sockets[0].getsockname()

    for listener in listeners:
        listener.close()
    await asyncio.sleep(0)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await listen(asyncio.Protocol, *taken.getsockname())
