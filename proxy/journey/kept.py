"""A provider's own error: what it says, and the reply itself while it is kept from the client."""

import time

import orjson

from proxy.errors import UpstreamAuth, UpstreamError, UpstreamRejected
from proxy.exchange import ResponseHead, Sink
from proxy.routing.quota import retry_after_s, should_retry

MOST_CODE_CHARS = 100
MOST_TEXT_CHARS = 500


class KeptReply(UpstreamRejected):
    """A provider's own error, kept from the client so far, as it came.

    Args:
        head_lines: end-to-end headers for the client, each with its CRLF.
        length: what the head says, where there is no body (HEAD).
    """

    def __init__(self, error: UpstreamRejected, head_lines: bytes, body: bytes, length: int, *, has_body: bool) -> None:
        super().__init__(
            error.message,
            status=error.status,
            retry_after_s=error.retry_after_s,
            provider=error.provider,
            vendor_code=error.vendor_code,
            vendor_text=error.vendor_text,
            should_retry=error.should_retry,
        )
        self._head_lines = head_lines
        self._body = body
        self._length = length
        self._has_body = has_body

    def deliver(self, sink: Sink, told: bytes, *, is_final: bool) -> None:
        """Send it to the client as it is.

        Args:
            told: header lines of our own, each with its CRLF.
            is_final: retries were made here; SDKs are asked not to multiply them.
        """
        lines = self._head_lines
        if is_final:
            kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"x-should-retry:")]
            lines = b"\r\n".join(kept) + b"x-should-retry: false\r\n"
        sink.start(self.status, lines + told, self._length, self._has_body)
        sink.write(self._body)
        sink.finish()


def refusal(name: str, head: ResponseHead, body: bytes, *, is_about_our_key: bool, is_quoted: bool) -> UpstreamError:
    """Make the error that a provider's refusal is.

    Args:
        name: the provider's.
        body: as far as it came.
        is_about_our_key: it refuses the key that this proxy holds for it.
        is_quoted: the client reads the vendor's words in our message, because it cannot have the reply itself.
    """
    status = head.status
    if is_about_our_key:
        return UpstreamAuth(
            f"{name} refused the key that this proxy holds for it (status {status}); check providers.{name}.apiKey",
            provider=name,
        )
    code, text = _vendors_words(body)
    message = f"{name} answered with status {status}"
    return UpstreamRejected(
        f"{message}: {text}" if text and is_quoted else message,
        status=status,
        provider=name,
        retry_after_s=retry_after_s(head.lines, time.time()),
        vendor_code=code,
        vendor_text=text,
        should_retry=should_retry(head.lines),
    )


def _vendors_words(body: bytes) -> tuple[str, str]:
    """Find the vendor's code and words in an error body; empty where there are none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", ""
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, str):
        return "", error[:MOST_TEXT_CHARS]
    if not isinstance(error, dict):
        return "", ""
    code, kind, text = error.get("code"), error.get("type"), error.get("message")
    named = code if isinstance(code, str) else kind
    return named[:MOST_CODE_CHARS] if isinstance(named, str) else "", text[:MOST_TEXT_CHARS] if isinstance(
        text, str
    ) else ""
