"""Answers a repeated question without asking a provider again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from functools import partial
from typing import Final

from plugins.cache.entry import Entry
from plugins.cache.flights import Flights
from plugins.cache.freshness import Windows, age_s, judge
from plugins.cache.keeping import entry_of, why_not_kept
from plugins.cache.ledger import Ledger
from plugins.cache.memory import MemoryStore
from plugins.cache.question import WHOLE, Question, Questions, is_same, shape_of, why_stateful
from plugins.cache.recording import Recording
from plugins.cache.replay import PaceRecorder, paced
from plugins.cache.settings import CacheConfig
from plugins.cache.wishes import NONE, read_wishes
from proxy import hookimpl
from proxy.errors import ProxyError, Refused
from proxy.events import Seldom
from proxy.exchange import Exchange, Reply, Wait
from proxy.plugin import Plugin, PluginContext

KEPT_OPERATIONS: Final = frozenset(
    (
        *("chat", "completions", "responses", "generate", "stream_generate"),
        *("embeddings", "embed", "embed_batch", "count_tokens"),
    )
)

LONGEST_WAIT_S: Final = 3600.0
"""One who follows waits `coalesceWait` for a beginning, more than once if calls fail; this is never reached."""

TELL_EVERY_S: Final = 10.0


class CachePlugin(Plugin[CacheConfig]):
    """Keeps whole successful answers, each for who paid for it."""

    name = "cache"

    def __init__(self, config: CacheConfig, context: PluginContext) -> None:
        super().__init__(config, context)
        self._use(config)
        self._store = MemoryStore(config.size, config.max_bytes, self._windows.grace_s)
        self._flights = Flights(config.coalesce_wait)
        self._ledger = Ledger(context.metrics)
        self._stale_news: Seldom[str] = Seldom(TELL_EVERY_S)
        context.metrics.gauge("cache_entries", "Answers that are kept.", read=lambda: len(self._store))
        context.metrics.gauge("cache_bytes", "Memory that kept answers take.", read=lambda: self._store.used_bytes)

    def _use(self, config: CacheConfig) -> None:
        self._questions = Questions(config)
        self._windows = Windows(config.stale_while_revalidate, config.stale_if_error)

    @hookimpl
    def reconfigure(self, config: CacheConfig) -> None:
        """Take other settings; what is beyond new bounds goes at once, what is kept stays."""
        self._use(config)
        self._store.grace_s = self._windows.grace_s
        self._store.resize(config.size, config.max_bytes)
        self._flights.wait_s = config.coalesce_wait

    # -- a request -------------------------------------------------------------------------------------------------

    @hookimpl
    def pre_request(self, exchange: Exchange) -> Reply | Wait | None:
        """Answer it if an answer is kept or on its way; else take down the one that comes."""
        request = exchange.request
        if request.operation.name not in KEPT_OPERATIONS or request.document is None:
            return None
        wishes = read_wishes(request.fields) if self.config.client_control else NONE
        if wishes.is_bypass or (stateful := why_stateful(request)) is not None:
            self._bypass(exchange, "the request asks for it" if wishes.is_bypass else f"{stateful} is set")
            return None
        try:
            targets = self.context.targets(exchange)
        except ProxyError:
            return None  # the pipeline will say the same
        key = self._questions.key(exchange, targets, wishes.salt)
        question = Question(key, shape_of(request), wishes, targets)
        now_s = self.context.wall_clock()
        return self._answer(exchange, question, self._store.get(key, now_s), now_s)

    def _bypass(self, exchange: Exchange, reason: str) -> None:
        self._ledger.bypassed(reason)
        exchange.told += b"X-Cache: bypass\r\nX-Cache-Reason: %b\r\n" % reason.encode()

    def _answer(self, exchange: Exchange, question: Question, entry: Entry | None, now_s: float) -> Reply | Wait | None:
        if entry is None:
            return self._miss(exchange, question, "absent")
        verdict = judge(entry.stored_s, entry.ttl_s, now_s, self._windows, question.wishes)
        if verdict.outcome == "miss":
            return self._miss(exchange, question, verdict.reason, entry if verdict.is_reserve else None)
        reply = self._reply(exchange, entry, question.shape, b"X-Cache: %b\r\n" % verdict.outcome.encode(), now_s)
        if reply is None:
            return self._miss(exchange, question, "kept in another form")
        if verdict.outcome == "stale":
            self._refresh(exchange, question)
        self._ledger.answered(verdict.outcome, entry)
        exchange.is_cached = True
        return reply

    def _reply(self, exchange: Exchange, entry: Entry, shape: str, told: bytes, now_s: float) -> Reply | None:
        """Give a kept answer in the manner that is asked for; None if it cannot be had in that."""
        told += b"Age: %d\r\n" % age_s(entry.stored_s, now_s)
        if not is_same(entry.shape, shape):
            reply = self.context.rearrange(exchange, entry.body)
            if reply is not None:
                exchange.told += told
            return reply
        exchange.told += told + entry.head
        if entry.pace and self.config.replay == "paced":
            return Reply(headers=(), events=_paced(entry, self.config.replay_cap), served_model=entry.served_model)
        return Reply(headers=(), body=entry.body, served_model=entry.served_model)

    def _miss(self, exchange: Exchange, question: Question, why: str, reserve: Entry | None = None) -> Wait | None:
        wishes = question.wishes
        if wishes.only_if_cached:
            self._ledger.missed(why)
            raise Refused(f"only-if-cached, and no answer may be given: {why}", code="not_cached", status=504)
        if wishes.no_store:
            self._ledger.missed(why)
            exchange.told += _miss_lines(why)
            return None
        recording = self._flights.find(question.key) if self.config.coalesce and not wishes.no_cache else None
        if recording is not None:
            lead = partial(self._lead, exchange, question, why, reserve)
            following = self._flights.follow(exchange, recording, question, lead, self._rearranged)
            return Wait(self._coalesced(exchange, following), LONGEST_WAIT_S)
        self._lead(exchange, question, why, reserve)
        return None

    async def _coalesced(self, exchange: Exchange, following: Awaitable[Reply | None]) -> Reply | None:
        reply = await following
        if reply is not None:
            self._ledger.answered("coalesced", None)
            exchange.told += b"X-Cache: coalesced\r\n"
            exchange.is_cached = True
        return reply

    def _rearranged(self, exchange: Exchange, recording: Recording) -> Reply | None:
        return self.context.rearrange(exchange, recording.body)

    def _lead(
        self, exchange: Exchange, question: Question, why: str, reserve: Entry | None, failures: int = 0
    ) -> Recording:
        """Have a provider asked, and take the answer down."""
        exchange.told += _miss_lines(why)
        if self.config.partition == "shared":
            exchange.request.edit()  # what is asked is what was understood, also of a repeated field
        recording = exchange.audience = self._record(question, why, reserve)
        if failures:
            recording.failures_before = failures
        return recording

    def _record(self, question: Question, why: str, reserve: Entry | None) -> Recording:
        recording = Recording(
            question,
            why,
            self.config.max_entry,
            self.context.clock,
            None if question.shape.endswith(WHOLE) else PaceRecorder(),
            None if reserve is None else partial(self._instead, question, why, reserve),
        )
        if self.config.coalesce:
            self._flights.begin(recording)
        return recording

    def _refresh(self, exchange: Exchange, question: Question) -> None:
        """Have a new answer fetched in the background, unless one is on its way."""
        if self._flights.find(question.key) is None:
            recording = self._record(question, "expired", None)
            if not self.context.refresh(exchange, recording):
                self._flights.end(recording)

    def _instead(
        self, question: Question, why: str, reserve: Entry, exchange: Exchange, error: ProxyError
    ) -> Reply | None:
        """Give an answer that is too old in place of an error."""
        now_s = self.context.wall_clock()
        lines = b"X-Cache: stale\r\nX-Cache-Reason: %b\r\n" % error.code.encode()
        exchange.told = exchange.told.replace(_miss_lines(why), b"")
        reply = self._reply(exchange, reserve, question.shape, lines, now_s)
        if reply is not None:
            exchange.is_cached = True
            self._ledger.answered("stale", reserve)
            self._tell_stale(reserve, error, now_s)
        return reply

    def _tell_stale(self, reserve: Entry, error: ProxyError, now_s: float) -> None:
        left_out = self._stale_news.admit(error.code, self.context.clock())
        if left_out is not None:
            late_s = age_s(reserve.stored_s, now_s) - reserve.ttl_s
            message = f"cache: an answer for {reserve.model} that expired {late_s:.0f} s ago stands in: {error.message}"
            self.context.events.emit("WARN", "cache_stale_served", message, code=error.code, suppressed=left_out)

    # -- its end ---------------------------------------------------------------------------------------------------

    @hookimpl
    def post_response(self, exchange: Exchange) -> None:
        """Keep the answer, if it was one."""
        recording = exchange.audience
        if not isinstance(recording, Recording):
            return
        self._flights.end(recording)
        if exchange.is_background:
            self._ledger.came_to("refresh")
        elif not exchange.is_cached:
            self._ledger.missed(recording.why)
        if (reason := why_not_kept(recording, may_call_tools=self.config.tool_calls)) is not None:
            self._ledger.declined[reason] += 1
            return
        now_s = self.context.wall_clock()
        ttl_s = recording.question.wishes.ttl_s
        entry = entry_of(exchange, recording, self._questions, now_s, self.config.ttl if ttl_s is None else ttl_s)
        self._store.put(entry, now_s)

    @hookimpl
    def reset(self) -> Mapping[str, int]:
        """Keep nothing, and count anew."""
        self._ledger.forget()
        return {"entries": self._store.clear()}


async def _paced(entry: Entry, cap_s: float) -> AsyncIterator[bytes]:
    """Give a stream out at the pace at which it came."""
    for wait_s, data in paced(entry, cap_s):
        if wait_s:
            await asyncio.sleep(wait_s)
        yield data


def _miss_lines(why: str) -> bytes:
    return b"X-Cache: miss\r\nX-Cache-Reason: %b\r\n" % why.encode()
