"""What several processes share: a Redis or Valkey server, as plugins see it."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from proxy.errors import ProxyError

T = TypeVar("T")


class StoreUnavailable(ProxyError):
    """The shared store gave no answer: refused, late, or not asked because it failed a moment ago.

    Nothing is known of what the call did: a command that was late may have been carried out.
    """

    status = 503
    code = "store_unavailable"


class StoreRefused(StoreUnavailable):
    """The shared store is there and answered with an error, such as WRONGTYPE for a name that holds something else."""

    code = "store_refused"


class SharedStore(Protocol):
    """The server of section `store`, behind one deadline and one circuit for all that ask it.

    Ask `PluginContext.store` for it at each use: a change of its settings puts another one in its place.
    """

    @property
    def prefix(self) -> str:
        """What every name in it begins with, before a colon: several proxies may share a server."""

    @property
    def is_open(self) -> bool:
        """Whether its circuit is open: it failed, and until it is back every call fails at once."""

    async def call(self, make: Callable[[Any], Awaitable[T]]) -> T:  # Any: redis.asyncio.Redis, loaded only when used
        """Ask the server, within `store.timeout` as a whole.

        Args:
            make: gets a `redis.asyncio.Redis` that answers in bytes, and sends one command, script or pipeline after
                another. It is cut where it stands when the time is over, and its connection dropped.
        Returns:
            What `make` returns.
        Raises:
            StoreUnavailable: no answer; at once while the circuit is open. StoreRefused: an error for an answer.
                What `make` raises itself passes through.
        """
