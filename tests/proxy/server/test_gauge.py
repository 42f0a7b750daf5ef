"""Which limit of memory counts, and what is measured against it."""

import resource
import sys
from pathlib import Path

import orjson
import pytest

from proxy.server import gauge
from proxy.server.gauge import ADDRESS_GROWTH, Gauge
from tests.e2e.rig import ROOT, run

GB = 1 << 30

SHOW = """
import resource, sys
import orjson
from proxy.server.gauge import Gauge
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
usage = Gauge().read()
sys.stdout.buffer.write(orjson.dumps([usage.used_bytes, usage.limit_bytes, usage.limited_by, usage.growth]))
"""


@pytest.fixture
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauge, "CGROUP_LIMITS", ())


def test_machine_is_the_limit_where_there_is_no_other(no_container: None) -> None:
    usage = Gauge().read()

    assert usage.limited_by == "machine"
    assert 10 << 20 < usage.used_bytes == usage.resident_bytes < usage.limit_bytes


def test_container_goes_before_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited, limited = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    unlimited.write_text("max\n")
    limited.write_text(f"{GB}\n")
    monkeypatch.setattr(gauge, "CGROUP_LIMITS", (str(tmp_path / "none"), str(unlimited), str(limited)))

    usage = Gauge().read()

    assert (usage.limit_bytes, usage.limited_by, usage.used_bytes) == (GB, "container", usage.resident_bytes)


async def test_limit_of_the_process_is_one_of_its_addresses() -> None:
    ended = await run(sys.executable, "-c", SHOW, cwd=ROOT)

    used, limit, limited_by, growth = orjson.loads(ended.output)
    assert (limit, limited_by, growth) == (8 * GB, "process", ADDRESS_GROWTH)
    assert 10 << 20 < used < limit


def test_last_reading_stands_while_no_file_can_be_opened(no_container: None) -> None:
    meter = Gauge()
    before = meter.read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        during = meter.read()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert during == before
