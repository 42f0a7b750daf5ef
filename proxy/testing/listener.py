"""A listening socket that can also refuse, or let connects hang."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 1024
FILLERS: Final = 3
"""Linux keeps one connection more than the backlog it is told, and drops the SYN of all further ones: a backlog of 0 is
full with one. The others are for what a system rounds up."""


class Listener:
    """Listens on loopback; keeps its port whatever it does, so that nobody else gets it meanwhile.

    Args:
        accepted: given each connection.
    """

    def __init__(self, accepted: Callable[[socket.socket], None], port: int = 0) -> None:
        self._accepted = accepted
        self._fillers: dict[object, socket.socket] = {}
        self._is_accepting = False
        self._socket = _bound(port)
        self._address: tuple[str, int] = self._socket.getsockname()

    @property
    def port(self) -> int:
        """Where it listens or would."""
        return self._address[1]

    def accept(self) -> None:
        """Let everyone connect, also those whose connect hangs: their kernel tries again after 1, 3, 7 … seconds."""
        self._socket.listen(BACKLOG)
        self._accept_all()
        self._drop_fillers()
        if not self._is_accepting:
            self._is_accepting = True
            asyncio.get_running_loop().add_reader(self._socket, self._accept_all)

    def refuse(self) -> None:
        """Answer connects with RST."""
        self.close()
        self._socket = _bound(self.port)  # without `listen`

    def go_dark(self) -> None:
        """Leave connects without an answer."""
        self._stop_accepting()
        self._drop_fillers()
        self._socket.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._address)
            self._fillers[filler.getsockname()] = filler

    def close(self) -> None:
        """Give the port back."""
        self._stop_accepting()
        self._drop_fillers()
        self._socket.close()

    def _stop_accepting(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _drop_fillers(self) -> None:
        for filler in self._fillers.values():
            filler.close()
        self._fillers.clear()

    def _accept_all(self) -> None:
        while True:
            try:
                connection, peer = self._socket.accept()
            except BlockingIOError:
                return
            if peer in self._fillers:
                connection.close()
                continue
            connection.setblocking(False)
            self._accepted(connection)


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening
