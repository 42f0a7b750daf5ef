"""Answers a repeated question without asking a provider again."""

from collections.abc import Mapping, Sequence
from typing import Final

from plugins.cache.admin import CacheRoutes
from plugins.cache.desk import Answer, Desk
from plugins.cache.issues import cache_issues
from plugins.cache.keeper import Keeper
from plugins.cache.ledger import Ledger
from plugins.cache.memory import MemoryStore
from plugins.cache.settings import CacheConfig
from plugins.cache.shared import SharedEntries
from proxy import hookimpl
from proxy.exchange import Exchange
from proxy.plugin import AdminRoute, Issue, Plugin, PluginContext

MUCH_BYTES: Final = 4 << 20
"""So much must have become free for the system to be given it back: looking for it takes milliseconds."""


class CachePlugin(Plugin[CacheConfig]):
    """Keeps whole successful answers, each for who paid for it."""

    name = "cache"

    def __init__(self, config: CacheConfig, context: PluginContext) -> None:
        super().__init__(config, context)
        self._store = MemoryStore(config.size, config.max_bytes)
        self._shared = SharedEntries(context.store)
        self._ledger = Ledger(context.metrics)
        keeper = Keeper(config, context, self._store, self._shared, self._ledger)
        self._desk = Desk(config, context, self._store, keeper, self._ledger)
        self._store.grace_s = self._desk.windows.grace_s
        self._routes = CacheRoutes(
            context, lambda: self.config, self._desk, self._store, self._shared, self._ledger, self._give_back
        )
        context.metrics.gauge("cache_entries", "Answers that are kept in memory.", read=lambda: len(self._store))
        context.metrics.gauge("cache_bytes", "Memory that kept answers take.", read=lambda: self._store.used_bytes)

    @hookimpl
    def reconfigure(self, config: CacheConfig) -> None:
        """Take other settings; what is beyond new bounds goes at once, what is kept stays."""
        self._desk.use(config)
        self._store.grace_s = self._desk.windows.grace_s
        if (config.size, config.max_bytes) != (self._store.size, self._store.max_bytes):
            before_bytes = self._store.used_bytes
            self._store.resize(config.size, config.max_bytes)
            self._give_back(before_bytes)

    @hookimpl
    def pre_request(self, exchange: Exchange) -> Answer:
        """Answer it if an answer is kept or on its way; else have the one that comes taken down."""
        return self._desk.ask(exchange)

    @hookimpl
    def admin_routes(self) -> Sequence[AdminRoute]:
        """Answer operators under `/cache`."""
        return self._routes.routes()

    @hookimpl
    def config_issues(self) -> Sequence[Issue]:
        """Tell what the settings in force may lead to."""
        return list(cache_issues(self.config, has_store=self.context.store() is not None))

    @hookimpl
    async def reset(self) -> Mapping[str, int]:
        """Keep nothing, and count anew."""
        self._ledger.forget()
        self._desk.last_asked.forget()
        self._desk.landing.forget()
        before_bytes = self._store.used_bytes
        entries = self._store.clear()
        self._give_back(before_bytes)
        if self.config.store == "shared":
            entries += await self._shared.clear()
        return {"entries": entries}

    def _give_back(self, before_bytes: int) -> None:
        """Return memory to the system where much became free."""
        if before_bytes - self._store.used_bytes > MUCH_BYTES:
            self.context.give_back()
