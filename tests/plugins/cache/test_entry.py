"""What an entry says of itself."""

import gc
import tracemalloc

import pytest

from plugins.cache.entry import Entry
from tests.plugins.cache.entries import make_entry


@pytest.mark.parametrize(("body_bytes", "most"), [(64, 1.2), (100, 1.2), (1024, 1.1), (20_000, 1.01)])
def test_size_is_what_memory_grows_by(body_bytes: int, most: float) -> None:
    """What the allocators round up by is counted, and not seen by tracemalloc: it tells in small entries."""

    def make(number: int) -> Entry:
        return make_entry(
            number,
            head=b"Content-Type: application/json\r\nX-Request-Id: %032d\r\n" % number,
            body=bytes(body_bytes),
            model=f"gpt-4o-{number}",
            served_model=f"gpt-4o-2024-08-06-{number}",
            stored_s=1000.5 + number,
            ttl_s=60.5 + number,
            input_tokens=1000 + number,
            output_tokens=2000 + number,
            cost_usd=number / 7,
            latency_s=number / 3,
        )

    gc.collect()
    tracemalloc.start()
    entries = [make(number) for number in range(1000)]
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    reported = sum(entry.size_bytes for entry in entries)
    print(f"{body_bytes} bytes of body: {reported / grown:.3f} of what tracemalloc saw")
    assert 1 <= reported / grown < most


def test_size_grows_with_each_part_that_a_client_or_provider_chooses() -> None:
    bare = make_entry().size_bytes

    for part in ("head", "body", "pace"):
        assert make_entry(**{part: bytes(5000)}).size_bytes > bare + 4900
    for name in ("model", "served_model"):
        assert make_entry(**{name: "x" * 5000}).size_bytes > bare + 4900
    assert make_entry(partition="x" * 5000).size_bytes > bare + 2400
