"""The verbs on virtual keys."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.testing import ProxyHarness
from tests.proxy.cli.rig import Ended, Run, ScriptedProxy, run_process

KEY: dict[str, Any] = {
    "id": "5f0c1b7a92",
    "key": "sk-sw-5f0c1b7a92-…",
    "state": "active",
    "name": "team \x1b[1m a",
    "models": ["gpt*", "fast"],
    "limits": {"requestsPerMinute": 60.0},
    "budget": {"perDay": 5.0, "perMonth": None},
    "metadata": {"owner": "ann"},
    "expiresAt": "2026-12-31T00:00:00Z",
    "enabled": True,
    "spend": {"today": 1.2345, "thisMonth": 0.000042, "total": 1234.5, "held": 0.0},
    "createdAt": "2026-01-30T14:00:00Z",
    "rotatedAt": "2026-01-31T14:00:00Z",
    "earlierWorksUntil": "2026-01-31T15:00:00Z",
    "lastUsedAt": None,
}
TEXT = "sk-sw-5f0c1b7a92-abc"


@pytest.mark.parametrize("words", [("keys",), ("keys", "list")])
def test_keys_are_a_table(ask: Run, scripted: ScriptedProxy, words: tuple[str, ...]) -> None:
    plain = {**KEY, "id": "00", "name": "b", "state": "expired", "models": [], "budget": {}, "expiresAt": None}
    scripted.on("GET", "/keys", {"keys": [KEY, plain]})

    ended = ask(*words)

    assert (ended.code, ended.errors) == (0, "")
    assert [line.rstrip() for line in ended.output.splitlines()] == [
        "ID          NAME            STATE    MODELS      TODAY           THIS MONTH  EXPIRES               LAST USED",
        "5f0c1b7a92  team \\x1b[1m a  active   gpt*, fast  $1.23 of $5.00  $0.000042   2026-12-31T00:00:00Z  -",
        "00          b               expired  all         $1.23           $0.000042   -                     -",
    ]


def test_no_keys_say_how_to_make_one(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/keys", {"keys": []})

    assert ask("keys").output == "there are no keys; `keys create NAME` makes one\n"


def test_one_key_is_shown_with_its_settings(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/keys/5f0c1b7a92", KEY)

    ended = ask("keys", "show", "5f0c1b7a92")

    assert ended.output.splitlines() == [
        "key:         sk-sw-5f0c1b7a92-…",
        "name:        team \\x1b[1m a",
        "state:       active",
        "models:      gpt*, fast",
        "limit:       requestsPerMinute 60",
        "today:       $1.23 of $5.00",
        "this month:  $0.000042",
        "in all:      $1,234.50",
        "metadata:    owner: ann",
        "created:     2026-01-30T14:00:00Z",
        "rotated:     2026-01-31T14:00:00Z",
        "expires:     2026-12-31T00:00:00Z",
        "earlier one: works until 2026-01-31T15:00:00Z",
    ]


def test_create_sends_what_was_said_and_prints_the_key_alone(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("POST", "/keys", {**KEY, "key": TEXT}, 201)

    ended = ask(
        *("keys", "create", "team-a", "--models", "gpt-4o*", "fast", "--limit", "requestsPerMinute=60"),
        *("--limit", "concurrent=2", "--budget-day", "5", "--budget-month", "50.5", "--metadata", "owner=a=b"),
        *("--expires", "90d"),
    )

    assert (ended.code, ended.output, ended.errors) == (0, f"{TEXT}\n", "")
    assert scripted.requests[0].body == {
        "name": "team-a",
        "models": ["gpt-4o*", "fast"],
        "limits": {"requestsPerMinute": 60, "concurrent": 2},
        "budget": {"perDay": 5, "perMonth": 50.5},
        "metadata": {"owner": "a=b"},
        "expiresIn": "90d",
    }


def test_create_takes_a_moment_too(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("POST", "/keys", {"key": TEXT}, 201)

    ask("keys", "create", "team-a", "--expires", "2026-12-31T00:00:00Z")

    assert scripted.requests[0].body["expiresAt"] == "2026-12-31T00:00:00Z"


@pytest.mark.parametrize("words", [("--limit", "concurrent"), ("--limit", "concurrent=x"), ("--metadata", "=x"), ()])
def test_wrong_words_are_wrong_usage(ask: Run, scripted: ScriptedProxy, words: tuple[str, ...]) -> None:
    ended = ask("keys", "create", *(("a", *words) if words else ()))

    assert (ended.code, scripted.requests) == (2, [])


def test_rotate_and_revoke_name_the_key_in_the_path(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("POST", "/keys/a%2Fb/rotate", {"key": TEXT})
    scripted.on("DELETE", "/keys/a%2Fb", {"id": "a/b", "name": "team-a", "revoked": True})

    rotated, revoked = ask("keys", "rotate", "a/b", "--grace", "1h"), ask("keys", "revoke", "a/b")

    assert rotated.output == f"{TEXT}\n"
    assert revoked.output == "team-a is revoked: no new request passes with it; those in work go on\n"
    assert scripted.requests[0].query == {"grace": "1h"}
    assert all("x-author" in request.headers for request in scripted.requests)


def test_faults_are_told_with_their_places(ask: Run, scripted: ScriptedProxy) -> None:
    errors = [{"path": "limits", "message": "'x' is no limit"}, {"path": "name", "message": "is taken"}]
    scripted.problem("POST", "/keys", 422, detail="no", errors=errors)

    ended = ask("keys", "create", "a")

    assert (ended.code, ended.errors) == (1, "limits: 'x' is no limit\nname: is taken\n")


@pytest.mark.parametrize(
    ("words", "route"),
    [
        (("list",), ("GET", "/keys")),
        (("show", "1"), ("GET", "/keys/1")),
        (("create", "a"), ("POST", "/keys")),
        (("rotate", "1"), ("POST", "/keys/1/rotate")),
        (("revoke", "1"), ("DELETE", "/keys/1")),
    ],
)
def test_answers_can_be_had_as_json(
    ask: Run, scripted: ScriptedProxy, words: tuple[str, ...], route: tuple[str, str]
) -> None:
    scripted.on(*route, {"text": TEXT, "keys": []})

    assert ask("keys", *words, "--json").output == '{\n  "text": "sk-sw-5f0c1b7a92-abc",\n  "keys": []\n}\n'


async def test_all_of_it_works_on_a_running_proxy(tmp_path: Path) -> None:
    async with ProxyHarness() as proxy:
        await proxy.start(keys={"enabled": True})

        async def ask(*arguments: str) -> Ended:
            return await asyncio.to_thread(run_process, "--url", proxy.url, "keys", *arguments)

        made = await ask("create", "team-a", "--budget-day", "5", "--expires", "1d")
        key = made.output.strip()
        key_id = key.split("-")[2]
        answered = await proxy.chat("Hi", headers={"Authorization": f"Bearer {key}"})
        again = await ask("create", "team-a")
        listed, shown = await ask("list"), await ask("show", key_id)
        rotated = await ask("rotate", key_id)
        revoked = await ask("revoke", key_id)
        refused = await proxy.chat("Hi", headers={"Authorization": f"Bearer {rotated.output.strip()}"})

    assert (answered.status, refused.status) == (200, 401)
    assert (again.code, "has this name" in again.errors) == (1, True)
    assert "team-a" in listed.output
    assert f"sk-sw-{key_id}-…" in shown.output
    assert [ended.code for ended in (made, listed, shown, rotated, revoked)] == [0, 0, 0, 0, 0]
