"""Requests of one connection share what was worked out of the last one: only as far as they are alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from plugins.cache.question import MOST_REMEMBERED_BYTES, Question, Questions
from proxy.callers import Identity
from proxy.exchange import Candidate, Exchange
from proxy.testing import FakeProvider, ProxyHarness, RawClient
from tests.plugins.cache.asking import TARGETS, exchange_of, questions
from tests.plugins.cache.rig import CHAT, CONTENTS, GEMINI, MODEL, begin, change, said

CHAT_PATH, COMPLETIONS_PATH = "/v1/chat/completions", "/v1/completions"
BOTH = {**CHAT, "prompt": "Capital of France?"}
"""Understood as a chat and as a completion."""

ASKED = {"contents": CONTENTS}


class Connection:
    """Asks one after the other."""

    def __init__(self, client: RawClient) -> None:
        self._client = client

    async def ask(self, document: Mapping[str, Any] = CHAT, path: str = CHAT_PATH, **headers: str) -> str | None:
        """Give what came of it."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return said(await self._client.request("POST", path, orjson.dumps(document), named))[1]


@pytest.mark.parametrize(
    ("format", "one", "other"),
    [
        ("openai", (CHAT,), ({**CHAT, "model": "other"},)),
        ("openai", (BOTH, CHAT_PATH), (BOTH, COMPLETIONS_PATH)),
        ("openai", (CHAT, f"{CHAT_PATH}?a=1"), (CHAT, f"{CHAT_PATH}?a=2")),
        ("gemini", (ASKED, f"{GEMINI}:generateContent?key=a"), (ASKED, f"{GEMINI}:generateContent?key=b")),
    ],
    ids=["model", "path", "query", "key in the query"],
)
async def test_what_differs_is_asked_apart(
    proxy: ProxyHarness, upstream: FakeProvider, format: str, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    await begin(proxy, upstream, format)

    async with RawClient(proxy.url) as client:
        outcomes = [await Connection(client).ask(*each) for each in (one, other, one, other)]

    assert outcomes == ["miss", "miss", "hit", "hit"]


@pytest.mark.parametrize("document", [{"prompt": "Capital of France?"}, {**CHAT, "model": "named"}])
async def test_other_settings_are_heeded_at_once(
    proxy: ProxyHarness, upstream: FakeProvider, document: dict[str, Any]
) -> None:
    path = CHAT_PATH if "model" in document else "/"
    await proxy.start(
        providers={"vendor": upstream.provider()},
        cache={"enabled": True},
        native={"defaultModel": "first"},
        models={"named": ["vendor/first"]},
    )

    async with RawClient(proxy.url) as client:
        asked = Connection(client)
        before = [await asked.ask(document, path, X_Team="a") for _ in range(2)]
        await change(proxy, {"native": {"defaultModel": "second"}, "models": {"named": ["vendor/second"]}})
        other_model = await asked.ask(document, path, X_Team="a")
        await change(proxy, {"cache": {"headers": ["x-team"]}})
        other_headers = [await asked.ask(document, path, X_Team="a") for _ in range(2)]

    assert (before, other_model, other_headers) == (["miss", "hit"], "miss", ["miss", "hit"])


# -- without a proxy -------------------------------------------------------------------------------------------------


class Reader:
    """Reads requests whose headers stand in the same bytes, and counts how often it must look up who has the model."""

    def __init__(self, asked: Questions) -> None:
        self._asked = asked
        self._memo: dict[object, Any] = {}
        self.looked_up = 0

    def read(self, exchange: Exchange, targets: Sequence[Candidate] = TARGETS) -> Question:
        exchange.request.memo = self._memo
        return self._asked.read(exchange, lambda _: self._look_up(targets))

    def _look_up(self, targets: Sequence[Candidate]) -> Sequence[Candidate]:
        self.looked_up += 1
        return targets


def chat(headers: Mapping[str, str] | None = None, **fields: Any) -> Exchange:
    return exchange_of(CHAT_PATH, {**CHAT, **fields}, headers)


def test_like_requests_are_looked_up_once() -> None:
    reader = Reader(questions())

    keys = [reader.read(chat(seed=seed)).key for seed in (1, 2, 1)]

    assert (keys[0] == keys[2] != keys[1], reader.looked_up) == (True, 1)


def test_same_request_under_another_revision_is_looked_up_anew() -> None:
    reader, later = Reader(questions()), chat()
    later.revision = 7

    keys = [reader.read(chat()).key, reader.read(later, [Candidate("other", MODEL)]).key]

    assert (keys[0] != keys[1], reader.looked_up) == (True, 2)


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("identity", Identity("1", "ann"), Identity("2", "bob")),
        ("caller", "sk-1", "sk-2"),
        ("named_provider", "a", "b"),
    ],
)
def test_what_the_same_bytes_were_found_to_mean_is_told_apart(field: str, one: Any, other: Any) -> None:
    reader, exchanges = Reader(questions()), [chat() for _ in range(3)]
    for exchange, content in zip(exchanges, (one, other, one), strict=True):
        setattr(exchange, field, content)

    keys = [reader.read(each, [Candidate(each.named_provider or "v", MODEL)]).key for each in exchanges]

    assert keys[0] == keys[2] != keys[1]


def test_caller_who_is_known_by_identity_has_its_partition_whatever_the_scheme() -> None:
    exchange = chat({"Authorization": "Basic YTpi"})
    exchange.identity = Identity("7", "ann")

    assert Reader(questions()).read(exchange).partition == exchange.caller_id
    assert exchange.caller_id.endswith("7")


@pytest.mark.parametrize(("length", "looked_up"), [(MOST_REMEMBERED_BYTES // 2, 1), (MOST_REMEMBERED_BYTES, 2)])
def test_what_is_long_is_not_remembered(length: int, looked_up: int) -> None:
    reader, headers = Reader(questions()), {"X-Cache-Salt": "s" * length}

    keys = [reader.read(chat(headers)).key for _ in range(2)]

    assert (keys[0] == keys[1], reader.looked_up) == (True, looked_up)
