"""A provider's own error: what it says, and the reply itself while it is kept from the client."""

from math import ceil
from typing import Final

from proxy.errors import UpstreamAuth, UpstreamError, UpstreamRejected
from proxy.formats.vendor_error import read_vendor_error
from proxy.routing.quota import retry_after_s, should_retry
from proxy.sink import ResponseHead, Sink

KEY_STATUSES: Final = frozenset({401, 403})


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

    def come_back_after(self, wait_s: float) -> None:
        """Tell another time to come back than the provider did, in whole seconds as it is sent."""
        if self.retry_after_s is None or ceil(self.retry_after_s) != ceil(wait_s):
            lines = _without(self._head_lines, (b"retry-after:", b"retry-after-ms:"))
            self._head_lines = lines + b"Retry-After: %d\r\n" % ceil(wait_s)
        self.retry_after_s = wait_s

    def deliver(self, sink: Sink, told: bytes, *, is_final: bool) -> None:
        """Send it to the client as it is.

        Args:
            told: header lines of our own, each with its CRLF.
            is_final: retries were made here; SDKs are asked not to multiply them.
        """
        lines = self._head_lines
        if is_final:
            lines = with_last_word(lines)
        sink.start(self.status, lines + told, self._length, self._has_body)
        sink.write(self._body)
        sink.finish()


def with_last_word(lines: bytes) -> bytes:
    """Ask SDKs in the header lines of a reply not to retry, whatever the vendor says of that."""
    return _without(lines, (b"x-should-retry:",)) + b"x-should-retry: false\r\n"


def _without(lines: bytes, names: tuple[bytes, ...]) -> bytes:
    """Take header lines out; the names are in lower case, with their colons."""
    return b"\r\n".join(line for line in lines.split(b"\r\n") if not line.lower().startswith(names))


def refusal(
    name: str, head: ResponseHead, body: bytes, *, holds_key: bool, is_quoted: bool, wall_s: float
) -> UpstreamError:
    """Make the error that a provider's refusal is.

    Args:
        name: the provider's.
        body: as far as it came.
        holds_key: it was sent a key that this proxy holds for it.
        is_quoted: the client reads the vendor's words in our message, because it cannot have the reply itself.
        wall_s: the present Unix time, for dates.
    """
    status, said = head.status, read_vendor_error(body)
    if holds_key and (status in KEY_STATUSES or said.is_key_refused):
        return UpstreamAuth(
            f"{name} refused the key that this proxy holds for it (status {status}); check providers.{name}.apiKey",
            provider=name,
        )
    message = f"{name} answered with status {status}"
    wait_s = retry_after_s(head.lines, wall_s)
    return UpstreamRejected(
        f"{message}: {said.text}" if said.text and is_quoted else message,
        status=status,
        provider=name,
        retry_after_s=said.retry_after_s if wait_s is None else wait_s,
        vendor_code=said.code,
        vendor_text=said.text,
        should_retry=should_retry(head.lines),
    )
