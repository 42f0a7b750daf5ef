"""A request's way through the cache: answered, made to wait for another's answer, or asked and taken down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Final

from plugins.cache.entry import Entry
from plugins.cache.flights import Flights, head_pairs
from plugins.cache.freshness import Windows, age_s, judge
from plugins.cache.keeper import Keeper
from plugins.cache.ledger import Ledger
from plugins.cache.memory import MemoryStore
from plugins.cache.question import WHOLE, Question, Questions, is_same, why_stateful
from plugins.cache.recording import TEMPORARY_STATUSES, Recording
from plugins.cache.replay import PaceRecorder, paced
from plugins.cache.settings import CacheConfig
from plugins.cache.wishes import NONE
from proxy.errors import ProxyError, Refused
from proxy.events import Seldom
from proxy.exchange import Exchange, Reply, Wait
from proxy.plugin import PluginContext
from proxy.store import StoreUnavailable

KEPT_OPERATIONS: Final = frozenset(
    (
        *("chat", "completions", "responses", "generate", "stream_generate"),
        *("embeddings", "embed", "embed_batch", "count_tokens"),
    )
)

LONGEST_WAIT_S: Final = 3600.0
"""One who follows waits `coalesceWait` for a beginning, more than once if calls fail; this is never reached."""

ARRANGED_AT_ONCE_BYTES: Final = 32 << 10
"""Larger answers are put into another form in a thread: it takes 1 ms for 32 KB."""

TELL_EVERY_S: Final = 10.0

SHARED_FAILURE: Final = "the call that it waited for failed"

MOST_MODEL_CHARS: Final = 512
"""Longer names are no model's; only echo answers to them, and they would be remembered beside the entries."""

Answer = Reply | Wait | None


class Desk:
    """Serves requests from what is kept, and has answers kept.

    Args:
        store: what is kept in this process.
        keeper: keeps answers, there or in the shared store.
    """

    def __init__(
        self, config: CacheConfig, context: PluginContext, store: MemoryStore, keeper: Keeper, ledger: Ledger
    ) -> None:
        self._context = context
        self._store = store
        self._ledger = ledger
        self._keeper = keeper
        self.landing, self.last_asked = keeper.landing, keeper.last_asked
        self.flights = Flights(config.coalesce_wait)
        self._stale_news: Seldom[str] = Seldom(TELL_EVERY_S)
        self.use(config)

    def use(self, config: CacheConfig) -> None:
        """Go on by other settings."""
        self._config = config
        self._keeper.use(config)
        self.questions = Questions(config)
        self.windows = Windows(config.stale_while_revalidate, config.stale_if_error)
        self.flights.wait_s = config.coalesce_wait
        self._is_shared = config.store == "shared"

    # -- the way in ------------------------------------------------------------------------------------------------

    def ask(self, exchange: Exchange) -> Answer:
        """Look at a request; the shared store, which has a time limit of its own, is waited for outside the hook's."""
        request = exchange.request
        model, document = request.model, request.document
        if request.operation.name not in KEPT_OPERATIONS or document is None:
            return None
        if model is not None and len(model) > MOST_MODEL_CHARS:
            return None
        if (field := why_stateful(document)) is not None:
            self._bypass(exchange, f"{field} is set")
            return None
        try:
            question = self.questions.read(exchange, self._context.targets)
        except ProxyError:
            return None  # nobody has the model: the pipeline will say the same
        if question.wishes.is_bypass:
            self._bypass(exchange, "the request asks for it")
            return None
        self._keeper.see(question, request.model)
        if self._is_shared:
            return Wait(self._ask_shared(exchange, question), LONGEST_WAIT_S)
        now_s = self._context.wall_clock()
        return self._answer(exchange, question, self._store.get(question.key, now_s), now_s)

    def _bypass(self, exchange: Exchange, reason: str) -> None:
        self._ledger.bypassed(reason)
        exchange.told += b"X-Cache: bypass\r\nX-Cache-Reason: %b\r\n" % reason.encode()

    async def _ask_shared(self, exchange: Exchange, question: Question) -> Reply | None:
        try:
            entry = await self.landing.get(question.key)
        except StoreUnavailable:
            answer: Answer = self._miss(exchange, question, "store unavailable")
        else:
            answer = self._answer(exchange, question, entry, self._context.wall_clock())
        return await answer.awaitable if isinstance(answer, Wait) else answer

    def _answer(self, exchange: Exchange, question: Question, entry: Entry | None, now_s: float) -> Answer:
        if entry is None:
            return self._miss(exchange, question, "absent")
        age = now_s - entry.stored_s
        # most hits are answered here, in fewer steps than below, where the same would come of them
        if 0 <= age < entry.ttl_s and question.wishes is NONE and entry.shape == question.shape == WHOLE:
            exchange.told += b"X-Cache: hit\r\nAge: %d\r\n%b" % (age, entry.head)
            exchange.is_cached = True
            self._ledger.answered("hit", entry)
            return Reply(headers=(), body=entry.body, served_model=entry.served_model)
        verdict = judge(entry.stored_s, entry.ttl_s, now_s, self.windows, question.wishes)
        if verdict.outcome == "miss":
            self._store.not_given(question.key)
            return self._miss(exchange, question, verdict.reason, entry if verdict.is_reserve else None)
        told = b"X-Cache: %b\r\nAge: %d\r\n" % (verdict.outcome.encode(), age_s(entry.stored_s, now_s))
        if is_same(entry.shape, question.shape):
            reply: Reply | None = self._again(entry)
            if entry.shape == WHOLE:
                told += entry.head  # cheaper than to take it apart for the reply
        elif len(entry.body) <= ARRANGED_AT_ONCE_BYTES:
            reply = self._context.rearrange(exchange, entry.body)
        else:
            return Wait(self._arranged_aside(exchange, question, entry, told, verdict.outcome), LONGEST_WAIT_S)
        if reply is None:
            self._store.not_given(question.key)
            return self._miss(exchange, question, "kept in another form")
        self._serve(exchange, question, entry, told, verdict.outcome)
        return reply

    def _serve(self, exchange: Exchange, question: Question, entry: Entry, told: bytes, outcome: str) -> None:
        if outcome == "stale" and self._is_to_be_refreshed(entry):  # `max-stale` alone pays for no call
            self._refresh(exchange, question)
        exchange.told += told
        exchange.is_cached = True
        self._ledger.answered(outcome, entry)

    def _is_to_be_refreshed(self, entry: Entry) -> bool:
        late_s = age_s(entry.stored_s, self._context.wall_clock()) - entry.ttl_s
        return late_s < self.windows.revalidate_s

    def _again(self, entry: Entry) -> Reply:
        """Give a kept answer as it was; the headers of a whole one are told besides."""
        if entry.shape == WHOLE:
            return Reply(headers=(), body=entry.body, served_model=entry.served_model)
        reply = Reply(headers=head_pairs(entry.head), served_model=entry.served_model, is_stream=True)
        if entry.pace and self._config.replay == "paced":
            reply.events = _paced(entry, self._config.replay_cap)
        else:
            reply.body = entry.body
        return reply

    async def _arranged_aside(
        self, exchange: Exchange, question: Question, entry: Entry, told: bytes, outcome: str
    ) -> Reply | None:
        reply = await asyncio.to_thread(self._context.rearrange, exchange, entry.body)
        if reply is None:
            self._store.not_given(question.key)
            waited = self._miss(exchange, question, "kept in another form")
            return None if waited is None else await waited.awaitable
        self._serve(exchange, question, entry, told, outcome)
        return reply

    # -- asking anew -----------------------------------------------------------------------------------------------

    def _miss(self, exchange: Exchange, question: Question, why: str, reserve: Entry | None = None) -> Wait | None:
        wishes = question.wishes
        if wishes.only_if_cached:
            self._ledger.missed(why)
            exchange.told += _miss_lines(why)
            raise Refused(f"only-if-cached, and no answer may be given: {why}", code="not_cached", status=504)
        if wishes.no_store:
            self._ledger.missed(why)
            exchange.told += _miss_lines(why)
            return None
        recording = self.joinable(question)
        if recording is None:
            self._lead(exchange, question, why, reserve)
            return None
        lead = partial(self._lead, exchange, question, why, reserve)
        following = self.flights.follow(exchange, recording, question, lead, self._rearranged)
        return Wait(self._coalesced(exchange, following, question, reserve), LONGEST_WAIT_S)

    def joinable(self, question: Question) -> Recording | None:
        """Find the call under way whose answer a question that is not answered from the store will wait for."""
        wishes = question.wishes
        if not self._config.coalesce or wishes.no_cache or wishes.no_store or wishes.only_if_cached:
            return None
        return self.flights.find(question.key)

    async def _coalesced(
        self,
        exchange: Exchange,
        following: Awaitable[tuple[Reply, Recording] | None],
        question: Question,
        reserve: Entry | None,
    ) -> Reply | None:
        try:
            answered = await following
        except Refused as error:
            stale = None
            if reserve is not None and error.status in TEMPORARY_STATUSES:
                stale = self._instead(question, reserve, b"", exchange, error)
            if stale is None:
                self._ledger.missed(SHARED_FAILURE)
                exchange.told += _miss_lines(SHARED_FAILURE)
                raise
            return stale
        if answered is None:
            return None
        reply, recording = answered
        if recording.entry is None:
            recording.answered += 1  # counted when it is known what it cost
        else:
            self._ledger.saved(recording.entry)
        self._ledger.came_to("coalesced")
        exchange.told += b"X-Cache: coalesced\r\n"
        exchange.is_cached = True
        return reply

    async def _rearranged(self, exchange: Exchange, recording: Recording) -> Reply | None:
        if recording.size_bytes <= ARRANGED_AT_ONCE_BYTES:
            return self._context.rearrange(exchange, recording.body)
        return await asyncio.to_thread(self._context.rearrange, exchange, recording.body)

    def _lead(
        self, exchange: Exchange, question: Question, why: str, reserve: Entry | None, failures: int = 0
    ) -> Recording:
        """Have a provider asked, and take the answer down."""
        exchange.told += _miss_lines(why)
        recording = self._record(exchange, question, why, reserve)
        exchange.audience = recording
        if failures:
            recording.failures_before = failures
        return recording

    def _record(self, exchange: Exchange, question: Question, why: str, reserve: Entry | None) -> Recording:
        if self._config.partition == "shared":
            exchange.request.edit()  # what is asked is what was understood, also of a repeated field
        recording = Recording(
            question,
            why,
            self._config.max_entry,
            self._context.clock,
            None if question.shape.endswith(WHOLE) else PaceRecorder(),
            None if reserve is None else partial(self._instead, question, reserve, _miss_lines(why)),
            self._concluded,
        )
        self.flights.begin(recording)  # also without `coalesce`, so that one refresh is enough
        return recording

    def _refresh(self, exchange: Exchange, question: Question) -> None:
        """Have a new answer fetched in the background, unless one is on its way."""
        wishes = question.wishes
        if not (wishes.no_store or wishes.only_if_cached) and self.flights.find(question.key) is None:
            recording = self._record(exchange, question, "expired", None)
            if not self._context.refresh(exchange, recording):
                self.flights.end(recording)

    def _instead(
        self, question: Question, reserve: Entry, said: bytes, exchange: Exchange, error: ProxyError
    ) -> Reply | None:
        """Give an answer that is too old in place of an error.

        Args:
            said: what the client was to be told so far.
        """
        now_s = self._context.wall_clock()
        is_as_asked = is_same(reserve.shape, question.shape)
        reply = self._again(reserve) if is_as_asked else self._context.rearrange(exchange, reserve.body)
        if reply is None:
            return None
        age = age_s(reserve.stored_s, now_s)
        told = b"X-Cache: stale\r\nX-Cache-Reason: %b\r\nAge: %d\r\n" % (error.code.encode(), age)
        if is_as_asked and reserve.shape == WHOLE:
            told += reserve.head
        exchange.told = exchange.told.replace(said, b"") + told
        exchange.is_cached = True
        self._ledger.answered("stale", reserve)
        left_out = self._stale_news.admit(error.code, self._context.clock())
        if left_out is not None:
            late_s = age - reserve.ttl_s
            message = f"cache: an answer for {reserve.model} that expired {late_s:.0f} s ago stands in: {error.message}"
            self._context.events.emit("WARN", "cache_stale_served", message, code=error.code, suppressed=left_out)
        return reply

    def _concluded(self, exchange: Exchange, recording: Recording) -> None:
        """Let nobody follow it any more, and have it kept if it is to be."""
        self.flights.end(recording)
        if exchange.is_background:
            self._ledger.came_to("refresh")
        elif not exchange.is_cached:
            self._ledger.missed(recording.why)
        self._keeper.take(exchange, recording)


async def _paced(entry: Entry, cap_s: float) -> AsyncIterator[bytes]:
    """Give a stream out at the pace at which it came."""
    for wait_s, data in paced(entry, cap_s):
        if wait_s:
            await asyncio.sleep(wait_s)
        yield data


def _miss_lines(why: str) -> bytes:
    return b"X-Cache: miss\r\nX-Cache-Reason: %b\r\n" % why.encode()
