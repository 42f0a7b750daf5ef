"""The client library, set up so that what is late is dropped.

No module imports this one: `stores` loads it when the first store is made, because the library takes 0.1 s.
"""

import ssl
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import InvalidResponse, MaxConnectionsError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from proxy.config.store_models import StoreAddress, StoreSettings
from proxy.errors import ConfigError, Fault
from proxy.shared.redis_store import Verdict

MOST_TOLD: Final = 100
"""Characters of the server's error that are told."""


class _Dropped(AbstractConnection):
    """A connection that ends at once.

    To wait until what was written has gone out would be to wait for a frozen server, holding what was to be stored.
    """

    async def disconnect(self, *args: Any, **options: Any) -> None:  # Any: what the library hands to its own method
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*args, **options)


class _TcpConnection(_Dropped, Connection):
    pass


class _UnixConnection(_Dropped, UnixDomainSocketConnection):
    pass


class _TlsConnection(_Dropped, SSLConnection):
    """One context for all: the library reads the authorities anew for each connection, on the loop."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:  # Any: what the library takes
        super().__init__(**options)
        self.ssl_context.context = context


class Client:
    """A client and its connections; nothing is opened before it is used.

    Raises:
        ConfigError: `caFile` cannot be read.
    """

    def __init__(self, settings: StoreSettings, address: StoreAddress) -> None:
        self._pool = ConnectionPool(
            **_place(settings, address),
            db=address.database,
            username=address.username,
            password=address.password,
            # one more for the probe; calls wait for their turn elsewhere, where a deadline cannot lose a place
            max_connections=settings.max_connections + 1,
            # the deadline of a call is the only one: those of the library start a task for each command
            socket_timeout=None,
            socket_connect_timeout=None,
            # RESP 2: no greeting to wait for, nothing comes unasked, and every server speaks it
            protocol=2,
            driver_info=None,
        )
        self.redis = Redis(connection_pool=self._pool)

    async def try_anew(self) -> None:
        """Drop the connections that nobody uses, which may lead nowhere, and see whether the server answers."""
        await self._pool.disconnect(inuse_connections=False)
        await self.redis.ping()

    async def close(self) -> None:
        """Drop all connections."""
        await self._pool.aclose()


def judge(error: Exception) -> Verdict:
    """Tell what an error says of the server."""
    if isinstance(error, MaxConnectionsError):
        return "busy"
    if isinstance(error, NoConnection | NoAnswer | InvalidResponse | OSError):
        return "failed"
    return "refused" if isinstance(error, ResponseError) else "none"


def told(error: Exception) -> str:
    """Put an error in words, without the arguments of the command that a server may repeat."""
    text = str(error).partition(", with args")[0].strip()
    return text[:MOST_TOLD] or type(error).__name__


def _place(settings: StoreSettings, address: StoreAddress) -> dict[str, Any]:  # Any: what the library takes
    if address.scheme == "unix":
        return {"connection_class": _UnixConnection, "path": address.path}
    place = {"host": address.host, "port": address.port, "socket_keepalive": True}
    if address.scheme == "redis":
        return {"connection_class": _TcpConnection, **place}
    return {"connection_class": _TlsConnection, **place, "context": _context(settings.ca_file)}


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = "not a PEM file of certificates" if isinstance(error, ssl.SSLError) else error.strerror
        message = f"store.caFile: {ca_file}: {reason}"
        raise ConfigError(message, [Fault("store.caFile", f"{reason}", ca_file)]) from error
