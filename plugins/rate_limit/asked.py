"""A caller and a request as an operator names them: by id, name, address or key, and by model."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from proxy.callers import Identity, digest_of, is_address
from proxy.errors import ClientError
from proxy.exchange import Exchange, Operation, Request

CHAT: Final = Operation("openai", "chat", "POST", "/v1/chat/completions", streams=True)

CALLER_ID: Final = re.compile(r"key:.+|credential:[0-9a-f]{32}|peer:.*")


class Asked(Exchange):
    """A request that nobody makes, by a caller of whom only the id may be known."""

    given_id = ""

    @property
    def caller_id(self) -> str:
        """Who it would count for."""
        return self.given_id or super().caller_id


async def caller_id_of(text: str, shown_as: Callable[[str], Awaitable[str | None]]) -> str:
    """Find the id of a caller that no plugin knows.

    Args:
        text: an id as `GET /rate-limits` shows it, a name or address that it shows, or else a key in clear.
        shown_as: finds an id by what is shown.
    """
    if CALLER_ID.fullmatch(text):
        return text
    return await shown_as(text) or (f"peer:{text}" if is_address(text) else f"credential:{digest_of(text)}")


def asked(
    query: Mapping[str, str], caller_id: str | None, received_s: float, identity: Identity | None = None
) -> Asked:
    """Make the request that a query describes.

    Args:
        query: `model`, `ip`, `inputChars`, `maxTokens`, and `header.NAME`.
        caller_id: None for nobody in particular.
        identity: whom the caller was recognised as, where that is known.
    Raises:
        ClientError: a number is none.
    """
    model = query.get("model") or None
    most = _number(query, "maxTokens")
    headers = [
        (name.removeprefix("header.").encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in query.items()
        if name.startswith("header.")
    ]
    request = Request(
        CHAT,
        method="POST",
        path=b"/v1/chat/completions",
        headers=headers,
        body=b"{}",
        document={"messages": "x" * min(_number(query, "inputChars") or 0, 10_000_000)},
        model=model,
        max_output_tokens=most,
    )
    exchange = Asked(request, id="explain", received_s=received_s, peer=query.get("ip", ""))
    if caller_id is not None:
        exchange.given_id = caller_id
        kind, _, rest = caller_id.partition(":")
        if kind == "key":
            exchange.identity = identity or Identity(rest, rest)
        elif kind == "peer" and not exchange.peer:
            exchange.peer = rest
    exchange.is_dry_run = True
    return exchange


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ClientError(f"?{name}: is a whole number")
    return int(text)
