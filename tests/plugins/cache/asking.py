"""Exchanges as the data side makes them, without a socket."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from plugins.cache.question import Question, Questions
from plugins.cache.settings import CacheConfig
from proxy.exchange import Candidate, Exchange, Request
from proxy.formats.json_body import parse_object
from proxy.formats.registry import FORMATS
from proxy.server.data import query_key
from proxy.server.facts import HeaderFacts
from proxy.server.routes import Routes

ROUTES = Routes(FORMATS.values())
TARGETS = (Candidate("vendor", "fake-model"),)


def questions(**settings: Any) -> Questions:
    """Tell questions apart under these settings."""
    return Questions(CacheConfig.model_validate(settings))


def exchange_of(
    path: str, document: Mapping[str, Any] | bytes, headers: Mapping[str, str] | list[tuple[str, str]] | None = None
) -> Exchange:
    """Make an exchange of a POST; a document in bytes is the body as it stands."""
    given = list(headers.items()) if isinstance(headers, Mapping) else headers or []
    facts = HeaderFacts(tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in given))
    split = urlsplit(path)
    query = split.query.encode("latin-1")
    match = ROUTES.find("POST", split.path, query, facts.fields)
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    parsed = parse_object(body)
    model, is_streaming = parsed.get("model"), parsed.get("stream") is True
    if match.operation.format != "native":  # which refuses fields it does not know, and the key must not rely on that
        model, is_streaming, _ = FORMATS[match.operation.format].interpret(match.operation, match.model, parsed)
    request = Request(
        match.operation,
        method="POST",
        path=split.path.encode(),
        query=query,
        headers=facts.headers,
        body=body,
        document=parsed,
        model=model,
        is_streaming=is_streaming,
        fields=facts.fields,
        memo=facts.memo,
    )
    caller = facts.caller or (query_key(query) if query else None)
    return Exchange(request, id="r-1", received_s=0.0, peer="10.0.0.1", caller=caller)


def question_of(asked: Questions, exchange: Exchange, targets: Any = TARGETS) -> Question:
    """Read what an exchange asks, by a revision of its own for each list of targets."""
    exchange.revision = hash(repr(targets))
    return asked.read(exchange, lambda _: targets)


def parts_of(asked: Questions, exchange: Exchange, targets: Any = TARGETS) -> dict[str, bytes]:
    """Take it apart."""
    return asked.parts(question_of(asked, exchange, targets).about, exchange.request.document or {})
