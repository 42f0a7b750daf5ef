"""Which verbs and options there are, where they may stand, and what is wrong usage."""

import argparse
import re
from collections.abc import Iterator

import pytest

from proxy.cli.commands import EXIT_CODES, VerbParser, build_parser
from tests.proxy.cli.rig import ROOT, Run, ScriptedProxy

DOCS = ROOT / "docs" / "cli.md"
CHANGE = {"revision": 8, "changed": True, "diff": [], "issues": [], "restartNeeded": []}


def leaves(parser: VerbParser) -> Iterator[VerbParser]:
    parser.learn()
    for verb in parser.verbs:
        yield from leaves(verb)
    if not parser.verbs:
        yield parser


LEAVES = list(leaves(build_parser("")))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_options_stand_before_or_after_any_word(cli: Run, scripted: ScriptedProxy, place: int) -> None:
    scripted.on("GET", "/deployments/3", {"id": 3, "time": "2026-01-01T00:00:00Z"})
    words = ["deployments", "show", "3"]
    words[place:place] = ["--url", scripted.url, "--json", "--token", "t0ken"]

    ended = cli(*words)

    assert (ended.code, ended.output[0]) == (0, "{"), ended.errors
    assert scripted.requests[0].headers["authorization"] == "Bearer t0ken"


def test_the_last_of_two_options_counts(cli: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", {"deployments": []})

    ended = cli("--url", "http://127.0.0.1:1", "deployments", "--url", scripted.url)

    assert ended.code == 0


def test_limit_may_stand_before_the_word_list(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/deployments", {"deployments": [{"id": 2}, {"id": 1}]})

    outputs = [ask("--json", "deployments", *words).output for words in (["--limit", "1", "list"], ["--limit", "1"])]

    assert outputs[0] == outputs[1]
    assert '"id": 2' in outputs[0]
    assert '"id": 1' not in outputs[0]


def test_assignments_may_stand_on_both_sides_of_an_option(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("PATCH", "/config", CHANGE)

    ended = ask("config", "set", "a=1", "--ttl", "15m", "b=2", "c=-3", "--reason", "a try")

    assert ended.code == 0, ended.errors
    assert scripted.requests[0].body == {"a": 1, "b": 2, "c": -3}
    assert scripted.requests[0].query == {"ttl": "15m"}


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["config"],
        ["config", "nonsense"],
        ["config", "get"],
        ["config", "get", "a", "b"],
        ["config", "get", "a..b"],
        ["config", "set"],
        ["config", "set", "a"],
        ["config", "set", "a", "1", "b"],
        ["config", "set", "a=1", "b"],
        ["config", "set", "a=1", "a.b=2"],
        ["config", "set", "a=1", "--if-match", "x"],
        ["config", "set", "a=1", "--reason", "two\nlines"],
        ["config", "set", "a=1", "--nonsense", "b=1"],
        ["deployments", "show", "x"],
        ["deployments", "diff", "1"],
        ["deployments", "--limit", "0"],
        ["deploy", "--res"],
        ["completion", "tcsh"],
        ["--host", "::1", "deployments"],
        ["--port", "1", "deployments"],
        ["--url", "http://127.0.0.1:1"],
        ["--token", "x"],
        ["--json"],
        ["--url", "127.0.0.1:8080", "deployments"],
        ["--url", "http://user:secret-word@127.0.0.1", "deployments"],
        ["--url", "http://127.0.0.1:99999", "deployments"],
        ["--url", "http://127.0.0.1:1", "--token", "a\nb", "deployments"],
    ],
)
def test_wrong_usage_ends_with_2(cli: Run, words: list[str]) -> None:
    where = [] if "--url" in words or words[0].startswith("-") else ["--url", "http://127.0.0.1:1"]

    ended = cli(*words, *where)

    assert ended.code == 2, ended
    assert ended.output == ""
    assert ended.errors
    assert "secret-word" not in ended.errors


def test_help_tells_verbs_and_exit_codes(cli: Run) -> None:
    ended = cli("--help")

    assert ended.code == 0
    assert EXIT_CODES in ended.output
    assert all(name in ended.output for name in ("deployments", "deploy ", "config", "completion"))


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.prog.strip())
def test_every_verb_and_option_is_documented(leaf: VerbParser) -> None:
    text = DOCS.read_text()
    options = {name for action in leaf._actions for name in action.option_strings if name not in ("-h", "--help")}

    assert f"`{leaf.prog.strip()}" in text
    assert [name for name in sorted(options) if not re.search(rf"{name}\b", text)] == []


def test_documents_name_no_option_that_does_not_exist() -> None:
    known = {"--help"} | {
        name for parser in (build_parser(), *LEAVES) for action in parser._actions for name in action.option_strings
    }

    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCS.read_text())) <= known


def test_documents_tell_the_exit_codes() -> None:
    text = DOCS.read_text()

    for line in EXIT_CODES.splitlines()[1:-1]:
        code, meaning = line.split(None, 1)
        assert f"| {code} | {meaning} |" in text


def test_options_of_all_verbs_have_no_defaults_of_their_own() -> None:
    common = [
        action
        for leaf in LEAVES
        for action in leaf._actions
        if action.dest in ("config", "url", "token", "json", "limit") and action.option_strings
    ]

    assert len(common) >= 4 * len(LEAVES)
    assert all(action.default is argparse.SUPPRESS for action in common)
