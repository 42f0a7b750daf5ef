"""Recorded replies as answers to later requests."""

import time

from proxy.exchange import Exchange, Reply
from proxy.formats.rearrange import rearrange
from proxy.formats.registry import FORMATS
from proxy.formats.traits import has_tool_calls


def calls_tool(exchange: Exchange, body: bytes) -> bool:
    """Tell whether a recorded reply to an exchange calls a tool; in doubt, yes."""
    request = exchange.request
    return has_tool_calls(request.operation, body, request.is_streaming)


def rearranged(exchange: Exchange, body: bytes) -> Reply | None:
    """Make a recorded reply the answer to an exchange of the same format and operation.

    Args:
        body: the whole body of a successful reply, decompressed: a stream as it was sent, or one JSON object.
    Returns:
        The answer in the manner in which the exchange asks for it; None if there is no exact one.
    """
    request = exchange.request
    operation, is_streaming = request.operation, request.is_streaming
    wire = FORMATS[operation.format]
    whole = rearrange(operation, body, is_streaming=False)
    if whole is None:
        return None
    latency_ms = (time.monotonic() - exchange.received_s) * 1000
    own = wire.as_repeated(whole, exchange.trace_id, latency_ms)
    if is_streaming:
        options = (request.document or {}).get("stream_options")
        found = rearrange(
            operation,
            body if own is None else own,
            is_streaming=True,
            with_usage=isinstance(options, dict) and options.get("include_usage") is True,
            is_array=operation.format == "gemini" and b"alt=sse" not in request.query,
        )
    else:
        found = whole if own is None else own
    is_array = operation.format == "gemini" and b"alt=sse" not in request.query
    content_type = wire.stream_content_type if is_streaming and not is_array else b"application/json"
    if found is None:
        return None
    return Reply(headers=((b"Content-Type", content_type),), body=found, is_stream=is_streaming)
