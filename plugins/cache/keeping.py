"""Which answers are kept: whole ones that another call would have to pay for again; and what is noted of them."""

import re
from typing import Final

import orjson

from plugins.cache.entry import Entry
from plugins.cache.question import ARRAY, WHOLE
from plugins.cache.recording import Recording
from proxy.exchange import Exchange

ENCODED: Final = re.compile(rb"^content-encoding:", re.IGNORECASE | re.MULTILINE)
"""Nobody here can tell whether such an answer is whole, tells an error or calls a tool."""


def why_not_kept(exchange: Exchange, recording: Recording) -> str | None:
    """Say why an answer is not kept; None if it may be, as far as its form goes."""
    if recording.state != "whole":
        return "not whole"
    if recording.is_cut_short:
        return "larger than maxEntry"
    if exchange.fault is not None:
        return "it tells an error"
    if ENCODED.search(recording.head) is not None:
        return "encoded"
    shape = recording.question.shape
    if exchange.usage is None and (shape.endswith(WHOLE) or shape == ARRAY) and not _is_json(recording.body):
        return "not JSON"
    return None


def entry_of(exchange: Exchange, recording: Recording, stored_s: float, ttl_s: float) -> Entry:
    """Make the entry of an exchange that has ended."""
    usage, attempt, request, question = exchange.usage, exchange.attempt, exchange.request, recording.question
    price = None if attempt is None else attempt.price
    return Entry(
        question.key,
        question.partition,
        request.operation.format,
        request.operation.name,
        request.model,
        recording.status,
        recording.head,
        recording.body,
        question.shape,
        stored_s,
        ttl_s,
        b"" if recording.pace is None else recording.pace.packed(),
        exchange.served_model,
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.output_tokens,
        None if usage is None or price is None else price.cost_usd(usage),
        exchange.duration_s or 0.0,
    )


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
