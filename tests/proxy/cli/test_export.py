"""Writing the running configuration as a file to commit."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy.cli.defaults import without_defaults
from proxy.cli.yaml_text import yaml_text
from proxy.config.document import parse_yaml
from proxy.config.loader import load
from proxy.config.models import Settings
from tests.proxy.cli.rig import Run, ScriptedProxy

SCHEMA_LINE = "# yaml-language-server: $schema=proxy.schema.json"
SCHEMA = TypeAdapter(Settings).json_schema(by_alias=True)
DOCUMENT: dict[str, Any] = {
    "$export": {"revision": 7, "time": "2026-01-01T12:00:00Z", "sections": []},
    "server": {"host": "127.0.0.1", "port": 9090, "drainTimeout": "30s", "clientMaxSize": "32MB", "allowedOrigins": []},
    "admin": {"token": "${PROXY_ADMIN_TOKEN:-}"},
    "state": {"dir": "var"},
    "maxConcurrency": 100,
    "enableFallbackProviders": True,
    "providers": {
        "openai": {
            "type": "openai",
            "baseUrl": "https://api.openai.com/v1",
            "apiKey": "${OPENAI_API_KEY}",
            "priority": 0,
            "enabled": True,
            "timeouts": {"connect": 5, "total": "none", "idle": "none"},
        },
        "echo": {"type": "echo"},
    },
    "models": {},
    "unknown": {"x": 1},
}
TRIMMED = {
    "server": {"port": 9090},
    "admin": {"token": "${PROXY_ADMIN_TOKEN:-}"},
    "providers": {
        "openai": {
            "type": "openai",
            "baseUrl": "https://api.openai.com/v1",
            "apiKey": "${OPENAI_API_KEY}",
            "timeouts": {"idle": "none"},
        },
        "echo": {"type": "echo"},
    },
    "models": {},
    "unknown": {"x": 1},
}


@pytest.fixture
def running(scripted: ScriptedProxy) -> ScriptedProxy:
    scripted.on("GET", "/config", DOCUMENT)
    scripted.on("GET", "/config/schema", SCHEMA)
    return scripted


def test_export_leaves_defaults_out(ask: Run, running: ScriptedProxy) -> None:
    ended = ask("config", "export")

    assert (ended.code, ended.output.splitlines()[0]) == (0, SCHEMA_LINE)
    assert parse_yaml(ended.output, "exported")[0] == TRIMMED
    assert list(parse_yaml(ended.output, "exported")[0]) == list(TRIMMED)


def test_export_of_everything_keeps_them(ask: Run, running: ScriptedProxy) -> None:
    ended = ask("config", "export", "--all")

    assert parse_yaml(ended.output, "exported")[0] == {k: v for k, v in DOCUMENT.items() if k != "$export"}
    assert [request.path for request in running.requests] == ["/config"]


def test_exported_file_means_what_was_running(ask: Run, running: ScriptedProxy, tmp_path: Path) -> None:
    whole = {k: v for k, v in DOCUMENT.items() if k not in ("$export", "unknown")}
    running.on("GET", "/config", whole)
    environ = {"OPENAI_API_KEY": "k"}

    for name, arguments in (("trimmed", []), ("all", ["--all"])):
        assert ask("config", "export", "--output", f"{name}.yaml", *arguments).code == 0

    trimmed, everything = (load(tmp_path / f"{name}.yaml", environ, {}).settings for name in ("trimmed", "all"))
    assert trimmed == everything


def test_secret_that_stands_for_itself_is_told_in_file_and_message(
    ask: Run, running: ScriptedProxy, tmp_path: Path
) -> None:
    document = {"providers": {"a": {"apiKey": {"$secret": "k1"}}, "b\nc": {"apiKey": {"$secret": "k2"}}}}
    running.on("GET", "/config", document)

    ended = ask("config", "export", "--output", "out.yaml")

    text = (tmp_path / "out.yaml").read_text()
    assert text.splitlines()[0] == SCHEMA_LINE
    assert text.splitlines()[1].startswith("# ")
    assert "${NAME}" in text.splitlines()[1]
    assert "providers.a.apiKey, providers.b\\nc.apiKey" in text.splitlines()[1]
    assert parse_yaml(text, "exported")[0] == document
    assert "providers.a.apiKey" in ended.errors


def test_output_replaces_the_file_a_link_leads_to_and_keeps_its_mode(
    ask: Run, running: ScriptedProxy, tmp_path: Path
) -> None:
    target = tmp_path / "real.yaml"
    target.write_text("old")
    target.chmod(0o640)
    (tmp_path / "link.yaml").symlink_to(target)

    ended = ask("config", "export", "--output", "link.yaml")

    assert (ended.code, ended.output) == (0, "revision 7 is written to link.yaml\n")
    assert (tmp_path / "link.yaml").is_symlink()
    assert target.read_text().startswith(SCHEMA_LINE)
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


def test_output_that_cannot_be_written_is_a_failure(ask: Run, running: ScriptedProxy) -> None:
    ended = ask("config", "export", "--output", "no/such/folder.yaml")

    assert (ended.code, ended.errors) == (1, "no/such/folder.yaml cannot be written: no such file or directory\n")


def test_empty_configuration_is_an_empty_mapping(ask: Run, running: ScriptedProxy) -> None:
    running.on("GET", "/config", {"$export": {"revision": 1}, "maxConcurrency": 100})

    assert ask("config", "export").output == f"{SCHEMA_LINE}\n{{}}\n"


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"properties": {"a": {"default": 1}}}, False),
        ({"properties": {"a": {"default": True}}}, True),
        ({"properties": {"a": {"default": 1.0}}}, False),
        ({"properties": {"a": {"default": 1}}, "required": ["a"]}, True),
        ({"properties": {"a": {}}}, True),
        ({"properties": {"a": {"default": "1000ms", "format": "duration"}}}, False),
        ({"properties": {"a": {"default": "2s", "format": "duration"}}}, True),
        ({"properties": {"a": {"default": None, "format": "duration"}}}, True),
        ({"properties": {"a": {"default": "1B", "format": "size"}}}, False),
        ({"properties": {"a": {"default": 2, "format": "size"}}}, True),
        ({}, True),
    ],
)
def test_only_what_equals_its_default_is_left_out(schema: dict[str, Any], kept: bool) -> None:
    assert (without_defaults({"a": 1}, schema) == {"a": 1}) is kept


def test_section_that_is_absent_by_default_stays_even_when_empty() -> None:
    section = {"properties": {"x": {"default": 1}}}
    schema = {"$defs": {"S": section}, "properties": {"a": {"anyOf": [{"$ref": "#/$defs/S"}, {"type": "null"}]}}}
    optional = {**schema["properties"]["a"], "default": None}

    assert without_defaults({"a": {"x": 1}}, schema) == {}
    assert without_defaults({"a": {"x": 1}}, {**schema, "properties": {"a": optional}}) == {"a": {}}


def test_schema_that_refers_to_itself_does_no_harm() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}

    assert without_defaults({"a": {"b": 1}}, {"properties": {"a": schema}, **schema}) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "text",
    [
        *("on", "YES", "null", "~", "", " ", "012", "0x1F", "0o7", "1e3", ".5", "+.5", ".inf", "1_000", "12:30"),
        *("- a", "a: b", "a #b", "#a", "?", "!x", "&a", "*", "<<", "=", "%", "@", "`", "{a", "[a", "'", '"', "|", ">"),
        *(
            "word " * 60,
            "?x",
            "?*",
            "${A:-x}",
            "10s",
            "127.0.0.1",
            "2026-01-01",
            "x\x1b",
            "x\x85y",
            "\ufeff",
            "\u2028",
            "a\nb",
            "\ttab",
            "\\",
        ),
    ],
)
def test_text_is_read_back_as_it_was(text: str) -> None:
    document = {"a": text, "b": [text, {"c": text}], "d": [text]} | ({text: 1} if text else {})

    assert parse_yaml(yaml_text(document), "written")[0] == document


@given(st.lists(st.text("0123456789+-.eExXoOabfn~=<!&*#?|>%@`'\"{}[],: \n\t\\$é\u202e\x85\x1b", max_size=8)))
@settings(max_examples=300)
def test_any_text_is_read_back_as_it_was(texts: list[str]) -> None:
    document = {"flat": texts, "deep": [[text] for text in texts], "map": {text: text for text in texts if text}}

    assert parse_yaml(yaml_text(document), "written")[0] == document


def test_usual_text_stands_without_quotes() -> None:
    assert yaml_text({"a": "10s", "b": "${X:-}", "c": "https://a/v1", "d": ["gpt-4", "o1"]}) == (
        "a: 10s\nb: ${X:-}\nc: https://a/v1\nd: [gpt-4, o1]\n"
    )


def test_long_text_stays_on_one_line() -> None:
    assert yaml_text({"a": ["word " * 60 + "end"]}).count("\n") == 1
