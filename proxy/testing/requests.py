"""What a fake provider has seen: requests as they arrived, and connections that ended early."""

import time
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass(slots=True)
class SeenRequest:
    """One request as received; `body` grows until `is_complete`.

    Args:
        method: as on the wire.
        path: percent-encoding kept, without the query.
        query: without the `?`.
        headers: name and value in the order and case of the wire.
        at_s: when its head was complete, `time.monotonic()`.
        is_answered_early: the answer did not wait for the body.
        connection: 0 for the first connection, and so on; shows which requests shared one.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    at_s: float
    connection: int
    body: bytearray = field(default_factory=bytearray)
    is_complete: bool = False
    is_answered_early: bool = False

    def header(self, name: str) -> str | None:
        """Find the first header of this name, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    @property
    def header_names(self) -> set[str]:
        """All names, in lower case."""
        return {key.lower() for key, _ in self.headers}

    @property
    def document(self) -> Any:  # Any: the sender's JSON, of whatever shape
        """The body as JSON, None if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


@dataclass(frozen=True, slots=True)
class EarlyClose:
    """A connection that its peer closed while a request on it was unanswered.

    Args:
        request: the one that was unanswered.
        bytes_sent: of the answer, its head included; 0 if nothing was.
        at_s: when it was noticed, `time.monotonic()`.
    """

    request: SeenRequest
    bytes_sent: int
    at_s: float = field(default_factory=time.monotonic)
