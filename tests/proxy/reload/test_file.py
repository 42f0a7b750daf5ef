"""Edits of the configuration file while the program runs."""

import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy.app import App
from proxy.config.history import History
from proxy.testing import ProxyHarness
from tests.e2e.rig import until
from tests.proxy.reload.rig import health, kinds
from tests.proxy.server.test_config_routes import call, overlay_of, value


@pytest.fixture
async def filed() -> AsyncIterator[ProxyHarness]:
    async with ProxyHarness(has_file=True) as harness:
        yield harness


async def test_edit_of_the_file_becomes_a_revision_within_a_second(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)  # for the watch to begin

    filed.write(max_queue=2)
    await until(lambda: filed.app.configuration.standing.revision == 2, "the edit is in force", timeout_s=1.0)

    newest: Any = (await call(filed, "GET", "/deployments/2")).json()
    assert (newest["cause"], newest["author"]) == ("file", "file")
    assert newest["diff"] == [{"path": "maxQueue", "old": 1, "new": 2}]


async def test_edit_that_is_not_valid_is_refused_and_told_everywhere(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)

    filed.config_path.write_text("server:\n  prot: 1\nmaxQueue: -5\n")
    await until(lambda: "config_refused" in kinds(filed), "it is refused", timeout_s=1.0)

    sick = await health(filed)
    issues: Any = (await call(filed, "GET", "/config/issues")).json()
    event = next(one for one in filed.events.recent() if one.kind == "config_refused")
    for told in (event.message, sick["problems"][0], issues["issues"][0]["message"]):
        assert f"{filed.config_path}:2: server.prot: is not a known key (did you mean port?)" in told
        assert f"{filed.config_path}:3: maxQueue: -5 is not at least 0" in told
    assert (event.level, sick["status"], sick["revision"]) == ("ERROR", "degraded", 1)
    assert await value(filed, "maxQueue") == 1

    filed.write(max_queue=4)
    await until(lambda: filed.app.configuration.standing.revision == 2, "mended", timeout_s=1.0)
    assert (await health(filed))["status"] == "healthy"


async def test_link_that_a_container_platform_swaps_is_followed(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    folder, content = filed.config_path.parent, filed.config_path.read_text()
    for version, text in (("v1", content), ("v2", content.replace('"maxQueue": 1', '"maxQueue": 2'))):
        (folder / version).mkdir()
        (folder / version / "proxy.yaml").write_text(text)
    (folder / "..data").symlink_to("v1")
    (folder / "link").symlink_to("..data/proxy.yaml")
    (folder / "link").rename(filed.config_path)
    await asyncio.sleep(0.7)
    before = filed.app.configuration.standing.revision

    (folder / "..new").symlink_to("v2")
    (folder / "..new").rename(folder / "..data")

    await until(lambda: filed.app.configuration.standing.revision == 2, "the new version is in force", timeout_s=1.0)
    assert (before, await value(filed, "maxQueue")) == (1, 2)


async def test_file_that_was_edited_before_the_watch_began_is_found(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)

    filed.write(max_queue=2)  # at once: the watch has not begun

    await until(lambda: filed.app.configuration.standing.revision == 2, "it is in force", timeout_s=1.5)
    assert await value(filed, "maxQueue") == 2


async def test_watching_can_be_switched_off_live(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await call(filed, "PATCH", "/config", {"changes": {"watchFile": False}})

    filed.write(max_queue=2)
    await asyncio.sleep(1.0)

    assert await value(filed, "maxQueue") == 1


async def test_live_change_and_edit_of_other_keys_live_side_by_side(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1, changes={"watchFile": False})
    await call(filed, "PATCH", "/config?ttl=15m", {"maxConcurrency": 9, "maxQueue": 8})
    filed.write(max_queue=2, changes={"watchFile": False})

    await call(filed, "POST", "/deployments")

    assert (await value(filed, "maxConcurrency"), await value(filed, "maxQueue")) == (9, 2)
    assert [one["reverts"] for one in (await health(filed))["expiring"]] == [["maxConcurrency"]]


async def test_reset_goes_back_to_the_file_as_last_accepted(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1, changes={"watchFile": False})
    await call(filed, "PATCH", "/config", {"maxConcurrency": 9})
    filed.write(max_queue=2, changes={"watchFile": False})
    await call(filed, "POST", "/deployments")
    filed.config_path.write_text("maxQueue: -1")

    await call(filed, "POST", "/reset")

    assert (await value(filed, "maxConcurrency"), await value(filed, "maxQueue")) == (100, 2)
    assert overlay_of(filed) == {}


async def test_edit_that_came_while_the_disk_was_full_is_applied_when_there_is_room(
    filed: ProxyHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filed.start(max_queue=1)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "as told")

    with monkeypatch.context() as patch:
        patch.setattr(History, "save", fail)
        filed.write(max_queue=2)
        await until(lambda: "config_refused" in kinds(filed), "it is told")
        sick = await health(filed)
    await until(lambda: filed.app.configuration.standing.revision == 2, "it is applied")

    assert (sick["status"], len(sick["problems"])) == ("degraded", 2)
    assert (await value(filed, "maxQueue"), (await health(filed))["problems"]) == (2, [])
    assert kinds(filed).count("config_refused") == 1


@contextmanager
def no_file_left() -> Iterator[None]:
    """Let this process open nothing more, as when its limit is reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_edit_that_came_while_no_file_could_be_opened_is_not_refused_but_read_later(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)  # for the watch to begin

    with filed.config_path.open("r+") as file:
        text = file.read().replace('"maxQueue": 1', '"maxQueue": 2')
        file.seek(0)
        with no_file_left():
            file.write(text)
            file.flush()
            await until(lambda: bool({"config_refused", "config_unreadable"} & set(kinds(filed))), "it is told")
            await asyncio.sleep(2.5)  # so that it is tried again
            told, trouble = kinds(filed), dict(filed.app.configuration.record.troubles)
    await until(lambda: filed.app.configuration.standing.revision == 2, "it is in force", timeout_s=3.0)

    assert (told.count("config_unreadable"), "config_refused" in told, trouble) == (1, False, {})
    assert await value(filed, "maxQueue") == 2


async def test_file_that_nobody_edited_is_left_alone_when_files_can_be_opened_again(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    await asyncio.sleep(0.3)

    with no_file_left():
        os.utime(filed.config_path)
        await until(lambda: "config_unreadable" in kinds(filed), "it is told")
    await asyncio.sleep(2.5)

    assert filed.app.configuration.standing.revision == 1
    assert "config_refused" not in kinds(filed)


async def test_dry_run_does_not_swallow_an_edit(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    filed.write(max_queue=2)

    dry = await call(filed, "POST", "/deployments?dryRun=true")
    lost = await call(filed, "POST", "/deployments", If_Match='"77"')

    assert (dry.status, lost.status) == (200, 412)
    await until(lambda: filed.app.configuration.standing.revision == 2, "it is applied")
    assert "config_refused" not in kinds(filed)


async def test_wrong_parameter_is_refused_before_the_file_is_applied(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1, changes={"watchFile": False})
    filed.write(max_queue=2, changes={"watchFile": False})

    answer = await call(filed, "POST", "/deployments?restart=yes")

    assert (answer.status, await value(filed, "maxQueue")) == (422, 1)


async def test_link_and_folder_that_are_replaced_are_followed(filed: ProxyHarness) -> None:
    await filed.start(max_queue=1)
    folder, content = filed.config_path.parent, filed.config_path.read_text()
    (folder / "b").mkdir()
    real = folder / "b" / "real.yaml"
    real.write_text(content.replace('"maxQueue": 1', '"maxQueue": 2'))
    (folder / "link").symlink_to(real)
    (folder / "link").rename(filed.config_path)
    await until(lambda: filed.app.configuration.standing.revision == 2, "the link is followed")
    await asyncio.sleep(0.6)

    real.write_text(content.replace('"maxQueue": 1', '"maxQueue": 3'))
    await until(lambda: filed.app.configuration.standing.revision == 3, "an edit behind it is seen")
    (folder / "c").mkdir()
    (folder / "c" / "real.yaml").write_text(content.replace('"maxQueue": 1', '"maxQueue": 4'))
    (folder / "b").rename(folder / "old")
    (folder / "c").rename(folder / "b")

    await until(lambda: filed.app.configuration.standing.revision == 4, "the new folder is seen")
    assert await value(filed, "maxQueue") == 4


async def test_edit_between_its_reading_and_the_start_is_found(filed: ProxyHarness) -> None:
    filed.write(max_queue=1)
    prepared = filed.prepared()
    filed.write(max_queue=2)

    app = await App.begin(prepared, file=filed.config_path, port=0)
    try:
        await until(lambda: app.configuration.standing.revision == 2, "it is in force", timeout_s=1.5)
        assert app.pipeline.generation.settings.max_queue == 2
    finally:
        await app.stop()


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "stopped"])
async def test_value_that_the_file_confirms_does_not_end_by_itself(filed: ProxyHarness, *, is_running: bool) -> None:
    await filed.start(max_queue=1000)
    await call(filed, "PATCH", "/config?ttl=1h", {"maxQueue": 2, "maxConcurrency": 9})

    if is_running:
        await asyncio.sleep(0.3)  # for the watch to begin
        filed.write(max_queue=2)
        await until(lambda: filed.app.configuration.standing.base["maxQueue"] == 2, "the edit is in force")
    else:
        filed.write(max_queue=2)
        await filed.restart()

    assert [one["reverts"] for one in (await health(filed))["expiring"]] == [["maxConcurrency"]]
