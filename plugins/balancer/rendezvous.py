"""Keeps a session where it is: weighted rendezvous hashing."""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Final

from proxy.exchange import Candidate

HASH_BYTES: Final = 8


def by_session(equals: Sequence[Candidate], session: bytes) -> list[Candidate]:
    """Put the candidates in the order that belongs to a session, in every process and after every restart.

    Sessions are shared by weight. One that is added takes its share evenly from the others, one that goes gives
    its own to them; every other session stays where it is. The second place holds as firmly as the first.

    Args:
        session: digest of what names it.
    Source:
        Thaler, Ravishankar: Using name-based mappings to increase hit rates (1998); weights by the logarithmic
        method of Schindelhauer, Schomaker: Weighted distributed hash tables (2005).
    """

    def distance(candidate: Candidate) -> float:
        identity = f"{candidate.provider}/{candidate.model}".encode("utf-8", "surrogatepass")
        digest = blake2b(session + identity, digest_size=HASH_BYTES).digest()
        place = (int.from_bytes(digest) + 0.5) / (1 << 8 * HASH_BYTES)  # above 0, at most 1
        return -log(place) / candidate.weight

    return sorted(equals, key=distance)
