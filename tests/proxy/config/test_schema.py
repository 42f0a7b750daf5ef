"""The schema says of each place what the program says, and refuses nothing that the program takes."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import Field, SecretStr

from plugins.balancer.settings import BalancerConfig
from plugins.debug import DebugConfig
from proxy.config.loader import document_of, validate
from proxy.config.models import BUILT_IN_PLUGINS, RESTART
from proxy.config.schema import schema, schema_text
from proxy.config.shape import Shape
from proxy.errors import ConfigError
from proxy.plugin import PluginConfig, Section
from proxy.values import Duration, Size, Timeout


class Channel(Section):
    """Where an alert goes."""

    url: SecretStr | None = Field(None, min_length=4, description="Webhook.")
    wait: Timeout = Field(5.0, description="Seconds.")
    inner: "Channel | None" = Field(None, description="One more.")


class Pool(Section):
    workers: int = Field(2, description="Workers.")


class OddConfig(PluginConfig):
    """Every kind of setting a plugin may have."""

    code: str = Field("ab", min_length=2, max_length=5, pattern="^[a-z]+$", description="Code.")
    mode: Literal["one"] = Field("one", description="Mode.")
    either: int | str = Field(5, description="Number or word.")
    every: Duration | None = Field(None, description="Seconds; unset: never.")
    most: Size = Field(1 << 20, le=1 << 30, description="Bytes.")
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.5, 1.0), description="Shares.")
    waits: dict[str, Duration] = Field(default_factory=lambda: {"a": 1.0}, description="Seconds, by name.")
    channels: dict[str, Channel] = Field(default_factory=dict, description="Channels.")
    listed: list[Channel] = Field(default_factory=list, description="Channels.")
    pool: Pool = Field(default_factory=lambda: Pool(workers=3), description="Pool.", json_schema_extra=RESTART)
    free: Any = Field(None, description="Anything.")


SECTIONS: dict[str, type[PluginConfig]] = {"balancer": BalancerConfig, "debug": DebugConfig, "odd": OddConfig}
SHAPE = Shape(SECTIONS)
SCHEMA = schema(SHAPE)
VALIDATOR = Draft202012Validator(SCHEMA)
ENVIRON = {"NUMBER": "5", "WORD": "abc", "FLAG": "true"}
REFERENCE = {"type": "string", "pattern": r"\$[{$]"}


def at(path: str) -> dict[str, Any]:
    node: dict[str, Any] = SCHEMA
    for key in path.split("."):
        node = node["additionalProperties"] if key == "*" else node["items"] if key == "[]" else node["properties"][key]
    return node


def is_taken(document: dict[str, Any]) -> bool:
    return VALIDATOR.is_valid(document)


def document_with(path: str, value: object) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = [value] if key == "[]" else {"a" if key == "*" else key: value}
    assert isinstance(value, dict)
    if path.startswith("providers.*."):
        value["providers"]["a"] = {"type": "echo", **value["providers"]["a"]}
    return value


def leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, inner in node.get("properties", {}).items():
        yield from leaves(inner, f"{path}.{key}".lstrip("."))
    if isinstance(node.get("additionalProperties"), dict) and "properties" in node["additionalProperties"]:
        yield from leaves(node["additionalProperties"], f"{path}.*")
    elif "properties" in node.get("items", {}):
        yield from leaves(node["items"], f"{path}.[]")
    elif "properties" not in node:
        yield path


LEAVES = sorted(path for path in leaves(SCHEMA) if path != "$export")


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["title"]
    assert SCHEMA["description"]
    assert SCHEMA["additionalProperties"] is False
    assert set(SCHEMA["properties"]) == {*SHAPE.keys(), "$export"}


@pytest.mark.parametrize("path", LEAVES)
def test_every_setting_has_a_description_and_says_whether_it_is_live(path: str) -> None:
    node = at(path)

    assert node["description"].endswith(".")
    assert isinstance(node["live"], bool)
    assert "title" not in node
    assert node.get("format") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("server.port", {"live": False, "default": 8080, "minimum": 0, "maximum": 65535}),
        ("server.maxConnections", {"live": True, "default": 10000, "exclusiveMinimum": 0}),
        ("queueTimeout", {"unit": "seconds", "default": 10, "exclusiveMinimum": 0}),
        ("server.drainTimeout", {"unit": "seconds", "minimum": 0}),
        ("server.clientMaxSize", {"unit": "bytes", "default": 33554432, "minimum": 0}),
        ("providers.*.timeouts.total", {"unit": "seconds", "default": "none", "exclusiveMinimum": 0}),
        ("providers.*.timeouts.idle", {"unit": "seconds", "default": 60}),
        ("providers.*.headers", {"default": {}}),
        ("providers.*.tls.verify", {"default": True}),
        ("providers", {"default": {"echo": {"type": "echo", "models": ["*"], "priority": 100}}}),
        ("plugins", {"live": False, "default": list(BUILT_IN_PLUGINS)}),
        ("admin.token", {"writeOnly": True, "type": ["string", "null"]}),
        ("enableFallbackProviders", {"default": True, "live": True}),
        ("odd.every", {"unit": "seconds", "minimum": 0}),
        ("odd.most", {"unit": "bytes", "maximum": 1 << 30}),
        ("odd.waits", {"default": {"a": 1}}),
        ("odd.shares", {"default": [0.5, 1]}),
        ("odd.pool.workers", {"live": False, "default": 3}),
        ("odd.channels.*.url", {"writeOnly": True}),
        ("odd.channels.*.wait", {"unit": "seconds", "default": 5}),
        ("odd.listed.[].wait", {"unit": "seconds", "default": 5, "live": True}),
        ("balancer.routes", {"default": [], "live": True}),
        ("balancer.routes.[].when.key", {"writeOnly": True, "live": True}),
        ("balancer.routes.[].when.maxSize", {"unit": "bytes", "minimum": 0}),
        ("balancer.routes.[].use", {"minItems": 1}),
    ],
)
def test_place_has(path: str, expected: dict[str, object]) -> None:
    node = at(path)

    assert {key: node.get(key) for key in expected} == expected


@pytest.mark.parametrize("path", ["admin.token", "providers.*.apiKey", "odd.every", "providers.*.maxConcurrency"])
def test_what_is_unset_has_no_default(path: str) -> None:
    assert "default" not in at(path)


def test_choice_is_an_enum_or_a_reference() -> None:
    assert at("log.level")["anyOf"] == [{"enum": ["debug", "info", "warn", "error"]}, REFERENCE, {"type": "null"}]
    assert at("providers.*.type")["anyOf"] == [
        {"enum": ["openai", "anthropic", "gemini", "ollama", "http", "echo"]},
        REFERENCE,
    ]


TAKEN: list[tuple[str, object]] = [
    ("server.port", 80),
    ("server.port", "80"),
    ("server.port", "${PORT:-8080}"),
    ("server.port", None),
    ("server", None),
    ("enableFallbackProviders", "${FLAG}"),
    ("enableFallbackProviders", "False"),
    ("enableFallbackProviders", 1),
    ("queueTimeout", "1h30m"),
    ("queueTimeout", "250ms"),
    ("queueTimeout", 0.5),
    ("server.clientMaxSize", "64 MB"),
    ("server.clientMaxSize", "1GiB"),
    ("providers.*.timeouts.total", "none"),
    ("providers.*.timeouts.total", "5m"),
    ("providers.*", None),
    ("providers.*.headers", {"x": "y", "z": None}),
    ("log.level", "${WORD:-info}"),
    ("odd.code", "${WORD}"),
    ("odd.either", "x"),
    ("odd.either", 5),
    ("odd.free", [1, {"a": None}]),
    ("odd.channels.*.inner", {"inner": {"wait": "none"}}),
    ("odd.listed", [{"url": "https://a"}]),
    ("odd.listed.[].wait", "none"),
    ("balancer.routes", [{"use": ["a"], "when": {"header": {"X-Team": "*"}, "maxSize": "1MB", "key": "${WORD}"}}]),
    ("balancer.models.*.strategy", "round-robin"),
]


@pytest.mark.parametrize(("path", "value"), TAKEN, ids=[f"{path}={value}" for path, value in TAKEN])
def test_schema_takes(path: str, value: object) -> None:
    assert is_taken(document_with(path, value))


REFUSED: list[tuple[str, object]] = [
    ("server.port", 70000),
    ("server.port", -1),
    ("server.port", 80.5),
    ("server.port", "eighty"),
    ("server.prot", 80),
    ("maxQueu", 5),
    ("enableFallbackProviders", "maybe"),
    ("enableFallbackProviders", 2),
    ("queueTimeout", 0),
    ("queueTimeout", "none"),
    ("queueTimeout", "5 minutes"),
    ("queueTimeout", True),
    ("server.clientMaxSize", "64 apples"),
    ("server.clientMaxSize", 1.5),
    ("providers.*.timeouts.total", 0),
    ("providers.*.weight", 0),
    ("providers.*.models", "gpt-4"),
    ("providers.*.models", [1]),
    ("providers.*.type", "opnai"),
    ("providers", {"a b": {"type": "echo"}}),
    ("providers", {"a": {}}),
    ("models", {"fast": "a/x"}),
    ("log.level", "loud"),
    ("apiKey", "x"),
    ("odd.code", "A"),
    ("odd.code", "abcdef"),
    ("odd.mode", "two"),
    ("odd.shares", [1.5]),
    ("odd.waits", {"a": "soon"}),
    ("odd.channels", {"a": {"url": "x"}}),
    ("odd.listed", [{"ulr": "https://a"}]),
    ("odd.listed.[].wait", "soon"),
    ("balancer.routes.[].use", []),
    ("balancer.routes.[].use", "openai"),
    ("balancer.routes", [{"when": {"model": "*"}}]),
    ("balancer.routes", [{"use": ["a"], "when": {"header": {"a b": "c"}}}]),
    ("balancer.strategy", "fastest"),
    ("providers.*.apiKey", 5),
]


@pytest.mark.parametrize(("path", "value"), REFUSED, ids=[f"{path}={value}" for path, value in REFUSED])
def test_schema_refuses_and_so_does_the_program(path: str, value: object) -> None:
    document = document_with(path, value)

    assert not is_taken(document)
    with pytest.raises(ConfigError):
        validate(document_of(document, ENVIRON, source="a.yaml"), SECTIONS)


def test_schema_refuses_long_text_at_once() -> None:
    long = "1" * 100_000 + "x"  # in quadratic time: minutes

    assert not is_taken(document_with("queueTimeout", long))
    assert not is_taken(document_with("providers.*.weight", long))


WORDS = [
    *("5", " 5 ", "+5", "-5", "5.0", "5.", ".5", "1_000", "1e3", "1E+3", "007", "0x10", "١", "", " ", "5 5"),
    *("inf", "-inf", "nan", "Infinity", "none", " None ", "null", "true", "TRUE", "yes", "oFF", " true", "t", "2"),
    *("60s", "1h30m", "1.5d", "5 s", "5S", "0ms", "1s1", "64MB", "64 kib", "1.5gb", "64", "5b", "5TB", "-5s"),
    *("${NUMBER}", "${WORD}", "${FLAG}", "$$", "x${NUMBER}", "${NO:-5}", "info", "echo", "one", "abc", "a b", "$5"),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.integers(-2, 70_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 2.0, True, False]),
    st.text(max_size=6),
    st.text("0123456789._eE+- msdhwkKMB", max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "type"]), inner),
    max_leaves=3,
)


@given(st.sampled_from(LEAVES), VALUES)
def test_schema_refuses_nothing_that_the_program_takes(path: str, value: object) -> None:
    document = document_with(path, value)

    try:
        validate(document_of(document, ENVIRON, source="a.yaml"), SECTIONS)
    except ConfigError:
        return
    assert is_taken(document), list(VALIDATOR.iter_errors(document))


def test_text_of_the_schema_takes_sections_of_unknown_plugins_and_no_misspelt_setting() -> None:
    text = schema_text(SHAPE)
    validator = Draft202012Validator(json.loads(text))

    assert text.endswith("}\n")
    assert validator.is_valid({"outputCap": {"maxOutputTokens": 5}})
    assert not validator.is_valid({"maxQueu": 5})
    assert not validator.is_valid({"server": {"prot": 5}})


def test_default_that_is_a_secret_is_not_shown() -> None:
    class LeakyConfig(PluginConfig):
        key: SecretStr = Field(SecretStr("canary-4f9a"), description="Key.")
        keys: tuple[SecretStr, ...] = Field((SecretStr("canary-4f9a"),), description="Keys.")

    assert "4f9a" not in schema_text(Shape({"leaky": LeakyConfig}))
