"""What response headers tell of the attempts behind a response."""

from proxy.exchange import Attempt, Exchange


def attempt_lines(exchange: Exchange, provider: str | None = None) -> bytes:
    """Write `X-Provider`, `X-Attempts` and, where there were some, `X-Failed-Attempts`, each with its CRLF.

    The last is a list (RFC 9651, 3.1): `openai;kind=rate-limit;status=429, azure;kind=timeout`.

    Args:
        provider: who answers, where the exchange does not say so yet: of two at once, nobody has won before the first
            byte.
    """
    lines = []
    if (provider := provider or exchange.provider) is not None:
        lines.append(b"X-Provider: %b\r\n" % provider.encode("latin-1", "replace"))
    if attempts := exchange.attempts:
        lines.append(b"X-Attempts: %d\r\n" % len(attempts))
        if failed := [_failed(attempt) for attempt in attempts if attempt.error is not None]:
            lines.append(b"X-Failed-Attempts: %b\r\n" % ", ".join(failed).encode("latin-1", "replace"))
    return b"".join(lines)


def _failed(attempt: Attempt) -> str:
    parts = [attempt.provider, f"kind={attempt.kind or attempt.error}"]
    if attempt.status is not None and attempt.status >= 400:
        parts.append(f"status={attempt.status}")
    return ";".join(parts)
