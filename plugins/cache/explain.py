"""What would become of a request: whether it would hit, and which part of it makes it miss."""

from collections.abc import Mapping

import orjson

from plugins.cache.asked import Nearest
from plugins.cache.codec import decode
from plugins.cache.desk import KEPT_OPERATIONS, Desk
from plugins.cache.entry import Entry
from plugins.cache.freshness import age_s, judge
from plugins.cache.listing import Callers, row
from plugins.cache.memory import MemoryStore
from plugins.cache.question import Question, is_same, why_stateful
from plugins.cache.shared import SharedEntries
from proxy.callers import Identity
from proxy.errors import ClientError
from proxy.exchange import Exchange, JsonObject
from proxy.plugin import AdminRequest, PluginContext
from proxy.store import StoreUnavailable

DEFAULT_PATH = "/v1/chat/completions"
MEMBERS = ("method", "path", "headers", "body", "keyId")


class Explainer:
    """Tells what would become of requests; changes nothing."""

    def __init__(
        self, context: PluginContext, desk: Desk, store: MemoryStore, shared: SharedEntries, callers: Callers
    ) -> None:
        self._context = context
        self._desk = desk
        self._store = store
        self._shared = shared
        self._callers = callers

    async def explain(self, exchange: Exchange, *, is_shared: bool) -> JsonObject:
        """Tell what would become of an exchange.

        Returns:
            `{"wouldHit": bool, "outcome": "hit" | "stale" | "coalesced" | "miss" | "bypass", "reason": str, "key",
            "caller", "entry": {...} | None, "nearest": {"key", "ageS", "differs": [part]} | None}`.
        Raises:
            ProxyError: nobody has the model.
        """
        request = exchange.request
        if request.operation.name not in KEPT_OPERATIONS or request.document is None:
            return _verdict("bypass", f"nothing is kept of {request.operation.format}.{request.operation.name}")
        if (field := why_stateful(request.document)) is not None:
            return _verdict("bypass", f"{field} is set, so that the answer depends on what the vendor holds")
        question = self._desk.questions.read(exchange, self._context.targets)
        try:
            entry = await self._find(question, is_shared=is_shared)
        except StoreUnavailable as error:
            return _verdict("miss", error.message)
        now_s = self._context.wall_clock()
        outcome, reason = self._judge(exchange, question, entry, now_s)
        told = _verdict(outcome, reason)
        told["key"] = question.key.hex()
        told["caller"] = self._callers.name(question.partition)
        told["entry"] = None if entry is None else row(entry, self._callers, now_s)
        if entry is None:
            nearest = await self._desk.last_asked.nearest(self._desk.questions, question, request.document)
            told["nearest"] = None if nearest is None else _show(nearest, now_s)
        return told

    async def _find(self, question: Question, *, is_shared: bool) -> Entry | None:
        if not is_shared:
            return self._store.peek(question.key, self._context.wall_clock())
        found = await self._shared.get(question.key)
        return None if found is None else decode(found, question.key)

    def _judge(self, exchange: Exchange, question: Question, entry: Entry | None, now_s: float) -> tuple[str, str]:
        if question.wishes.is_bypass:
            return "bypass", "the request asks for it"
        if entry is not None:
            verdict = judge(entry.stored_s, entry.ttl_s, now_s, self._desk.windows, question.wishes)
            if verdict.outcome != "miss":
                can_be_given = is_same(entry.shape, question.shape) or self._context.rearrange(exchange, entry.body)
                return (verdict.outcome, verdict.reason) if can_be_given else ("miss", "kept in another form")
        else:
            verdict = None
        if self._desk.joinable(question) is not None:
            return "coalesced", "the same question is being answered now"
        return "miss", "absent" if verdict is None else verdict.reason


def read_asked(context: PluginContext, request: AdminRequest) -> Exchange:
    """Make the exchange that an operator describes.

    Args:
        request: its body is `{"path", "method", "headers": {name: value}, "body": {...}, "keyId"}`, or just the JSON
            body of a chat completion.
    Raises:
        ClientError: it cannot be read, or would be refused.
    """
    asked = request.body
    if not isinstance(asked, dict):
        raise ClientError('send the request as {"path", "headers", "body"}, or just its JSON body')
    if not isinstance(asked.get("body"), dict):
        asked = {"body": asked}
    for name in asked:
        if name not in MEMBERS:
            raise ClientError(f"{name[:64]!a} is not known here; there are {', '.join(MEMBERS)}")
    headers, key_id = asked.get("headers", {}), asked.get("keyId")
    texts = (asked.get("method", "POST"), asked.get("path", DEFAULT_PATH), "" if key_id is None else key_id)
    if not isinstance(headers, Mapping) or not all(isinstance(each, str) for each in (*texts, *headers.values())):
        raise ClientError("method, path, keyId and the values of headers are texts")
    exchange = context.imagine(texts[0], texts[1], headers, orjson.dumps(asked["body"]), request.peer)
    if key_id:
        exchange.identity = context.identify(key_id, False) or Identity(key_id, key_id)
    return exchange


def _verdict(outcome: str, reason: str) -> JsonObject:
    return {
        "wouldHit": outcome in ("hit", "stale"),
        "outcome": outcome,
        "reason": reason,
        "key": None,
        "caller": None,
        "entry": None,
        "nearest": None,
    }


def _show(nearest: Nearest, now_s: float) -> JsonObject:
    asked = nearest.asked
    return {"key": asked.key.hex(), "ageS": round(age_s(asked.at_s, now_s), 1), "differs": nearest.differs}
