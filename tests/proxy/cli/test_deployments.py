"""The verbs on revisions, and `deploy`."""

import getpass
import json
from typing import Any

import pytest

from tests.proxy.cli.rig import Run, ScriptedProxy

CHANGE: dict[str, Any] = {
    "revision": 8,
    "changed": True,
    "dryRun": False,
    "diff": [
        {"path": "maxConcurrency", "old": 100, "new": 25},
        {"path": "models.fast", "old": None, "new": ["openai/gpt-4o-mini"]},
        {"path": "cache.ttl", "old": "5m", "new": None},
        {"path": "native.defaultModel", "old": "x" * 200, "new": ""},
    ],
    "issues": [],
    "restartNeeded": [],
    "expiresAt": None,
    "guardUntil": None,
}
LIST = {
    "current": 8,
    "deployments": [
        {
            "id": 10,
            "time": "2026-01-01T12:00:00Z",
            "author": "127.0.0.1",
            "cause": "api",
            "reason": "",
            "changes": 12,
            "isCurrent": True,
            "expiresAt": "2026-01-01T12:15:00Z",
            "guardUntil": None,
        },
        {
            "id": 9,
            "time": "2026-01-01T11:00:00Z",
            "author": "林さん",
            "cause": "file",
            "reason": "evil \x1b]0;x\x07\u202etext\nnext",
            "changes": 1,
            "isCurrent": False,
            "expiresAt": None,
            "guardUntil": None,
        },
    ],
}


def test_list_is_an_aligned_table(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", LIST)

    ended = ask("deployments", "list")

    assert ended.code == 0
    assert ended.output == (
        "ID  TIME                  AUTHOR     CAUSE  CHANGES  STATE                                  REASON\n"
        "10  2026-01-01T12:00:00Z  127.0.0.1  api    12       current, reverts 2026-01-01T12:15:00Z  -\n"
        "9   2026-01-01T11:00:00Z  林さん     file   1        -                                      "
        "evil \\x1b]0;x\\x07\\u202etext\\nnext\n"
    )


def test_bare_deployments_is_the_list(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", LIST)

    assert ask("deployments").output == ask("deployments", "list").output


def test_list_has_a_limit(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", LIST)

    assert len(ask("deployments", "list", "--limit", "1").output.splitlines()) == 2


def test_json_is_the_answer_with_control_characters_escaped(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", LIST)

    ended = ask("deployments", "--json")

    assert json.loads(ended.output) == LIST
    assert all(char.isprintable() or char == "\n" for char in ended.output)
    assert "林さん" in ended.output


def test_show_tells_who_when_why_and_what(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments/10", {**LIST["deployments"][0], "diff": CHANGE["diff"][:1], "document": {}})

    ended = ask("deployments", "show", "10")

    assert ended.output == (
        "revision 10\n"
        "time     2026-01-01T12:00:00Z\n"
        "author   127.0.0.1\n"
        "cause    api\n"
        "reason   -\n"
        "state    current, reverts 2026-01-01T12:15:00Z\n"
        "changes  1\n"
        "  maxConcurrency: 100 -> 25\n"
    )


def test_diff_has_a_line_for_each_place(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments/3/diff/8", {"from": 3, "to": 8, "diff": CHANGE["diff"]})

    ended = ask("deployments", "diff", "3", "8")

    assert (ended.code, ended.output.splitlines()) == (
        0,
        [
            "  maxConcurrency: 100 -> 25",
            '+ models.fast: ["openai/gpt-4o-mini"]',
            '- cache.ttl: "5m"',
            f'  native.defaultModel: "{"x" * 58}… -> ""',
        ],
    )


def test_revisions_that_do_not_differ_say_so(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments/3/diff/8", {"from": 3, "to": 8, "diff": []})

    assert ask("deployments", "diff", "3", "8").output == "revisions 3 and 8 do not differ\n"


def test_rollback_sends_who_and_why(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("POST", "/deployments/3/rollback", CHANGE)

    ended = ask("deployments", "rollback", "3", "--reason", "zu langsam für Gäste ✗")

    [request] = scripted.requests
    assert (ended.code, ended.output.splitlines()[0]) == (0, "revision 8: 4 changes")
    assert request.headers["x-reason"] == "zu langsam für Gäste ✗"
    assert request.headers["x-author"] == getpass.getuser()
    assert (request.body, request.headers["content-length"]) == (None, "0")


def test_author_without_a_name_is_left_out(ask: Run, scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.on("POST", "/deployments/3/rollback", CHANGE)

    def no_name() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", no_name)

    assert ask("deployments", "rollback", "3").code == 0
    assert "x-author" not in scripted.requests[0].headers


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], {}),
        (["--restart"], {"restart": "true"}),
        (["--dry-run"], {"dryRun": "true"}),
        (["--restart", "--dry-run"], {"restart": "true", "dryRun": "true"}),
    ],
)
def test_deploy_asks_for_what_its_options_say(
    ask: Run, scripted: ScriptedProxy, arguments: list[str], query: dict[str, str]
) -> None:
    scripted.on("POST", "/deployments", CHANGE)

    assert ask("deploy", *arguments).code == 0
    assert (scripted.requests[0].query, scripted.requests[0].body) == (query, None)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "`python -m proxy deploy --restart` does it"),
        (["--restart"], "the proxy restarts now"),
        (["--restart", "--dry-run"], "--restart would do it"),
    ],
)
def test_deploy_tells_what_needs_a_restart(ask: Run, scripted: ScriptedProxy, arguments: list[str], hint: str) -> None:
    scripted.on("POST", "/deployments", {**CHANGE, "restartNeeded": ["server.port", "plugins"]})

    assert f"needs a restart: server.port, plugins ({hint})\n" in ask("deploy", *arguments).output


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({}, "revision 8: 4 changes"),
        ({"diff": CHANGE["diff"][:1]}, "revision 8: 1 change"),
        ({"changed": False, "diff": []}, "nothing to change, revision 8 stays"),
        ({"dryRun": True}, "dry run, nothing was changed: 4 changes"),
        ({"dryRun": True, "changed": False, "diff": []}, "dry run: nothing would change"),
    ],
)
def test_first_line_tells_what_happened(ask: Run, scripted: ScriptedProxy, members: dict[str, Any], line: str) -> None:
    scripted.on("POST", "/deployments", {**CHANGE, **members})

    assert ask("deploy").output.splitlines()[0] == line


def test_change_tells_issues_and_when_it_reverts(ask: Run, scripted: ScriptedProxy) -> None:
    issue = {"severity": "warn", "path": "cache.ttl", "message": "is long", "fix": "curl a\ncurl b"}
    times = {"expiresAt": "2026-01-01T12:15:00Z", "guardUntil": "2026-01-01T12:01:00Z"}
    scripted.on("POST", "/deployments", {**CHANGE, "diff": [], "issues": [issue], **times})

    assert ask("deploy").output == (
        "revision 8: 0 changes\n"
        "reverts by itself: 2026-01-01T12:15:00Z\n"
        "reverts if errors or latency grow until: 2026-01-01T12:01:00Z\n"
        "\n"
        "SEVERITY  PATH       MESSAGE\n"
        "warn      cache.ttl  is long\n"
        "    fix: curl a\n"
        "    fix: curl b\n"
    )
