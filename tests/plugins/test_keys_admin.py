"""What operators send and are told: a key's text once, every fault with its place, changes merged, nobody's secret."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.keys.book import VirtualKey
from plugins.keys.orders import InvalidKey, read_settings
from plugins.keys.settings import KeySettings
from proxy.errors import MalformedBody, UnknownPath
from tests.plugins.keys_rig import START_S, KeysRig

FULL = {
    "name": "team-a",
    "models": ["gpt-4o*", "fast"],
    "limits": {"requestsPerMinute": 60, "concurrent": 4},
    "budget": {"perDay": 5, "perMonth": 50.5},
    "metadata": {"owner": "ann"},
    "expiresAt": "2026-12-31T00:00:00Z",
    "enabled": True,
}


async def test_key_is_shown_when_it_is_made_and_never_again(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(**FULL)
        rotated = await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"])

        told = repr([await keys.show(made["id"]), await keys.call("GET", "/keys"), keys.rig.events.recent()])
        assert made["key"].startswith(f"sk-sw-{made['id']}-")
        assert rotated["key"] != made["key"]
        for text in (made["key"], rotated["key"]):
            assert text.rpartition(made["id"])[2][1:] not in told
        assert {name: made[name] for name in FULL} == FULL
        assert (await keys.show(made["id"]))["key"] == f"sk-sw-{made['id']}-…"


async def test_key_tells_its_state_and_times(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(expiresIn="1h")
        assert (made["state"], made["expiresAt"]) == ("active", "2026-02-02T03:40:00Z")
        assert (made["createdAt"], made["lastUsedAt"], made["rotatedAt"]) == ("2026-02-02T02:40:00Z", None, None)

        keys.now_s += 60
        keys.begin(made["key"])
        await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"], grace="10m")
        shown = await keys.show(made["id"])

        assert (shown["lastUsedAt"], shown["rotatedAt"]) == ("2026-02-02T02:41:00Z", "2026-02-02T02:41:00Z")
        assert shown["earlierWorksUntil"] == "2026-02-02T02:51:00Z"
        assert (shown["spend"]["dayEnds"], shown["spend"]["monthEnds"]) == (
            "2026-02-03T00:00:00Z",
            "2026-03-01T00:00:00Z",
        )
        keys.now_s += 3600
        shown = await keys.show(made["id"])
        assert (shown["state"], shown["earlierWorksUntil"]) == ("expired", None)


async def test_change_merges_and_null_brings_the_default_back(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create(**FULL)

        changed = await keys.change(
            made["id"], limits={"concurrent": None}, budget={"perDay": 6}, models=None, expiresAt=None
        )

        assert changed["limits"] == {"requestsPerMinute": 60}
        assert changed["budget"] == {"perDay": 6, "perMonth": 50.5}
        assert (changed["models"], changed["expiresAt"], changed["metadata"]) == ([], None, {"owner": "ann"})


async def test_every_change_is_an_event_with_its_author(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        await keys.change(made["id"], enabled=False)
        await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"])
        await keys.call("DELETE", "/keys/{id}", key_id=made["id"])

        events = keys.rig.events.recent()
        assert [event.kind for event in events] == ["key_created", "key_changed", "key_rotated", "key_revoked"]
        assert all("team-a" in event.message and "127.0.0.1" in event.message for event in events)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("ann", "by ann"),
        ("Zo\u00c3\u00ab", "by Zo\u00eb"),  # UTF-8, as headers come
        ("  ", "by 127.0.0.1"),
        ("ann\x1b[2J", r"by ann\x1b[2J"),
        ("a" * 101, f"by {'a' * 100}\u2026"),
    ],
)
async def test_author_is_told_by_its_own_word_made_fit_for_one_line(tmp_path: Path, sent: str, told: str) -> None:
    async with KeysRig(tmp_path) as keys:
        await keys.call("POST", "/keys", {"name": "team-a"}, headers={"x-author": sent})

        (event,) = keys.rig.told("key_created")
        assert event.message.endswith(told)


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"name": "is missing"}),
        ({"name": ""}, {"name": "at least 1 character"}),
        ({"name": "a\nb"}, {"name": "one line"}),
        ({"name": "a", "model": ["x"]}, {"model": "is not a known key"}),
        ({"name": "a", "models": "gpt"}, {"models": "a list"}),
        ({"name": "a", "models": ["a", ""]}, {"models.1": "at least 1 character"}),
        ({"name": "a", "limits": {"requestsPerWeek": 1}}, {"limits": "is no limit"}),
        ({"name": "a", "limits": {"requestsPerDay": 0}}, {"limits.requestsPerDay": "greater than 0"}),
        ({"name": "a", "limits": {"requestsPerDay": float("inf")}}, {"limits.requestsPerDay": "finite"}),
        ({"name": "a", "budget": {"perDay": -1}}, {"budget.perDay": "greater than or equal"}),
        ({"name": "a", "limits": {"requestsPerDay": True}}, {"limits.requestsPerDay": "number"}),
        ({"name": "a", "limits": {"requestsPerDay": 1.5}}, {"limits": "requestsPerDay is 1.5: a whole number"}),
        ({"name": "a", "limits": {"concurrent": 0.5}}, {"limits": "concurrent is 0.5: a whole number"}),
        ({"name": "a", "limits": {"totalTokensPerDay": 1e13}}, {"limits.totalTokensPerDay": "less than or equal"}),
        ({"name": "a", "limits": {"costUsdPerDay": 1e10}}, {"limits": "from a millionth to a billion"}),
        ({"name": "a", "limits": {"costUsdPerDay": 1e-9}}, {"limits": "from a millionth to a billion"}),
        ({"name": "a", "budget": {"perDay": 1e300}}, {"budget.perDay": "less than or equal"}),
        ({"name": "a", "budget": {"perMonth": 1e-300}}, {"budget.perMonth": "greater than or equal"}),
        ({"name": "a", "budget": {"perWeek": 1}}, {"budget.perWeek": "is not a known key"}),
        ({"name": "a", "metadata": {"x": 1}}, {"metadata.x": "text"}),
        ({"name": "a", "metadata": {str(each): "" for each in range(33)}}, {"metadata": "at most 32"}),
        ({"name": "a", "metadata": {"x": "y" * 513}}, {"metadata.x": "at most 512"}),
        ({"name": "a", "expiresAt": "tomorrow"}, {"expiresAt": "with its zone"}),
        ({"name": "a", "expiresAt": "2026-01-31T14:00:00"}, {"expiresAt": "with its zone"}),
        ({"name": "a", "expiresAt": 1e300}, {"expiresAt": "from 1970 to 9999"}),
        ({"name": "a", "expiresAt": -1.5}, {"expiresAt": "from 1970 to 9999"}),
        ({"name": "a", "expiresAt": "0001-01-01T00:00:00+14:00"}, {"expiresAt": "from 1970 to 9999"}),
        ({"name": "a", "expiresAt": "9999-12-31T23:59:59-14:00"}, {"expiresAt": "from 1970 to 9999"}),
        ({"name": "a", "expiresIn": "soon"}, {"expiresIn": "a duration is"}),
        ({"name": "a", "expiresIn": "9999999w"}, {"expiresIn": "too far away"}),
        ({"name": "a", "expiresIn": "1h", "expiresAt": "2026-01-31T14:00:00Z"}, {"expiresIn": "beside expiresAt"}),
        ({"enabled": "perhaps", "budget": 5}, {"name": "is missing", "enabled": "true or false", "budget": "mapping"}),
    ],
)
def test_faults_are_told_with_their_places(body: Any, faults: dict[str, str]) -> None:
    with pytest.raises(InvalidKey) as refused:
        read_settings(body, {}, START_S)

    found = {fault.path: fault.message for fault in refused.value.faults}
    assert (refused.value.status, refused.value.code) == (422, "invalid_key")
    assert found.keys() == faults.keys()
    for path, words in faults.items():
        assert words in found[path]


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [*FULL, "expiresIn"]
TIMES = st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat())
NUMBERS = st.floats() | st.integers()
FITTING: Any = st.fixed_dictionaries(
    {"name": st.just("a")},
    optional={
        "expiresAt": TIMES | NUMBERS,
        "budget": st.dictionaries(st.sampled_from(["perDay", "perMonth"]), NUMBERS),
        "limits": st.dictionaries(st.sampled_from(["requestsPerMinute", "costUsdPerDay", "concurrent"]), NUMBERS),
    },
)
SENT = FITTING | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON, max_size=6) | JSON


@given(SENT, st.booleans())
def test_whatever_is_sent_is_taken_whole_or_refused_in_words(body: Any, is_change: bool) -> None:
    present = FULL if is_change else {}
    faults: tuple[Any, ...] = ()
    found = None

    try:
        found = read_settings(body, present, START_S)
    except MalformedBody as error:
        faults = (error,)
    except InvalidKey as error:
        faults = error.faults

    assert (found is None) == bool(faults)
    assert found is None or KeySettings.model_validate(found.as_json()) == found
    assert found is None or VirtualKey("id", b"", found, START_S).budget is not None


async def test_names_are_given_once(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        first, second = await keys.create("a"), await keys.create("b")

        with pytest.raises(InvalidKey, match="has this name"):
            await keys.create("a")
        with pytest.raises(InvalidKey, match=first["id"]):
            await keys.change(second["id"], name="a")
        await keys.change(first["id"], name="a")


async def test_key_is_found_by_its_name_too(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()
        name = made["name"]

        shown = await keys.call("GET", "/keys/{id}", key_id=name)
        rotated = await keys.call("POST", "/keys/{id}/rotate", key_id=name)
        revoked = await keys.call("DELETE", "/keys/{id}", key_id=name)

        assert (shown["id"], rotated["id"], revoked["id"]) == (made["id"],) * 3
        assert rotated["key"].startswith(f"sk-sw-{made['id']}-")
        assert (await keys.call("GET", "/keys"))["keys"] == []


@pytest.mark.parametrize(
    "name", ["0123456789", "abcdef0123", "key:x", "credential:y", "peer:10.0.0.1", "192.0.2.7", "::1"]
)
async def test_name_that_reads_like_another_callers_id_is_refused(tmp_path: Path, name: str) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()

        with pytest.raises(InvalidKey, match="reads like an id or an address"):
            await keys.create(name)
        with pytest.raises(InvalidKey, match="reads like an id or an address"):
            await keys.change(made["id"], name=name)


async def test_unknown_keys_and_parameters_are_refused(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        made = await keys.create()

        for method, path in (
            ("GET", "/keys/{id}"),
            ("PATCH", "/keys/{id}"),
            ("DELETE", "/keys/{id}"),
            ("POST", "/keys/{id}/rotate"),
        ):
            with pytest.raises(UnknownPath, match="there is no key nobody"):
                await keys.call(method, path, {}, "nobody")
        with pytest.raises(InvalidKey, match="is not known here"):
            await keys.call("DELETE", "/keys/{id}", key_id=made["id"], dryRun="true")
        with pytest.raises(InvalidKey, match="a duration is"):
            await keys.call("POST", "/keys/{id}/rotate", key_id=made["id"], grace="ever")
        assert len((await keys.call("GET", "/keys"))["keys"]) == 1


async def test_key_that_expires_soon_is_an_issue(tmp_path: Path) -> None:
    async with KeysRig(tmp_path) as keys:
        await keys.create("later", expiresIn="8d")
        assert list(keys.plugin.config_issues()) == []

        await keys.create("soon", expiresIn="6d")

        (issue,) = keys.plugin.config_issues()
        assert (issue.kind, "soon" in issue.message) == ("key_expires_soon", True)
