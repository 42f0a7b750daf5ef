"""Differences from the file, and secrets in files that others may read."""

import shlex
import stat
from pathlib import Path

import pytest

from proxy.config.issues import find_issues
from proxy.config.patch import merge
from tests.proxy.config.issue_facts import CANARY, Raw, facts, one, remote, two

DRIFTS: list[tuple[Raw, Raw, str, str]] = [
    ({"maxQueue": 5}, {"maxQueue": 7}, "maxQueue", "5 is in force, the file has 7"),
    ({"maxQueue": 5}, {}, "maxQueue", "5 is in force, the file has nothing"),
    ({}, {"maxQueue": 5}, "maxQueue", "the file has 5, unused"),
    ({"maxQueue": 5}, {"maxQueue": "5"}, "maxQueue", '5 is in force, the file has "5"'),
    (one(remote(models=["y"])), one(remote()), "providers.a.models", "a list is in force, the file has a list"),
    ({"providers": {"a": remote()}}, {}, "providers", "a mapping of a is in force, the file has nothing"),
    ({}, {"alerting": {"every": 5}}, "alerting", "the file has a mapping of every, unused"),
    (
        one(remote(apiKey="${TOKEN}")),
        one(remote()),
        "providers.a.apiKey",
        '"${TOKEN}" is in force, the file has "${OPENAI_API_KEY}"',
    ),
]


@pytest.mark.parametrize(("raw", "base", "path", "message"), DRIFTS, ids=[case[3] for case in DRIFTS])
def test_difference_from_the_file_is_shown_and_taken_back(raw: Raw, base: Raw, path: str, message: str) -> None:
    (found,) = [issue for issue in find_issues(facts(raw, base)) if issue.kind == "drift"]

    assert (found.severity, found.path, found.message) == ("info", path, message)
    assert merge(raw, found.patch) == base
    assert [issue for issue in find_issues(facts(merge(raw, found.patch), base)) if issue.kind == "drift"] == []


@pytest.mark.parametrize(
    ("raw", "base", "path"),
    [
        ({"admin": {"token": "${TOKEN}"}}, {"admin": {"token": CANARY}}, "admin.token"),
        ({}, {"providers": {"a": remote(apiKey=CANARY)}}, "providers"),
        ({}, {"alerting": {"hook": f"${{KEY:-{CANARY}}}"}}, "alerting"),
        (one(remote()), one(remote(proxy=f"http://u:{CANARY}@proxy.example")), "providers.a.proxy"),
    ],
)
def test_secret_of_the_file_is_never_put_into_a_patch(raw: Raw, base: Raw, path: str) -> None:
    (found,) = find_issues(facts(raw, base))

    assert (found.kind, found.path, found.patch) == ("drift", path, None)
    assert "would show a secret" in found.why
    assert CANARY not in repr(found)


def test_secret_in_force_is_not_shown_and_can_be_taken_back() -> None:
    (found,) = find_issues(facts({"admin": {"token": CANARY}}, {"admin": {"token": "${TOKEN}"}}))

    assert CANARY not in repr(found)
    assert found.patch == {"admin": {"token": "${TOKEN}"}}


@pytest.mark.parametrize(("count", "last"), [(50, "models.m49"), (51, ""), (400, "")])
def test_at_most_fifty_differences_are_listed(count: int, last: str) -> None:
    raw = two(models={f"m{number:02}": ["a/x"] for number in range(count)})

    found = [issue for issue in find_issues(facts(raw, two(models={}))) if issue.kind == "drift"]

    assert len(found) == 50
    assert last in {issue.path for issue in found}
    assert last or f"{count - 49} more places differ from the file" in {issue.message for issue in found}


CLEAR: list[tuple[Raw, str]] = [
    ({"admin": {"token": CANARY}}, "admin.token"),
    ({"admin": {"token": f"${{KEY:-{CANARY}}}"}}, "admin.token"),
    (one(remote(headers={"Authorization": f"Bearer {CANARY}"})), "providers.a.headers.Authorization"),
    (one(remote(proxy=f"http://u:{CANARY}@proxy.example")), "providers.a.proxy"),
    ({"alerting": {"hook": CANARY}}, "alerting.hook"),
]


@pytest.mark.parametrize(("raw", "path"), CLEAR, ids=[case[1] for case in CLEAR])
def test_secret_in_a_file_that_others_may_read(raw: Raw, path: str, tmp_path: Path) -> None:
    file = tmp_path / "it's mine.yaml"
    file.write_text("")
    file.chmod(0o640)

    (found,) = find_issues(facts(raw, file=file))

    assert (found.kind, found.severity, found.path) == ("secret_in_clear", "warning", path)
    assert "(mode 640)" in found.message
    assert found.command is not None
    assert CANARY not in repr(found)
    program, mode, name = shlex.split(found.command)
    assert (program, Path(name)) == ("chmod", file)

    file.chmod(int(mode, 8))
    assert find_issues(facts(raw, file=file)) == []


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"admin": {"token": "${TOKEN}"}},
        one(remote(headers={"Authorization": "Bearer ${TOKEN}"})),
        one(remote(proxy="http://me:${TOKEN}@proxy.example")),
        one(remote(proxy="http://${TOKEN}@proxy.example")),
    ],
    ids=str,
)
def test_file_that_holds_references_only_may_be_read(raw: Raw, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("")
    file.chmod(0o644)

    assert find_issues(facts(raw, file=file)) == []


def test_several_secrets_in_one_file_are_one_issue_and_a_file_that_is_gone_is_none(tmp_path: Path) -> None:
    raw = one(remote(apiKey=CANARY, headers={"X-Api-Key": CANARY}))
    file = tmp_path / "a.yaml"

    gone = find_issues(facts(raw, file=file))
    file.write_text("")
    file.chmod(0o604)
    (found,) = find_issues(facts(raw, file=file))

    assert gone == []
    assert found.message.startswith("stands in clear and 1 more in")


def test_key_file_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(CANARY)
    file.chmod(0o644)
    provider = remote(apiKeyFile=str(file))
    del provider["apiKey"]

    (found,) = find_issues(facts(one(provider)))

    assert (found.kind, found.path) == ("key_file_readable", "providers.a.apiKeyFile")
    assert found.command is not None
    assert CANARY not in repr(found)
    file.chmod(int(found.command.split()[1], 8))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert find_issues(facts(one(provider))) == []
