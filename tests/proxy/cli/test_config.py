"""Reading, changing and checking the configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.config.set import read_value
from proxy.cli.exits import Failed
from proxy.cli.places import split_place
from proxy.config.document import parse_yaml
from tests.proxy.cli.rig import Run, ScriptedProxy

DOCUMENT = {
    "$export": {"revision": 7, "time": "2026-01-01T12:00:00Z", "sections": ["server", "models"]},
    "server": {"port": 8080, "drainTimeout": "30s"},
    "models": {"gpt-4.1": ["a/b", "c/d"], "a/b~c": []},
    "cache": {"enabled": True, "ratio": 0.5, "text": "two\n\x1blines"},
}
CHANGE = {"revision": 8, "changed": True, "dryRun": False, "diff": [], "issues": [], "restartNeeded": []}


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("server.port", "8080\n"),
        ("server.drainTimeout", "30s\n"),
        ("cache.enabled", "true\n"),
        ("cache.ratio", "0.5\n"),
        ("cache.text", "two\n\x1blines\n"),
        (r"models.gpt-4\.1", '[\n  "a/b",\n  "c/d"\n]\n'),
        (r"models.gpt-4\.1.1", "c/d\n"),
        ("/models/gpt-4.1/0", "a/b\n"),
        ("/models/a~1b~0c", "[]\n"),
        ("server", '{\n  "port": 8080,\n  "drainTimeout": "30s"\n}\n'),
    ],
)
def test_get_prints_the_value_only(ask: Run, scripted: ScriptedProxy, path: str, output: str) -> None:
    scripted.on("GET", "/config", DOCUMENT)

    ended = ask("config", "get", path)

    assert (ended.code, ended.output, ended.errors) == (0, output, "")


def test_get_prints_json_on_demand(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config", DOCUMENT)

    assert ask("config", "get", "server.drainTimeout", "--json").output == '"30s"\n'


@pytest.mark.parametrize("verb", ["get", "show"])
@pytest.mark.parametrize("path", ["nonsense", "server.port.x", r"models.gpt-4\.1.2", "models.gpt-4.1"])
def test_what_is_not_set_is_a_failure(ask: Run, scripted: ScriptedProxy, verb: str, path: str) -> None:
    scripted.on("GET", "/config", DOCUMENT)

    ended = ask("config", verb, path)

    assert (ended.code, ended.output, ended.errors) == (1, "", f"{path.replace(chr(92), chr(92))} is not set\n")


def test_show_is_yaml_with_the_revision(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config", DOCUMENT)

    ended = ask("config", "show")

    assert ended.output.startswith("# revision 7, 2026-01-01T12:00:00Z\nserver:\n  port: 8080\n  drainTimeout: 30s\n")
    assert parse_yaml(ended.output, "shown")[0] == {key: DOCUMENT[key] for key in ("server", "models", "cache")}


def test_show_takes_a_part_and_json(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config", DOCUMENT)

    assert ask("config", "show", "server").output == "port: 8080\ndrainTimeout: 30s\n"
    assert ask("config", "show", "server.port").output == "8080\n"
    assert json.loads(ask("config", "show", "--json").output) == DOCUMENT


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "/", "/a//b"])
def test_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Failed, match="names no place"):
        split_place(text)


# -- set -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "patch"),
    [
        (["maxConcurrency=25"], {"maxConcurrency": 25}),
        (["maxConcurrency", "25"], {"maxConcurrency": 25}),
        (["cache.ttl", "a=b"], {"cache": {"ttl": "a=b"}}),
        (["cache.ttl=5m", "cache.enabled=true", "a=b=c"], {"cache": {"ttl": "5m", "enabled": True}, "a": "b=c"}),
        (["cache.ttl=null"], {"cache": {"ttl": None}}),
        (["cache="], {"cache": ""}),
        ([r"models.gpt-4\.1", '["a/b"]'], {"models": {"gpt-4.1": ["a/b"]}}),
        (["/models/gpt-4.1=[]"], {"models": {"gpt-4.1": []}}),
        (["name=grün"], {"name": "grün"}),
    ],
)
def test_set_sends_one_merge_patch(ask: Run, scripted: ScriptedProxy, words: list[str], patch: dict[str, Any]) -> None:
    scripted.on("PATCH", "/config", CHANGE)

    ended = ask("config", "set", *words)

    [request] = scripted.requests
    assert (ended.code, request.body, request.query) == (0, patch, {})
    assert request.headers["content-type"] == "application/json"
    assert "if-match" not in request.headers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5m", "5m"),
        ("-1.5", -1.5),
        ('"5"', "5"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1, NaN]", "[1, NaN]"),
        ('{"a": 1}', {"a": 1}),
        ("[" * 100_000, "[" * 100_000),
        ("True", "True"),
    ],
)
def test_value_is_json_or_else_text(text: str, value: object) -> None:
    assert read_value(text) == value


def test_set_hands_on_its_options(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("PATCH", "/config", CHANGE)

    ask("config", "set", "--ttl", "15m", "--guard", "60s", "--dry-run", "--if-match", "7", "--reason", "why not", "a=1")

    [request] = scripted.requests
    assert request.query == {"ttl": "15m", "guard": "60s", "dryRun": "true"}
    assert (request.headers["if-match"], request.headers["x-reason"]) == ('"7"', "why not")


# -- validate, issues, schema ----------------------------------------------------------------------------------------


def test_validate_of_a_file_names_file_and_line(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text("server: {port: -5}\nnonsense: 1\n")

    ended = cli("config", "validate", "prod.yaml")

    assert (ended.code, ended.output) == (1, "")
    assert [line.split(": ")[0] for line in ended.errors.splitlines()] == ["prod.yaml:1", "prod.yaml:2"]


def test_validate_of_a_file_prints_json_on_demand(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text("\nserver: {port: -5}\n")

    ended = cli("config", "validate", "--json", "prod.yaml")

    document = json.loads(ended.output)
    assert (ended.code, document["valid"], document["file"]) == (1, False, "prod.yaml")
    assert [(each["path"], each["line"]) for each in document["errors"]] == [("server.port", 2)]


def test_validate_of_a_good_file_needs_no_running_proxy(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("maxConcurrency: 5\n")

    ended = cli("config", "validate", "good.yaml")

    assert (ended.code, ended.output, ended.errors) == (0, "good.yaml is valid\n", "")
    assert json.loads(cli("config", "validate", "good.yaml", "--json").output)["valid"] is True


def test_validate_of_a_missing_file_is_a_failure(cli: Run) -> None:
    ended = cli("config", "validate", "none.yaml")

    assert (ended.code, ended.errors) == (1, "none.yaml: cannot be read: no such file or directory\n")


@pytest.mark.parametrize(("valid", "code", "words"), [(True, 0, "is valid"), (False, 1, "is not valid")])
def test_validate_without_a_file_asks_the_proxy(
    ask: Run, scripted: ScriptedProxy, valid: bool, code: int, words: str
) -> None:
    issue = {"severity": "info", "path": "", "message": "overlay differs"}
    scripted.on("GET", "/config/validate", {"valid": valid, "revision": 7, "issues": [issue]})

    ended = ask("config", "validate")

    assert (ended.code, ended.output.splitlines()[0]) == (code, f"revision 7 {words}")
    assert "info      -     overlay differs\n" in ended.output


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warn", 0), ("info", 0)])
def test_issues_are_a_table_with_fixes(ask: Run, scripted: ScriptedProxy, severity: str, code: int) -> None:
    issue = {"severity": severity, "path": "admin.token", "message": "is \x1b[5mweak", "why": "", "fix": "curl -X \x07"}
    scripted.on("GET", "/config/issues", {"revision": 7, "issues": [issue, {"severity": "info", "message": "m"}]})

    ended = ask("config", "issues")

    assert ended.code == code
    assert ended.output == (
        "SEVERITY  PATH         MESSAGE\n"
        f"{severity:<8}  admin.token  is \\x1b[5mweak\n"
        "    fix: curl -X \\x07\n"
        "info      -            m\n"
    )
    assert ask("config", "issues", "--json").code == code


def test_no_issues_is_said(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config/issues", {"revision": 7, "issues": []})

    ended = ask("config", "issues")

    assert (ended.code, ended.output) == (0, "no issues in revision 7\n")


def test_schema_is_printed(ask: Run, scripted: ScriptedProxy) -> None:
    scripted.on("GET", "/config/schema", {"type": "object"})

    assert ask("config", "schema").output == '{\n  "type": "object"\n}\n'
