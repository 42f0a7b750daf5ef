"""What every vendor's shapes have in common."""

from dataclasses import dataclass

import orjson

from proxy.exchange import JsonObject

CREATED_S = 1_760_000_000
CREATED_AT = "2025-10-09T08:53:20Z"


@dataclass(frozen=True, slots=True)
class StreamShape:
    """A stream in three parts: what comes before the first text, one event a text, the format's own end."""

    before: tuple[bytes, ...]
    texts: tuple[bytes, ...]
    end: tuple[bytes, ...]
    content_type: str = "text/event-stream; charset=utf-8"
    is_sse: bool = True


def data_event(document: JsonObject) -> bytes:
    """Write a nameless server-sent event."""
    return b"data: %b\n\n" % orjson.dumps(document)


def named_event(document: JsonObject) -> bytes:
    """Write a server-sent event whose name is the `type` of its JSON."""
    return b"event: %b\ndata: %b\n\n" % (str(document["type"]).encode(), orjson.dumps(document))
