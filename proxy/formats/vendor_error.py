"""What the body of a vendor's error says: its code, its words, when to come back, whether it is about the key."""

import re
from typing import Final, NamedTuple

import orjson

from proxy.exchange import JsonObject
from proxy.formats.fields import Json, as_list, as_object, as_text

MOST_CODE_CHARS: Final = 100
MOST_TEXT_CHARS: Final = 500
MOST_DETAILS: Final = 20

MOST_WAIT_S: Final = 86400.0
"""Longer waits count as this, as they do in headers."""

RETRY_DELAY: Final = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)s")
KEY_REASONS: Final = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED"})
"""Google refuses a key with 400 and one of these."""


class VendorError(NamedTuple):
    """What an error body says; empty where it says nothing.

    Args:
        code: the most exact name that the vendor has for it.
        text: its words for people.
        retry_after_s: when to come back, where the body says that rather than a header.
        is_key_refused: it is about the key, whatever the status says.
    """

    code: str = ""
    text: str = ""
    retry_after_s: float | None = None
    is_key_refused: bool = False


NOTHING_SAID: Final = VendorError()


def read_vendor_error(body: bytes) -> VendorError:
    """Read an error body of any vendor; never raises.

    Source:
        WIRE.md 1.4, 3.6, 4.4, 5: `{"error": {message, type, code}}` (OpenAI, Anthropic), `{"error": {code, message,
        status, details}}` (Google, in a list where a stream was asked for), `{"error": "text"}` (Ollama); other
        servers put `message` or `detail` at the top.
    """
    try:
        document: Json = orjson.loads(body)
    except orjson.JSONDecodeError:
        return NOTHING_SAID
    if isinstance(document, list):
        document = document[0] if document else None
    top = as_object(document)
    inner = top.get("error")
    if isinstance(inner, str):
        return VendorError(text=inner[:MOST_TEXT_CHARS])
    error = as_object(inner) or top
    code = as_text(error.get("code")) or as_text(error.get("status")) or as_text(error.get("type")) or ""
    text = as_text(error.get("message")) or as_text(error.get("detail")) or ""
    wait_s, is_key_refused = _read_details(error)
    return VendorError(code[:MOST_CODE_CHARS], text[:MOST_TEXT_CHARS], wait_s, is_key_refused)


def _read_details(error: JsonObject) -> tuple[float | None, bool]:
    """Read Google's `details`: RetryInfo with `retryDelay: "17s"`, ErrorInfo with a reason."""
    wait_s: float | None = None
    is_key_refused = False
    for detail in as_list(error.get("details"))[:MOST_DETAILS]:
        fields = as_object(detail)
        if delay := RETRY_DELAY.fullmatch(as_text(fields.get("retryDelay")) or ""):
            wait_s = min(float(delay[1]), MOST_WAIT_S)
        is_key_refused |= fields.get("reason") in KEY_REASONS
    return wait_s, is_key_refused
