"""Memory that was freed goes back to the system, and running out of it is no fault of the client."""

import sys

import orjson
import pytest

from tests.e2e.rig import ROOT, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc and /proc")

LARGE = """
import orjson, sys
from proxy.server.gauge import Gauge
from proxy.server.heap import keep_heap_small
keep_heap_small()
begin = Gauge().read().resident_bytes
for _ in range(3):
    blocks = [bytes([1]) * (1 << 20) for _ in range(100)]
    after = bytes([1]) * 1000
    full = Gauge().read().resident_bytes
    del blocks
sys.stdout.buffer.write(orjson.dumps([full - begin, Gauge().read().resident_bytes - begin]))
"""

SMALL = """
import orjson, sys
from proxy.server.gauge import Gauge
from proxy.server.heap import give_back
begin = Gauge().read().resident_bytes
blocks = [bytes([1]) * 20_000 for _ in range(5000)]
between = blocks[::10]
del blocks
freed = Gauge().read().resident_bytes
give_back()
sys.stdout.buffer.write(orjson.dumps([freed - begin, Gauge().read().resident_bytes - begin]))
"""

PARSE = """
import resource
from proxy.formats.json_body import parse_object
body = b'{"a": "' + b"x" * (30 << 20) + b'"}'
resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))
try:
    parse_object(body)
except MemoryError:
    print("MemoryError")
"""


async def test_large_blocks_go_back_when_they_are_freed() -> None:
    full, freed = orjson.loads((await run(sys.executable, "-c", LARGE, cwd=ROOT)).output)

    assert full >= 100 << 20
    assert freed <= 5 << 20


async def test_pages_between_small_blocks_are_given_back() -> None:
    freed, returned = orjson.loads((await run(sys.executable, "-c", SMALL, cwd=ROOT)).output)

    assert freed >= 80 << 20
    assert returned <= freed / 2


async def test_body_that_cannot_be_parsed_for_want_of_memory_is_not_called_malformed() -> None:
    ended = await run(sys.executable, "-c", PARSE, cwd=ROOT)

    assert (ended.output, ended.errors) == ("MemoryError\n", "")
