"""Which answers are kept: whole ones that another call would have to pay for again; and what is noted of them."""

from typing import Final

import orjson

from plugins.cache.entry import Entry
from plugins.cache.question import WHOLE, Questions, pack
from plugins.cache.recording import Recording
from proxy.exchange import Exchange

TOOL_MARKS: Final = (b'"tool_calls"', b'"tool_use"', b'"function_call"', b'"functionCall"')
"""What stands in every answer that calls a tool, in one format or another; in a text its quotes would be escaped."""


def why_not_kept(recording: Recording, *, may_call_tools: bool) -> str | None:
    """Say why an answer is not kept; None if it may be."""
    if recording.state != "whole":
        return "not whole"
    if recording.is_cut_short:
        return "larger than maxEntry"
    body = recording.body
    if not may_call_tools and any(mark in body for mark in TOOL_MARKS):
        return "calls a tool"
    if recording.question.shape.endswith(WHOLE) and not _is_json(body):
        return "not JSON"
    return None


def entry_of(exchange: Exchange, recording: Recording, questions: Questions, stored_s: float, ttl_s: float) -> Entry:
    """Make the entry of an exchange that has ended."""
    usage, attempt, request, question = exchange.usage, exchange.attempt, exchange.request, recording.question
    price = None if attempt is None else attempt.price
    return Entry(
        key=question.key,
        partition=questions.partition(exchange),
        format=request.operation.format,
        operation=request.operation.name,
        model=request.model,
        status=recording.status,
        head=recording.head,
        body=recording.body,
        shape=question.shape,
        stored_s=stored_s,
        ttl_s=ttl_s,
        pace=b"" if recording.pace is None else recording.pace.packed(),
        served_model=exchange.served_model,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        cost_usd=None if usage is None or price is None else price.cost_usd(usage),
        latency_s=exchange.duration_s or 0.0,
        parts=pack(questions.digests(exchange, question.targets, question.wishes.salt)),
    )


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
