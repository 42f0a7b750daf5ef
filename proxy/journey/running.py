"""What is shown of a request in work: how far it is, for whom, and at which provider."""

from typing import Literal

from proxy.exchange import Attempt, Exchange, JsonObject
from proxy.redaction import mask_of

Phase = Literal["queued", "plugins", "waiting_for_provider", "first_byte", "streaming", "backoff"]

MOST_CHARS = 200


def phase_of(exchange: Exchange) -> Phase:
    """Tell what an exchange does now.

    Returns:
        queued: waits for one of the process's `maxConcurrency`; plugins: in `pre_request`; waiting_for_provider: for
        one of the provider's `maxConcurrency`; first_byte: a provider was asked, and no output has come; streaming: its
        response is on its way; backoff: waits before a provider is asked again.
    """
    if exchange.waits_for is not None:
        return "waiting_for_provider"
    if not exchange.has_slot:
        return "backoff" if exchange.attempts else "queued"
    if exchange.bytes_out:
        return "streaming"
    running = [attempt for attempt in exchange.attempts if attempt.duration_s is None]
    if running:
        return "first_byte" if all(attempt.first_byte_s is None for attempt in running) else "streaming"
    return "backoff" if exchange.attempts else "plugins"


def running_row(exchange: Exchange, now_s: float) -> JsonObject:
    """Show one request, its caller's key masked.

    Returns:
        `{"id", "traceId", "phase", "ageMs": float, "model", "provider", "operation", "streaming": bool, "bytesOut":
        int, "attempts": int, "lastFailure": str | None, "peer", "caller": mask | None}`.
    """
    request = exchange.request
    failed = next((one for one in reversed(exchange.attempts) if one.error is not None), None)
    return {
        "id": exchange.id,
        "traceId": exchange.trace_id,
        "phase": phase_of(exchange),
        "ageMs": round((now_s - exchange.received_s) * 1000, 1),
        "model": None if request.model is None else request.model[:MOST_CHARS],
        "provider": exchange.waits_for or exchange.provider or exchange.named_provider,
        "operation": f"{request.operation.format}.{request.operation.name}",
        "streaming": request.is_streaming,
        "bytesOut": exchange.bytes_out,
        "attempts": len(exchange.attempts),
        "lastFailure": None if failed is None else _failure(failed),
        "peer": exchange.peer,
        "caller": None if exchange.caller is None else mask_of(exchange.caller),
    }


def _failure(attempt: Attempt) -> str:
    name = attempt.provider if attempt.model is None else f"{attempt.provider}/{attempt.model[:MOST_CHARS]}"
    status = "" if attempt.status is None else f", status {attempt.status}"
    return f"{name}: {attempt.kind or attempt.error}{status}"
