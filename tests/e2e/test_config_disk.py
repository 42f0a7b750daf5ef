"""A full disk refuses changes, and nothing else: what runs goes on as it is (D2)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.testing import ProxyProcess, RawResponse
from tests.e2e.rig import CALLS, ask, clean_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOUNT_BYTES = 1 << 20
FILE_BYTES = 8192


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A state folder on a disk of 1 MB and what the process must be started with; without mounts, a limit on files."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield folder / "state", ("prlimit", f"--fsize={FILE_BYTES}")
        return
    try:
        yield folder / "state", ()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def change(proxy: ProxyProcess, body: dict[str, Any]) -> RawResponse:
    return await ask(proxy, "PATCH", "/config", orjson.dumps(body))


def filler(number: int) -> dict[str, Any]:
    """Aliases of some 60 KB."""
    return {"models": {f"alias-{number}-{index}": ["echo/" + "m" * 100] for index in range(500)}}


async def test_full_disk_leaves_the_running_configuration_as_it_is(
    small_disk: tuple[Path, tuple[str, ...]],
) -> None:
    state, prefix = small_disk
    config = {"state": {"dir": str(state)}, "maxQueue": 5}
    async with ProxyProcess(config, environment=clean_environment(), prefix=prefix) as proxy:
        answers = [await change(proxy, filler(number)) for number in range(20)]
        refused = next(one for one in answers if one.status != 200)
        before = (await ask(proxy, "GET", "/config")).json()

        again = await change(proxy, {"maxQueue": 6, **filler(99)})
        after: Any = (await ask(proxy, "GET", "/config")).json()
        health: Any = (await ask(proxy, "GET", "/health")).json()
        served = [(await ask(proxy, "POST", CALLS["openai"].path, CALLS["openai"].body())).status for _ in range(20)]

        document: Any = refused.json()
        assert (refused.status, document["code"]) == (507, "storage_full")
        assert "nothing was changed" in document["detail"]
        assert again.status == 507
        assert {**after, "$export": 0} == {**before, "$export": 0}  # type: ignore[dict-item]  # JSON
        assert (health["status"], set(served)) == ("degraded", {200})
        assert any("cannot be written" in problem for problem in health["problems"])
        assert "Traceback" not in proxy.output
        count = sum(one.status == 200 for one in answers)
        print(f"full disk: {count} changes made, then 507; 20 of 20 requests served")

        await proxy.kill()
        await proxy.start()
        restarted: Any = (await ask(proxy, "GET", "/config")).json()
        assert {**restarted, "$export": 0} == {**before, "$export": 0}  # type: ignore[dict-item]  # JSON


async def test_changes_are_made_again_when_there_is_room(small_disk: tuple[Path, tuple[str, ...]]) -> None:
    state, prefix = small_disk
    if prefix:
        state.mkdir()
        (state / "revisions").mkdir()
    config = {"state": {"dir": str(state)}}
    async with ProxyProcess(config, environment=clean_environment(), prefix=prefix) as proxy:
        ballast = state / "ballast"
        if not prefix:
            with pytest.raises(OSError, match="No space"):
                ballast.write_bytes(b"x" * MOUNT_BYTES)
        full = await change(proxy, {"maxQueue": 6, **filler(1)})
        ballast.unlink(missing_ok=True)

        made = await change(proxy, {"maxQueue": 7})

        health: Any = (await ask(proxy, "GET", "/health")).json()
        assert (full.status, made.status, health["status"]) == (507, 200, "healthy")
        assert (await ask(proxy, "GET", "/config/maxQueue")).body == b"7\n"
