"""What becomes of an answer once it has come: kept in this process, in the shared store, or not at all."""

from plugins.cache.asked import LastAsked
from plugins.cache.codec import encode
from plugins.cache.determinism import is_deterministic
from plugins.cache.entry import Entry
from plugins.cache.freshness import Windows
from plugins.cache.keeping import entry_of, why_not_kept
from plugins.cache.landing import Landing
from plugins.cache.ledger import Ledger
from plugins.cache.memory import MemoryStore
from plugins.cache.question import Question
from plugins.cache.recording import Recording
from plugins.cache.settings import CacheConfig
from plugins.cache.shared import SharedEntries
from plugins.cache.smart import SmartAdmission, SmartLimits
from proxy.exchange import Exchange
from proxy.plugin import PluginContext
from proxy.store import StoreUnavailable


class Keeper:
    """Keeps answers that are worth it, and says why others are not.

    Args:
        store: what is kept in this process.
        shared: what is kept in the shared store, used with `store: shared`.
    """

    def __init__(
        self,
        config: CacheConfig,
        context: PluginContext,
        store: MemoryStore,
        shared: SharedEntries,
        ledger: Ledger,
    ) -> None:
        self._context = context
        self._store = store
        self._ledger = ledger
        self.landing = Landing(shared)
        self.last_asked = LastAsked()
        self._smart: SmartAdmission | None = None
        self.use(config)

    def use(self, config: CacheConfig) -> None:
        """Go on by other settings."""
        self._config = config
        self._is_shared = config.store == "shared"
        self._grace_s = Windows(config.stale_while_revalidate, config.stale_if_error).grace_s
        smart = config.smart
        limits = SmartLimits(config.ttl, smart.min_ttl, smart.max_ttl, smart.second_usd, smart.allow_random)
        if not config.smart_cache:
            self._smart = None
        elif self._smart is None:
            self._smart = SmartAdmission(limits)
        else:
            self._smart.limits = limits

    def see(self, question: Question, model: str | None) -> None:
        """Take note that a question was asked, whatever becomes of it."""
        if self._smart is not None:
            self._smart.see(question.key, f"{question.partition}\0{model}", self._context.clock())

    def take(self, exchange: Exchange, recording: Recording) -> None:
        """Keep the answer of an exchange that has ended, if there is one and it is to be kept."""
        if (reason := why_not_kept(exchange, recording)) is not None:
            self._ledger.declined(reason)
            return
        now_s, question = self._context.wall_clock(), recording.question
        wished_s = question.wishes.ttl_s
        entry = entry_of(exchange, recording, now_s, self._config.ttl if wished_s is None else wished_s)
        recording.entry = entry
        for _ in range(recording.answered):
            self._ledger.saved(entry)
        if not self._config.tool_calls and self._context.calls_tool(exchange, entry.body):
            self._ledger.declined("calls a tool")
        elif self._smart is None or self._is_worth_it(self._smart, exchange, entry, is_ttl_given=wished_s is not None):
            self.last_asked.note(question, exchange.request, now_s)
            self._keep(entry, now_s)

    def _is_worth_it(self, smart: SmartAdmission, exchange: Exchange, entry: Entry, *, is_ttl_given: bool) -> bool:
        decision = smart.decide(
            entry,
            None if self._is_shared else self._store.first_to_go(entry.size_bytes),
            self._context.clock(),
            is_deterministic=is_deterministic(exchange.request.operation.name, exchange.request.document),
        )
        self._ledger.decided(decision)
        if not is_ttl_given:
            entry.ttl_s = decision.ttl_s
        return decision.is_kept

    def _keep(self, entry: Entry, now_s: float) -> None:
        if not self._is_shared:
            if not self._store.put(entry, now_s):
                has_time = entry.ttl_s + self._grace_s > 0
                self._ledger.declined("no room" if has_time else "no time to live")
        elif (data := encode(entry)) is None:
            self._ledger.declined("cannot be written")
        else:
            writing = self._keep_shared(entry, data, entry.ttl_s + self._grace_s)
            try:
                self._context.spawn(writing, name="cache entry")
            except RuntimeError:
                self._ledger.declined("switched off meanwhile")
                return
            self.landing.begin(entry)

    async def _keep_shared(self, entry: Entry, data: bytes, ttl_s: float) -> None:
        try:
            await self.landing.write(entry, data, ttl_s)
        except StoreUnavailable:
            self._ledger.declined("store unavailable")
