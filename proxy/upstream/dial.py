"""How a fresh connection comes about: name, address, proxy, TLS; every failure of it becomes one of our errors."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import aiohappyeyeballs

from proxy.errors import Overloaded, UpstreamConnect, UpstreamConnectTimeout, UpstreamTls
from proxy.upstream.connection import Connection, Owner
from proxy.upstream.response_fields import ResponseFields
from proxy.upstream.tunnel import ForwardProxy, open_tunnel

SECOND_ADDRESS_AFTER_S: Final = 0.25
"""RFC 8305, section 5."""

NO_FILE_LEFT: Final = (errno.EMFILE, errno.ENFILE)

_Address = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider is: `host` without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Resolver:
    """Looks up one host, in a thread of its own: a slow answer holds up nobody else's, and callers share it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Future[list[_Address]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
            end = (host, port) if family == socket.AF_INET else (host, port, 0, 0)
            self._fixed: list[_Address] = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", end)]
        except ValueError:
            self._fixed = []

    async def addresses(self) -> list[_Address]:
        """Find the host's addresses; raises OSError. Nothing is remembered once the answer is there."""
        if self._fixed:
            return self._fixed
        if self._lookup is None:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"dns-{self._host}")
            self._lookup = asyncio.get_running_loop().run_in_executor(self._thread, self._look_up)
            self._lookup.add_done_callback(self._looked_up)
        return await asyncio.shield(self._lookup)

    def close(self) -> None:
        """Let the thread go; a lookup under way is left to end by itself."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _look_up(self) -> list[_Address]:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return [(family, kind, proto, name, end) for family, kind, proto, name, end in found if len(end) in (2, 4)]  # type: ignore[misc] # the two shapes of IP addresses

    def _looked_up(self, lookup: asyncio.Future[list[_Address]]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # all who asked may have left


class Dialer:
    """Opens connections to one provider.

    Args:
        tls: None for `http`.
        server_name: to be asked for and checked instead of the host's, if given.
    """

    def __init__(
        self,
        provider: str,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        proxy: ForwardProxy | None,
        connect_timeout_s: float,
        header_limit: int,
    ) -> None:
        self._provider = provider
        self._fields = ResponseFields()
        self._origin = origin
        self._tls = tls
        self._server_name = (server_name or origin.host) if tls is not None else None
        self._proxy = proxy
        self._connect_timeout_s = connect_timeout_s
        self._header_limit = header_limit
        hop = proxy or origin
        self._hop = hop.host, hop.port
        self._resolver = Resolver(hop.host, hop.port)

    async def dial(self, owner: Owner) -> Connection:
        """Open a connection.

        Raises:
            UpstreamConnect: refused, unreachable, no such host, or the proxy said no.
            UpstreamTls: the handshake failed; nothing of a request was sent.
            Overloaded: this process may open no more files.
            UpstreamConnectTimeout: all of it together took too long.
        """
        phase = "connection"
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                sock = await self._connect()
                try:
                    if self._proxy is not None:
                        phase = "tunnel"
                        await open_tunnel(sock, self._proxy, self._origin.authority, self._provider)
                    if self._tls is not None:
                        phase = "TLS handshake"
                    return await self._attach(sock, owner)
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError as exc:
            raise UpstreamConnectTimeout(
                f"{self._provider}: no {phase} with {self._origin.authority} within {self._connect_timeout_s:g} s",
                provider=self._provider,
            ) from exc

    def close(self) -> None:
        """Let go of what it holds."""
        self._resolver.close()

    async def _connect(self) -> socket.socket:
        host, port = self._hop
        try:
            sock = await aiohappyeyeballs.start_connection(
                await self._resolver.addresses(), happy_eyeballs_delay=SECOND_ADDRESS_AFTER_S
            )
        except (OSError, RuntimeError) as exc:  # uvloop raises RuntimeError for some
            if isinstance(exc, OSError) and exc.errno in NO_FILE_LEFT:
                message = f"no file is left for a connection to {self._provider} (ulimit -n)"
                raise Overloaded(message, retry_after_s=1) from exc
            through = "" if self._proxy is None else "proxy "
            reason = f"no such host ({exc.strerror})" if isinstance(exc, socket.gaierror) else _reason(exc)
            raise UpstreamConnect(
                f"{self._provider}: no connection to {through}{host}:{port}: {reason}", provider=self._provider
            ) from exc
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def _attach(self, sock: socket.socket, owner: Owner) -> Connection:
        def make() -> Connection:
            return Connection(
                owner, sock, provider=self._provider, header_limit=self._header_limit, fields=self._fields
            )

        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                make, sock=sock, ssl=self._tls, server_hostname=self._server_name
            )
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError; ValueError: a name that cannot be sent
            if isinstance(exc, TimeoutError):
                raise
            kind = UpstreamTls if self._tls is not None else UpstreamConnect
            raise kind(
                f"{self._provider}: no TLS with {self._origin.authority}: {_reason(exc)}"
                if self._tls is not None
                else f"{self._provider}: no connection to {self._origin.authority}: {_reason(exc)}",
                provider=self._provider,
            ) from exc
        return connection


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    if isinstance(exc, ssl.SSLError):
        return str(exc.reason or exc)
    if isinstance(exc, OSError) and exc.errno:
        return os.strerror(exc.errno)
    return str(exc) or type(exc).__name__
