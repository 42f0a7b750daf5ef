"""One kept answer: its bytes, whose it is, what it cost, and what keeping it takes."""

import sys
from dataclasses import dataclass
from typing import Final

ALIGNMENT_BYTES: Final = 16
"""Of CPython's own allocator and of the C library's."""

NUMBERS_BYTES: Final = 6 * 32
"""Four floats and three integers; the status is one of those that exist once."""


@dataclass(slots=True)
class Entry:
    """A complete successful answer. Nobody changes it once it is made, which is cheaper without being enforced.

    Args:
        key: digest of the whole request, the partition included; at least 8 bytes.
        partition: whose it is; only requests of the same one may get it.
        format: wire format of the answer, that of the client's path.
        operation: name of the operation, `chat` say.
        model: as asked for, after aliasing; None where the path names none.
        status: of the answer, 2xx.
        head: end-to-end header lines, each with its CRLF, without the blank line.
        body: as it was sent to the client, without chunk framing.
        shape: how the body comes: `whole`, or which kind of stream; see `question.shape_of`.
        stored_s: wall clock when the answer was complete.
        ttl_s: how long it is fresh from then.
        pace: when each part of the stream came, see `replay`; empty for others.
        served_model: as the provider named it.
        cost_usd: price of the call that made it; None where no price or usage is known.
        latency_s: how long that call took, to the last byte.
    """

    key: bytes
    partition: str
    format: str
    operation: str
    model: str | None
    status: int
    head: bytes
    body: bytes
    shape: str
    stored_s: float
    ttl_s: float
    pace: bytes = b""
    served_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_s: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Memory that is free again when the entry goes; entries of one caller have its name in common, or not."""
        size_bytes = BARE_BYTES + len(self.body) + len(self.head) + len(self.pace)
        if self.pace:
            size_bytes += PART_BYTES
        return size_bytes + len(self.partition) // 2 + len(self.model or "") + len(self.served_model or "")


def _room(part: object) -> int:
    """Memory that one object takes of its allocator."""
    return (sys.getsizeof(part) + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


PART_BYTES: Final = _room(b"") + ALIGNMENT_BYTES // 2
"""What a part takes besides its content, the allocator's rounding included."""

BARE_BYTES: Final = (
    _room(Entry(b"", "", "", "", None, 200, b"", b"", "", 0.0, 0.0))
    + NUMBERS_BYTES
    + _room(bytes(16))  # the key
    + 2 * PART_BYTES  # head and body
    + 2 * _room("")  # both names of the model
)
"""An entry without its parts."""
