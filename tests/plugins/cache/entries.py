"""Entries for tests, and a strategy for arbitrary ones."""

from hashlib import blake2b
from typing import Any

from hypothesis import strategies as st

from plugins.cache.entry import Entry


def digest(name: object) -> bytes:
    """A key as the cache makes them: 16 bytes that look random, the same in every run."""
    return blake2b(str(name).encode(), digest_size=16).digest()


def make_entry(name: object = "a", **fields: Any) -> Entry:
    given: dict[str, Any] = {
        "key": digest(name),
        "partition": "cred:0123456789abcdef",
        "format": "openai",
        "operation": "chat",
        "model": "gpt-4o",
        "status": 200,
        "head": b"Content-Type: application/json\r\n",
        "body": b'{"choices":[]}',
        "shape": "whole",
        "stored_s": 1000.0,
        "ttl_s": 60.0,
    }
    return Entry(**given | fields)


AMOUNTS = st.floats(0, 1e12, allow_nan=False)
TOKENS = st.none() | st.integers(0, 2**53)
NAMES = st.text(st.characters(codec="utf-8"), max_size=30)
LINES = st.lists(
    st.binary(max_size=20).map(lambda value: b"X-A: " + value.translate(None, b"\r\n\0") + b"\r\n"), max_size=4
).map(b"".join)

ENTRIES = st.builds(
    Entry,
    key=st.binary(min_size=16, max_size=32),
    partition=NAMES,
    format=NAMES,
    operation=NAMES,
    model=st.none() | NAMES,
    status=st.integers(200, 299),
    head=LINES,
    body=st.binary(max_size=200),
    shape=NAMES,
    stored_s=AMOUNTS,
    ttl_s=AMOUNTS,
    pace=st.integers(0, 5).flatmap(lambda parts: st.binary(min_size=8 * parts, max_size=8 * parts)),
    served_model=st.none() | NAMES,
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cost_usd=st.none() | AMOUNTS,
    latency_s=AMOUNTS,
)
