"""What is on the disk: keys survive restarts and kills, damage lets nobody in, and no key ever stands there."""

import asyncio
import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.keys import file
from plugins.keys.account import Account, Spent
from plugins.keys.book import Earlier, VirtualKey
from plugins.keys.settings import KeySettings
from proxy.durable import seal
from proxy.errors import Refused, StorageFailed, StorageFull, Unauthorized
from tests.plugins.keys_rig import KeysRig

WORDS = st.text("abc é*", min_size=1, max_size=8).filter(lambda text: text == text.strip())
NANOS = st.integers(0, 10**15)
SPENT = st.builds(Spent, st.just("2026-01-31"), NANOS, st.just("2026-01"), NANOS, NANOS, st.none() | st.floats(0, 1e9))
SETTINGS = st.fixed_dictionaries(
    {"name": WORDS},
    optional={
        "models": st.lists(WORDS, max_size=3),
        "limits": st.dictionaries(st.sampled_from(["concurrent", "requestsPerDay"]), st.integers(1, 10**9)),
        "budget": st.fixed_dictionaries({}, optional={"perDay": st.floats(0.01, 1e6), "perMonth": st.integers(1, 9)}),
        "metadata": st.dictionaries(WORDS, st.text(max_size=20), max_size=3),
        "expiresAt": st.sampled_from(["2026-01-31T14:00:00Z", "2030-02-28T23:59:59.250+02:00"]),
        "enabled": st.booleans(),
    },
).map(KeySettings.model_validate)
DIGESTS = st.binary(min_size=32, max_size=32)
KEYS = st.builds(
    VirtualKey,
    st.text("0123456789abcdef", min_size=10, max_size=10),
    DIGESTS,
    SETTINGS,
    st.floats(0, 1e10),
    st.none() | st.floats(0, 1e10),
    st.none() | st.builds(Earlier, DIGESTS, st.floats(0, 1e10)),
    SPENT.map(Account),
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])
@given(st.lists(KEYS, max_size=3))
def test_keys_are_read_as_they_were_written(tmp_path: Path, keys: list[VirtualKey]) -> None:
    file.write(tmp_path, file.encode([(key, key.account.to_write()) for key in keys]))

    again = file.read(tmp_path)

    assert again == keys
    assert [key.account.to_write() for key in again] == [key.account.to_write() for key in keys]


async def test_keys_and_spending_survive_a_restart(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 5})
        keys.end(keys.begin(made["key"]), 10, 20)
        before = await keys.show(made["id"])

    async with KeysRig(tmp_path) as keys:
        assert await keys.show(made["id"]) == before
        assert before["spend"]["today"] == 0.03
        keys.begin(made["key"])


async def test_file_holds_no_key_and_is_for_its_owner_only(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        rotated = await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"], grace="1h")

    content = (tmp_path / "keys.json").read_text()
    for text in (made["key"], rotated["key"]):
        assert text not in content
        assert text.split("-", 3)[3][:12] not in content
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    assert names(tmp_path) == {"keys.json"}


async def test_requests_in_work_at_the_end_count_as_estimated(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(budget={"perDay": 5})
        keys.begin(made["key"], max_output_tokens=50)

    async with KeysRig(tmp_path) as keys:
        assert (await keys.show(made["id"]))["spend"]["today"] == 0.05


async def test_provider_that_counts_beyond_all_measure_stops_no_saving(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        for _ in range(3):
            keys.end(keys.begin(made["key"]), 2**64 - 1, 2**64 - 1)

        await keys.plugin._keeper.save()

        assert keys.plugin._keeper.is_changed is False
        assert (await keys.create("b"))["name"] == "b"
        assert (await keys.show(made["id"]))["spend"]["total"] == 1e9


async def test_spending_is_written_down_from_time_to_time_only_if_there_was_some(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        first = (tmp_path / "keys.json").stat()
        await keys.plugin._keeper.save()
        assert (tmp_path / "keys.json").stat().st_mtime_ns == first.st_mtime_ns

        keys.end(keys.begin(made["key"]), 1, 1)
        await keys.plugin._keeper.save()

        assert file.read(tmp_path)[0].account.to_write().total_nanos == 2_000_000


# -- damage ----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("state")
    key = VirtualKey("0123456789", bytes(32), KeySettings.model_validate({"name": "a", "models": ["b"]}), 1.0)
    content = bytearray(file.encode([(key, Spent())]))
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    (folder / "keys.json").write_bytes(content)

    found, trouble = None, ""
    try:
        found = file.read(folder)
    except file.Unusable as error:
        trouble = str(error)

    (name,) = names(folder)
    if found is None:
        assert name.startswith("keys.json.corrupt-")
        assert name in trouble
        assert (folder / name).read_bytes() == content
    else:
        assert (name, found) == ("keys.json", [key])  # white space became another, or the same is spelt otherwise


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[]", b"\xff", seal({"version": 1}), seal({"version": 1, "keys": [{"id": "a"}]})],
)
async def test_damaged_file_is_set_aside_and_nobody_passes_until_it_is_mended(tmp_path: Path, content: bytes) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
    sound = (tmp_path / "keys.json").read_bytes()
    (tmp_path / "keys.json").write_bytes(content)

    for _ in range(2):  # a restart mends nothing
        async with KeysRig(tmp_path) as keys:
            for text in (made["key"], None):
                with pytest.raises(Refused) as refused:
                    keys.begin(text)
                assert (refused.value.status, refused.value.code) == (503, "keys_unusable")
                assert str(tmp_path) not in refused.value.message
            with pytest.raises(Refused, match="put a sound copy in its place"):
                await keys.create("another")
            with pytest.raises(Refused):
                await keys.call("GET", "/keys")
            (event,) = keys.rig.told("keys_unusable")
            assert (event.level, "set aside as keys.json.corrupt-" in event.message) == ("ERROR", True)
            assert [issue.kind for issue in keys.plugin.config_issues()] == ["keys_unusable"]

    (tmp_path / "keys.json").write_bytes(sound)
    async with KeysRig(tmp_path) as keys:
        keys.begin(made["key"])


async def test_removing_the_damaged_file_begins_without_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(b"rubbish")
    async with KeysRig(tmp_path) as keys:
        pass
    (aside,) = names(tmp_path)
    (tmp_path / aside).unlink()

    async with KeysRig(tmp_path) as keys:
        with pytest.raises(Unauthorized):
            keys.begin("sk-any")
        await keys.create()


async def test_file_of_another_version_is_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(seal({"version": 2, "keys": [], "more": 1}))

    async with KeysRig(tmp_path) as keys:
        with pytest.raises(Refused):
            keys.begin("sk-any")

    assert names(tmp_path) == {"keys.json"}


async def test_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()

    async with KeysRig(tmp_path) as keys:
        with pytest.raises(Refused) as refused:
            keys.begin("sk-any")

    assert refused.value.status == 503


# -- a disk that fails -----------------------------------------------------------------------------------------------


def fail_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def write(folder: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file, "write", write)


async def test_change_that_cannot_be_written_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        before = await keys.show(made["id"])
        fail_with(monkeypatch, errno.ENOSPC)

        with pytest.raises(StorageFull):
            await keys.create("another")
        with pytest.raises(StorageFull):
            await keys.change(made["id"], enabled=False)
        with pytest.raises(StorageFull):
            await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"])

        assert await keys.call("GET", "/keys") == {"keys": [before]}
        keys.begin(made["key"])
        monkeypatch.undo()


async def test_spending_that_cannot_be_written_is_told_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        keys.end(keys.begin(made["key"]), 1, 1)
        with monkeypatch.context() as patch:
            fail_with(patch, errno.EIO)
            await keys.plugin._keeper.save()
            await keys.plugin._keeper.save()
        assert len(keys.rig.told("keys_unsaved")) == 1

        await keys.plugin._keeper.save()

        assert file.read(tmp_path)[0].account.to_write().total_nanos == 2_000_000


async def test_change_goes_on_when_who_asked_for_it_leaves(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        leaving = asyncio.ensure_future(keys.change(made["id"], enabled=False))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait((leaving,))

        await keys.change(made["id"], metadata={"a": "b"})

        assert (await keys.show(made["id"]))["enabled"] is False
        assert file.read(tmp_path)[0].settings.enabled is False


async def test_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        changes = [keys.change(made["id"], metadata={str(number): "x"}) for number in range(20)]

        await asyncio.gather(*changes)

        assert len((await keys.show(made["id"]))["metadata"]) == 20


async def test_change_does_not_bring_a_revoked_key_back(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()

        outcomes = await asyncio.gather(
            keys.call("DELETE", "/keys/{id}", key_id=made["id"]),
            keys.change(made["id"], name="again"),
            return_exceptions=True,
        )

        assert isinstance(outcomes[1], Exception)
        assert file.read(tmp_path) == []
        with pytest.raises(Unauthorized):
            keys.begin(made["key"])


def test_failures_of_the_disk_are_one_family() -> None:
    assert issubclass(StorageFull, StorageFailed)
