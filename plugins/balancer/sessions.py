"""Which session a request belongs to: named by a header, or known by the beginning of its prompt."""

from hashlib import blake2b
from typing import Any, Final

from plugins.balancer.beginning import Beginning
from proxy.exchange import JsonObject, Request

DIGEST_BYTES: Final = 16

NAMES: Final = ("prompt_cache_key", "conversation")
"""Keys of OpenAI's format by which a client names the conversation itself."""


def session_of_header(request: Request, name: bytes) -> bytes | None:
    """Digest what a header names; None where it is not there or empty.

    Args:
        name: in lower case.
    """
    value = request.header(name)
    return blake2b(value, digest_size=DIGEST_BYTES).digest() if value else None


def session_of_prompt(request: Request) -> bytes | None:
    """Digest what all turns of a conversation have alike; None where nothing is known of it.

    That is the model and the name that the client gives the conversation, else its beginning.
    """
    document = request.document
    if not document:
        return None
    name = _name_of(document)
    texts = [name] if name else Beginning(document).texts
    if not texts:
        return None
    whole = "\0".join([request.model or "", *texts])
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _name_of(document: JsonObject) -> str | None:
    for key in NAMES:
        value: Any = document.get(key)  # Any: the client's JSON
        if isinstance(value, dict):
            value = value.get("id")
        if isinstance(value, str) and value:
            return value[:1024]
    return None
