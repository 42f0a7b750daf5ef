"""The admin routes under `/cache`."""

from collections.abc import Callable
from typing import Final

from plugins.cache.desk import Desk
from plugins.cache.explain import Explainer, read_asked
from plugins.cache.ledger import Ledger
from plugins.cache.listing import Callers, read_wanted, row
from plugins.cache.memory import MemoryStore
from plugins.cache.settings import CacheConfig
from plugins.cache.shared import SharedEntries
from proxy.errors import ClientError
from proxy.exchange import JsonObject
from proxy.plugin import AdminRequest, AdminRoute, PluginContext

MOST_LISTED: Final = 1000
LISTED: Final = 100


class CacheRoutes:
    """Answers operators about the cache.

    Args:
        config: gives the settings in force.
        give_back: called with what was in use before much was thrown away.
    """

    def __init__(
        self,
        context: PluginContext,
        config: Callable[[], CacheConfig],
        desk: Desk,
        store: MemoryStore,
        shared: SharedEntries,
        ledger: Ledger,
        give_back: Callable[[int], None],
    ) -> None:
        self._context = context
        self._config = config
        self._desk = desk
        self._store = store
        self._shared = shared
        self._ledger = ledger
        self._give_back = give_back
        self._callers = Callers()
        self._explainer = Explainer(context, desk, store, shared, self._callers)

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/cache/status", self._status, "Size, hit rate, misses by reason, what was saved."),
            AdminRoute("GET", "/cache/entries", self._entries, "What is kept, newest first; never its content."),
            AdminRoute("POST", "/cache/explain", self._explain, "Whether a request would hit, and why not."),
            AdminRoute("DELETE", "/cache", self._clear, "Throw away all of it, or by model, key, caller or age."),
        ]

    async def _status(self) -> JsonObject:
        config, store = self._config(), self._store
        return {
            "enabled": config.enabled,
            "store": config.store,
            "size": len(store),
            "maxSize": config.size,
            "bytes": store.used_bytes,
            "maxBytes": config.max_bytes,
            "ttl": config.ttl,
            "smartCache": config.smart_cache,
            "partition": config.partition,
            "underWay": len(self._desk.flights),
            "evictions": dict(store.evictions),
            **self._ledger.describe(),
        }

    async def _entries(self, request: AdminRequest) -> JsonObject:
        wanted = read_wanted(request.query, ("limit",))
        limit, now_s = _limit_of(request.query.get("limit", str(LISTED))), self._context.wall_clock()
        if self._config().store == "shared":
            lines = await self._shared.lines(lambda line: wanted.fits(line, self._callers, now_s), limit)
            return {"entries": [row(line, self._callers, now_s) for line in lines], "total": None}
        kept = self._store.newest(len(self._store))
        found = [each for each in kept if wanted.fits(each[0], self._callers, now_s)]
        rows = [row(entry, self._callers, now_s, hits) for entry, hits in found[:limit]]
        return {"entries": rows, "total": len(found)}

    async def _explain(self, request: AdminRequest) -> JsonObject:
        exchange = read_asked(self._context, request)
        return await self._explainer.explain(exchange, is_shared=self._config().store == "shared")

    async def _clear(self, request: AdminRequest) -> JsonObject:
        wanted, now_s = read_wanted(request.query), self._context.wall_clock()
        is_all = not request.query
        before_bytes = self._store.used_bytes
        cleared = self._store.clear(None if is_all else lambda entry: wanted.fits(entry, self._callers, now_s))
        self._give_back(before_bytes)
        if self._config().store == "shared":
            self._desk.landing.forget()
            cleared += await self._shared.clear(
                None if is_all else lambda line: wanted.fits(line, self._callers, now_s)
            )
        by = "all of it" if is_all else ", ".join(f"{name} {value}" for name, value in request.query.items())
        self._context.events.emit("INFO", "cache_cleared", f"cache: {cleared} answers thrown away ({by[:200]})")
        return {"cleared": cleared}


def _limit_of(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST_LISTED:
        raise ClientError(f"?limit: a number from 1 to {MOST_LISTED}")
    return int(text)
