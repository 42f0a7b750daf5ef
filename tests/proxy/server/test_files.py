"""How many files there are to open, and how many of them clients get."""

import resource
import sys
from collections.abc import Iterator

import pytest

from proxy.server.files import room_for_clients
from tests.e2e.rig import ROOT, run


@pytest.fixture
def files() -> Iterator[None]:
    """Limits may be lowered; they come back."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("files_there", "concurrency", "room"),
    [(1024, 100, 760), (1024, 5, 950), (256, 100, 128), (256, 1000, 128), (64, 1, 32)],
)
def test_clients_leave_files_for_providers_and_for_itself(
    files: None, files_there: int, concurrency: int, room: int
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    resource.setrlimit(resource.RLIMIT_NOFILE, (files_there, hard))

    assert room_for_clients(concurrency) == room


async def test_soft_limit_is_raised_to_the_hard_one() -> None:
    script = (
        "import resource; from proxy.server.files import raise_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); raise_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )

    ended = await run(sys.executable, "-c", script, cwd=ROOT)

    assert (ended.output, ended.errors) == ("(300, 300)\n", "")
