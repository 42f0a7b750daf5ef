"""Every setting and kind of issue is described in the files that are shipped; none there is made up."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from proxy.config.document import parse_yaml
from proxy.config.issues import Facts, find_issues
from proxy.config.loader import document_of, load, validate
from proxy.config.models import BUILT_IN_PLUGINS, ProviderSettings, Settings
from proxy.config.schema import schema_text
from proxy.config.shape import Shape, fields_of, members, model_of
from proxy.errors import ConfigError
from proxy.host.loader import config_models
from proxy.host.loader import load as load_plugins
from proxy.plugin import PluginConfig

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "conf/proxy.yaml"
DOCS = ROOT / "docs/configuration.md"
SCHEMA = ROOT / "conf/proxy.schema.json"
ROUTING = ROOT / "docs/routing.md"
EXAMPLES = sorted((ROOT / "conf/examples").glob("*.yaml"))

NOTICED_BY_THE_PROCESS = {"file_refused", "overlay_set_aside", "revision_corrupt", "revert_failed", "write_failed"}

ENVIRON = {
    "OPENAI_API_KEY": "k",
    "ANTHROPIC_API_KEY": "k",
    "PROXY_ADMIN_TOKEN": "t" * 32,
    "RERANK_TOKEN": "t",
    "TEAM_A_KEY": "k",
}


def sections() -> dict[str, type[PluginConfig]]:
    """The section and config model of each built-in plugin."""
    return config_models(load_plugins(BUILT_IN_PLUGINS))


def settings_of(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Path and description of every setting below a model; `*` stands for a chosen name, or a place in a list."""
    for key, field in fields_of(model).items():
        where = (*path, key)
        yield where, field.description
        if (inner := model_of(field.annotation)) is not None:
            yield from settings_of(inner, where)
        for part in members(field.annotation):
            for inner in filter(None, map(model_of, get_args(part))):
                yield from settings_of(inner, (*where, "*"))


def all_settings() -> list[tuple[tuple[str, ...], str | None]]:
    found = list(settings_of(Settings, ()))
    for name, model in sections().items():
        found += settings_of(model, (name,))
    return found


def uncommented() -> dict[str, Any]:
    """The default file with its commented settings switched on: `#` and then two blanks or none."""
    text = re.sub(r"^#(?= {2,}|\S)", "", DEFAULT.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^( *)(\w+): (?:\{\}|\[\])([^\n]*\n)(?=\1 +[\w-])", r"\1\2:\3", text, flags=re.MULTILINE)
    return parse_yaml(text, "uncommented")[0]


def named_places() -> set[tuple[str, ...]]:
    """Places below which the operator chooses the names."""
    return {("models",)} | {path[: path.index("*", at)] for path, _ in all_settings() for at in stars(path)}


def stars(path: tuple[str, ...]) -> list[int]:
    return [at for at, key in enumerate(path) if key == "*"]


def paths_in(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            named = "*" if path in NAMED else key
            yield (*path, named)
            yield from paths_in(item, (*path, named))
    elif isinstance(value, list):
        for item in value:
            yield from paths_in(item, (*path, "*"))


NAMED = named_places()
SWITCHED_ON = {"cache", "rateLimit"}
"""Sections that the default file switches on: who writes a file of their own asks for them."""
HEADERS = {"header", "headers"}
"""Keys below which stand headers, by name."""
IDS = [".".join(path) for path, _ in all_settings()]


@pytest.mark.parametrize(("path", "description"), all_settings(), ids=IDS)
def test_setting_is_documented(path: tuple[str, ...], description: str | None) -> None:
    in_provider = path[:2] == ("providers", "*")
    name = ".".join(path[2:] if in_provider else path)

    assert description, "has no description"
    assert description.endswith(".")
    assert path in set(paths_in(uncommented())), "is not in conf/proxy.yaml"
    is_group = any(
        other[: len(path)] == path and "*" not in other[len(path) :] and other != path for other, _ in all_settings()
    )
    assert is_group or f"`{name}`" in DOCS.read_text(), "is not in docs/configuration.md"


def test_settings_within_lists_are_held_to_the_same() -> None:
    assert ("balancer", "routes", "*", "when", "minSize") in {path for path, _ in all_settings()}
    assert ("balancer", "routes", "*", "when", "minSize") in set(paths_in(uncommented()))
    assert set(paths_in({"x": [{"y": 1}]})) == {("x",), ("x", "*", "y")}


def test_default_file_names_no_key_that_does_not_exist() -> None:
    known = {path for path, _ in all_settings()} | {(*place, "*") for place in NAMED} | {(name,) for name in sections()}

    made_up = {path for path in paths_in(uncommented()) if path not in known and not HEADERS & {*path[:-1]}}

    assert not made_up


def test_documents_name_no_key_that_does_not_exist() -> None:
    known = {".".join(path[2:] if path[:2] == ("providers", "*") else path) for path, _ in all_settings()}

    named = re.findall(r"^\| `([A-Za-z.*]+)` \|[^|]*\|[^|]*\|$", DOCS.read_text(), flags=re.MULTILINE)

    assert len(named) > 50
    assert set(named) - known <= {"openai", "anthropic", "gemini", "ollama", "http", "echo"}


def test_default_file_needs_no_environment_and_means_the_defaults() -> None:
    loaded = load(DEFAULT, {}, sections())

    assert loaded.settings == Settings()
    defaults = {name: model() for name, model in sections().items()}
    switched_on = {name: {"enabled": True} for name in SWITCHED_ON}
    assert loaded.sections == {
        name: section.model_copy(update=switched_on.get(name, {})) for name, section in defaults.items()
    }
    assert not loaded.document.faults


def test_commented_examples_in_the_default_file_are_valid() -> None:
    document = document_of(uncommented(), ENVIRON | {"GEMINI": "x"}, source="uncommented")

    with pytest.raises(ConfigError) as caught:
        validate(document, sections())

    missing_files = {"providers.gemini.apiKeyFile", "providers.openai.tls.caFile"}
    assert {fault.path for fault in caught.value.faults} == missing_files


def test_commented_values_of_a_provider_are_the_defaults_where_they_say_so() -> None:
    provider = dict(uncommented()["providers"]["openai"])
    for example in ("apiKey", "models", "headers", "prices", "maxConcurrency", "breaker"):
        del provider[example]
    provider["tls"] = {"verify": provider["tls"]["verify"]}

    bare = ProviderSettings.model_validate({"type": provider["type"], "baseUrl": provider["baseUrl"]})

    assert ProviderSettings.model_validate(provider) == bare


def balancer_examples() -> list[str]:
    (section,) = [each for each in ROUTING.read_text().split("\n## ") if each.startswith("Who is asked first")]
    return re.findall(r"^```yaml\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", balancer_examples())
def test_example_of_the_routing_guide_is_valid(text: str) -> None:
    named = {"type": "openai", "baseUrl": "https://a.example/v1"}
    providers = dict.fromkeys(("openai", "anthropic", "azure", "local", "east"), named)

    loaded = validate(
        document_of({"providers": providers, **parse_yaml(text, "guide")[0]}, ENVIRON, source="guide"), sections()
    )

    assert loaded.sections["balancer"] != sections()["balancer"]()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_valid(path: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("k\n")

    loaded = load(path, ENVIRON | {"OPENAI_KEY_FILE": str(key_file)}, sections())

    assert loaded.settings.providers
    assert f"`conf/examples/{path.name}`" in DOCS.read_text()


@pytest.mark.parametrize("path", [DEFAULT, *EXAMPLES], ids=lambda path: path.name)
def test_shipped_file_has_no_issue(path: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("k\n")
    key_file.chmod(0o600)

    loaded = load(path, ENVIRON | {"OPENAI_KEY_FILE": str(key_file)}, sections())

    assert find_issues(Facts(loaded, loaded.settings, loaded.document.raw, path, BUILT_IN_PLUGINS)) == []


def test_every_kind_of_issue_is_documented() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "proxy/config").glob("*issues.py"))]

    kinds = {kind for text in sources for kind in re.findall(r'(?:Issue|mended)\(\s*"([a-z_]+)"', text)}
    documented = set(re.findall(r"^\| `([a-z_]+)` \| (?:error|warning|info)\b", DOCS.read_text(), flags=re.MULTILINE))

    assert len(kinds) > 20
    assert documented == kinds | NOTICED_BY_THE_PROCESS


def test_shipped_schema_is_what_the_program_writes() -> None:
    assert SCHEMA.read_text() == schema_text(Shape(sections())), "write it anew: scripts/schema"


def test_script_writes_the_shipped_schema(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("proxy", "plugins"):
        (tmp_path / name).symlink_to(ROOT / name)
    for folder in ("conf", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for lock in ("requirements.txt", ".venv/requirements.lock"):
        (tmp_path / lock).write_text("")
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)

    subprocess.run([tmp_path / "scripts/schema"], check=True, timeout=60)

    assert (tmp_path / "conf/proxy.schema.json").read_text() == SCHEMA.read_text()


@pytest.mark.parametrize("path", [DEFAULT, *EXAMPLES], ids=lambda path: path.name)
def test_file_begins_with_its_schema_and_fits_it(path: Path) -> None:
    text = path.read_text()
    first = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", text.partition("\n")[0])
    validator = Draft202012Validator(json.loads(SCHEMA.read_text()))

    assert first is not None
    assert (path.parent / first[1]).resolve() == SCHEMA
    assert list(validator.iter_errors(parse_yaml(text, str(path))[0])) == []
    assert list(validator.iter_errors(uncommented())) == []


def test_faults_in_the_documents_are_what_the_program_says(tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    path.write_text(
        "server:\n  prot: 1\nqueueTimeout: 5 minutes\nmaxQueue: -1\nproviders:\n  openai:\n    type: openai\n"
        "    baseUrl: https://a\n    apiKey: ${OPENAI_API_KEY}\n\ncache: {}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load(path, {}, sections())

    assert caught.value.message.replace(str(path), "conf/prod.yaml") in DOCS.read_text()
