"""A revision is on the disk whole or not at all, whatever happens to the disk or the process (FAULTS D1, D2, D3)."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.revisions import Revision, Revisions

ROOT = Path(__file__).parents[3]
FIRST = Revision(
    number=1,
    time_s=1_795_000_000.5,
    author="127.0.0.1",
    reason="first",
    cause="start",
    document={"maxConcurrency": 25, "providers": {"a": {"apiKey": {"$secret": "0f"}}}, "models": {"x": ["a/é"]}},
    base={"maxConcurrency": 100, "native": {"defaultModel": "m"}},
)


class Shelf(Revisions):
    """Revisions in a folder of the test; `told` is what was said of broken files."""

    def __init__(self, folder: Path, keep: int = 100) -> None:
        self.told: list[str] = []
        self._keep = keep
        super().__init__(folder, self.told.append)

    def add(self, revision: Revision, keep: int | None = None) -> None:
        super().add(revision, keep or self._keep)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def second(**changes: object) -> Revision:
    return replace(FIRST, number=2, **changes)


def test_what_is_written_is_read_again_by_the_next_process(tmp_path: Path) -> None:
    Shelf(tmp_path / "state" / "revisions").add(FIRST)

    shelf = Shelf(tmp_path / "state" / "revisions")

    assert (shelf.newest(), shelf.get(1), shelf.get(2), shelf.numbers()) == (FIRST, FIRST, None, [1])
    assert shelf.told == []


def test_only_the_owner_can_read_them(tmp_path: Path) -> None:
    Shelf(tmp_path / "revisions").add(FIRST)

    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "revisions", *(tmp_path / "revisions").iterdir())
    ]

    assert modes == [0o700, 0o600]


def test_empty_or_missing_folder_holds_none(tmp_path: Path) -> None:
    assert (Shelf(tmp_path).newest(), Shelf(tmp_path / "none").newest(), Shelf(tmp_path / "none").numbers()) == (
        None,
        None,
        [],
    )


def test_oldest_are_dropped_beyond_the_number_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, keep=3)

    for number in range(1, 13):
        shelf.add(replace(FIRST, number=number))

    assert shelf.numbers() == [10, 11, 12]


def test_leftovers_of_a_crash_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    Shelf(tmp_path).add(FIRST)
    (tmp_path / "00000002.tmp").write_bytes(b'{"sha')
    (tmp_path / "notes.json").write_bytes(b"mine")

    newest = Shelf(tmp_path).newest()

    assert newest == FIRST
    assert names_in(tmp_path) == ["00000001.json", "notes.json"]


@settings(
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture], max_examples=60
)
@given(st.data())
def test_damaged_revision_is_set_aside_and_the_one_before_it_counts(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / str(time.time_ns())
    shelf = Shelf(folder)
    shelf.add(FIRST)
    shelf.add(second())
    path = folder / "00000002.json"
    whole = path.read_bytes()
    kind = data.draw(st.sampled_from(["cut", "flip", "empty", "junk"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ 1 << data.draw(st.integers(0, 7))]) + whole[at + 1 :],
        "empty": b"",
        "junk": b'{"revision": [], "sha256": 5}',
    }[kind]
    path.write_bytes(damaged)

    newest = shelf.newest()

    if newest == second():  # white space between two values
        assert orjson.loads(damaged) == orjson.loads(whole)
        return
    assert newest == FIRST
    assert len(shelf.told) == 1
    assert [name for name in names_in(folder) if name.startswith("00000002.json.corrupt-")]
    assert shelf.numbers() == [1]


def test_revision_under_another_number_or_with_other_fields_is_not_taken(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(FIRST)
    (tmp_path / "00000007.json").write_bytes((tmp_path / "00000001.json").read_bytes())

    assert (shelf.get(7), shelf.newest()) == (None, FIRST)
    assert "it holds revision 1" in shelf.told[0]


def test_file_that_holds_no_mapping_is_set_aside_though_its_checksum_fits(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(FIRST)
    (tmp_path / "00000002.json").write_bytes(orjson.dumps({"revision": [], "sha256": sha256(b"[]").hexdigest()}))

    assert shelf.newest() == FIRST
    assert len(shelf.told) == 1


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_refuses_the_new_one_and_keeps_the_old(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(FIRST)

    with largest_file(100), pytest.raises(OSError, match="too large"):
        shelf.add(second())

    assert (shelf.newest(), names_in(tmp_path), shelf.told) == (FIRST, ["00000001.json"], [])


def test_folder_that_cannot_be_flushed_leaves_no_revision_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(FIRST)

    def fail_on_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", fail_on_folders)
    with pytest.raises(OSError, match="input/output"):
        shelf.add(second())

    assert Shelf(tmp_path).newest() == FIRST


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from proxy.config.revisions import Revisions
shelf = Revisions(Path(sys.argv[1]), lambda line: None)
newest = shelf.newest()
number = newest.number
while True:
    number += 1
    shelf.add(replace(newest, number=number, document={"number": number, "filler": ["x" * 50] * (number % 400)}), 5)
    print(number, flush=True)
"""


def test_kill_within_a_write_loop_leaves_the_last_told_revision_or_the_one_after_it(tmp_path: Path) -> None:
    Shelf(tmp_path).add(FIRST)
    outcomes = {"old": 0, "new": 0}
    for turn in range(10):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        told = int(process.stdout.readline())
        time.sleep(0.003 * turn)
        process.send_signal(signal.SIGKILL)
        told = max([told, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()

        shelf = Shelf(tmp_path)
        newest = shelf.newest()

        assert newest is not None
        assert newest.number - told in (0, 1)
        assert newest.document["number"] == newest.number
        assert shelf.told == []
        outcomes["new" if newest.number > told else "old"] += 1
    print(f"kill -9 within a write: {outcomes}, 10 of 10 whole")
