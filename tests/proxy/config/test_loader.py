"""From a file to settings and sections, or every fault at once with its line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from proxy.config.document import parse_yaml
from proxy.config.loader import Loaded, document_of, load, plugin_names, read, validate
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.errors import ConfigError
from proxy.plugin import PluginConfig
from proxy.values import Duration


class CacheConfig(PluginConfig):
    ttl: int = Field(60, gt=0, description="Seconds.")
    max_age: Duration = Field(10.0, description="Seconds.")
    kind: Literal["a", "b"] = Field("a", description="Kind.")
    pass_phrase: SecretStr | None = Field(None, min_length=4, description="Secret.")


SECTIONS: dict[str, type[PluginConfig]] = {"cache": CacheConfig}

UNKNOWN = "is not a known key or the section of a loaded plugin"
NO_KEY = "a key is one line of visible ASCII characters without spaces"


def load_text(text: str, environ: Mapping[str, str] | None = None, host: str | None = None) -> Loaded:
    raw, lines = parse_yaml(text, "a.yaml")
    return validate(document_of(raw, environ or {}, source="a.yaml", lines=lines), SECTIONS, host=host)


def faults_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, environ)
    return caught.value.message.split("\n")


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("")

    loaded = load(tmp_path / "a.yaml", {}, SECTIONS)

    assert loaded.settings == Settings()
    assert loaded.sections == {"cache": CacheConfig()}


def test_core_and_sections_are_told_apart() -> None:
    loaded = load_text("maxQueue: 3\ncache: {ttl: 5, maxAge: 2m}\n")

    assert loaded.settings.max_queue == 3
    assert loaded.sections["cache"] == CacheConfig.model_validate({"ttl": 5, "maxAge": 120})


def test_reference_may_become_a_number_or_a_flag_but_a_key_stays_text() -> None:
    loaded = load_text(
        "server: {port: '${PORT}'}\nenableFallbackProviders: ${FALL}\nqueueTimeout: ${WAIT:-5s}\n"
        "providers: {a: {type: openai, baseUrl: 'https://${HOST}/v1', apiKey: '${KEY}', headers: {x: '${KEY}'}}}\n",
        {"PORT": "81", "FALL": "false", "HOST": "h.example", "KEY": "12345"},
    )

    provider = loaded.settings.providers["a"]
    assert (loaded.settings.server.port, loaded.settings.enable_fallback_providers) == (81, False)
    assert loaded.settings.queue_timeout == 5
    assert provider.api_key is not None
    assert (provider.base_url, provider.api_key.get_secret_value()) == ("https://h.example/v1", "12345")
    assert provider.headers == {"x": "12345"}


def test_environment_cannot_add_structure() -> None:
    assert faults_of("providers: ${P}\n", {"P": "{echo: {type: echo}}"}) == [
        'a.yaml:1: providers: "${P}" is not a mapping of names to values'
    ]


def test_document_keeps_the_references() -> None:
    loaded = load_text("state: {dir: '${DIR:-var}'}\n", {"DIR": "x"})

    assert loaded.document.raw == {"state": {"dir": "${DIR:-var}"}}
    assert loaded.document.values == {"state": {"dir": "x"}}
    assert loaded.document.lines["state", "dir"] == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cache:\n  ttl: -5\n", "a.yaml:2: cache.ttl: -5 is not above 0"),
        ("cache: {ttl: x}", 'a.yaml:1: cache.ttl: "x" is not a whole number'),
        ("cache: {ttl: 1.5}", "a.yaml:1: cache.ttl: 1.5 is not a whole number"),
        ("cache: {ttl: true}", "a.yaml:1: cache.ttl: true is not a number"),
        ("cache: {kind: c}", 'a.yaml:1: cache.kind: "c" is not one of a or b'),
        ("cache: {enabled: maybe}", 'a.yaml:1: cache.enabled: "maybe" is not true or false'),
        ("cache: {tll: 5}", "a.yaml:1: cache.tll: is not a known key (did you mean ttl?)"),
        ("cache: {max_age: 5}", "a.yaml:1: cache.max_age: is not a known key (did you mean maxAge?)"),
        ("cache: {zzzz: 5}", "a.yaml:1: cache.zzzz: is not a known key"),
        ("cache: [1]", "a.yaml:1: cache: a list is not a mapping of keys to values"),
        ("maxQueu: 5", f"a.yaml:1: maxQueu: {UNKNOWN} (did you mean maxQueue?)"),
        ("max-queue: 5", f"a.yaml:1: max-queue: {UNKNOWN} (did you mean maxQueue?)"),
        ("_: 5", f"a.yaml:1: _: {UNKNOWN}"),
        ("metrics: {}", "a.yaml:1: metrics: is the section of the plugin metrics, which is not loaded"),
        ("server: {port: 70000}", "a.yaml:1: server.port: 70000 is not at most 65535"),
        ("queueTimeout: 5 parsecs", 'a.yaml:1: queueTimeout: "5 parsecs" is refused: a duration is seconds or text'),
        ("providers: {a: {}}", "a.yaml:1: providers.a.type: is missing"),
        ("providers: {a: {type: openai}}", "a.yaml:1: providers.a: a provider of type openai needs a baseUrl"),
        ("providers:\n  'a b': {type: echo}", "a.yaml:2: providers.a b: is no name: it begins with"),
        ("providers: {a: {type: echo, weight: 0}}", "a.yaml:1: providers.a.weight: 0 is not above 0"),
        ("providers: {a: {type: echo, models: x}}", 'a.yaml:1: providers.a.models: "x" is not a list'),
        ("providers: {a: {type: echo, models: [1]}}", "a.yaml:1: providers.a.models.0: 1 is not text"),
        ("providers: {a: {type: echo, proxy: x}}", "a.yaml:1: providers.a.proxy: \"x\" is refused: a proxy other than"),
        ("providers: {a: {type: echo, headers: {'a b': x}}}", "a.yaml:1: providers.a.headers: a header name has"),
        ('providers: {a: {type: echo, headers: {a: "x\\ny"}}}', "a.yaml:1: providers.a.headers: the value of a has"),
        ("models: {a: [echo/x, other/x]}", 'a.yaml:1: models.a.1: "other/x": there is no provider "other"'),
        ("models: {a: [eco/x]}", 'a.yaml:1: models.a.0: "eco/x": there is no provider "eco" (did you mean echo?)'),
        ("models: {a: [echo/x], b: [a]}", 'a.yaml:1: models.b.0: "a" is itself an alias; name a provider/model'),
        ("models: {a: [x]}", 'a.yaml:1: models.a.0: "x" is not of the form provider/model'),
        ("models: {a: []}", "a.yaml:1: models.a: has no target: name at least one provider/model"),
        ("server:\n  host: 0.0.0.0", 'a.yaml:2: server.host: "0.0.0.0" is not loopback, so admin.token must be set'),
        ("state: {dir: '${NO}'}", "a.yaml:1: state.dir: the environment variable NO is not set"),
        ("server: {port: '${NO}'}", "a.yaml:1: server.port: the environment variable NO is not set"),
        ("plugins: debug", 'a.yaml:1: plugins: "debug" is not a list'),
    ],
)  # fmt: skip
def test_fault_names_line_key_value_and_limit(text: str, fault: str) -> None:
    found = faults_of(text)

    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a", "a.example/v1", "//a", "http://", "http://:80", "http://a:0", "http://a:99999", "http://a:x",
        "http://a/?x=1", "http://a/#x", "http://u:p@a/", "http://u@a", "http://a b/", "http://[::1", "http://a\\b",
        "http://ä.example", "HTTP:/a", "https:a",
    ],
)  # fmt: skip
def test_base_url_must_be_plain(url: str) -> None:
    raw = {"providers": {"a": {"type": "http", "baseUrl": url}}}

    with pytest.raises(ConfigError) as caught:
        validate(document_of(raw, {}, source="a.yaml"), {})

    assert [fault.path for fault in caught.value.faults] == ["providers.a.baseUrl"]


@pytest.mark.parametrize("url", ["http://a", "https://a.example:8443/v1/", "http://[::1]:80/x", "http://10.0.0.1"])
def test_plain_base_url_is_taken(url: str) -> None:
    loaded = load_text(f"providers: {{a: {{type: http, baseUrl: '{url}'}}}}")

    assert loaded.settings.providers["a"].base_url == url


def test_all_faults_come_at_once_in_the_order_of_the_file() -> None:
    found = faults_of("cache: {ttl: 0}\nmaxQueue: -1\nstate: {dir: '${NO}'}\nother: 1\nserver:\n  prot: 1\n")

    assert [line.split(": ")[:2] for line in found] == [
        ["a.yaml:1", "cache.ttl"],
        ["a.yaml:2", "maxQueue"],
        ["a.yaml:3", "state.dir"],
        ["a.yaml:4", "other"],
        ["a.yaml:6", "server.prot"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "cache: {passPhrase: [canary-77]}",
        "cache: {passPhrase: {a: canary-77}}",
        "cache: {passPhrase: can}",
        "admin: {token: 77001}",
        "providers: {a: {type: openai, baseUrl: 'https://x:canary-77@a', apiKey: k}}",
        "providers: {a: {type: openai, baseUrl: 'https://a', apiKey: 'canary-77 x'}}",
        "providers: {a: {type: openai, baseUrl: 'https://a', apiKey: 'canary-77', apiKeyFile: /x}}",
        "providers: {a: {type: openai, baseUrl: 'https://a', headers: {x-api-key: [canary-77]}}}",
        "providers: {a: {type: openai, baseUrl: 'https://a', headers: {x-api-key: \"canary-77\\n\"}}}",
        "providers: {a: {type: echo, proxy: 'socks://u:canary-77@h'}}",
        "admin: {token: '${NO:?}canary-77'}",
        "admin: {token: 'canary-77${'}",
    ],
)
def test_secret_is_never_shown_in_a_fault(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text)

    assert caught.value.faults
    for shown in (caught.value.message, repr(caught.value.faults)):
        assert "canary" not in shown
        assert "77001" not in shown
        assert "can" not in shown.replace("cannot", "")


def test_other_address_is_fine_with_a_token() -> None:
    loaded = load_text("server: {host: '::'}\nadmin: {token: x}")

    assert loaded.settings.server.host == "::"


def test_address_of_the_command_line_goes_before_the_file() -> None:
    with pytest.raises(ConfigError, match="is not loopback"):
        load_text("", host="0.0.0.0")

    assert load_text("server: {host: 0.0.0.0}", host="127.0.0.1").settings.server.host == "0.0.0.0"


def test_empty_token_is_none() -> None:
    assert load_text("admin: {token: '${T:-}'}").settings.admin.token is None


def test_files_that_a_provider_names_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("canary 77")
    provider = f"{{type: openai, baseUrl: 'https://a', apiKeyFile: {tmp_path}/key, tls: {{caFile: {tmp_path}/no}}}}"

    found = faults_of(f"providers:\n  a: {provider}\n")

    assert found == [
        f"a.yaml:2: providers.a.apiKeyFile: {tmp_path}/key holds no key: {NO_KEY}",
        f"a.yaml:2: providers.a.tls.caFile: {tmp_path}/no cannot be read: no such file or directory",
    ]


def test_plugins_are_known_before_the_rest_is_valid() -> None:
    document = document_of({"plugins": ["debug", "my.module"], "maxQueue": "x"}, {}, source="a.yaml")

    assert plugin_names(document) == ("debug", "my.module")
    assert plugin_names(document_of({}, {}, source="a.yaml")) == BUILT_IN_PLUGINS


@pytest.mark.parametrize("plugins", ["debug", [1], ["${NO}"], ["debug", "debug"], [""], ["../x"], {"a": 1}])
def test_plugins_that_are_no_list_of_names_are_refused(plugins: object) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml: plugins"):
        plugin_names(document_of({"plugins": plugins}, {}, source="a.yaml"))


def test_unset_variable_waits_for_the_other_faults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("admin: {token: '${NO}'}\n")

    document = read(tmp_path / "a.yaml", {})

    assert [path for path, _ in document.faults] == [("admin", "token")]


KEYS = st.sampled_from(
    ["server", "port", "host", "providers", "echo", "type", "models", "plugins", "cache", "x", "a.b"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_document_is_valid_or_a_config_error(document: dict[str, object]) -> None:
    try:
        loaded = validate(document_of(document, {}, source="a.yaml"), SECTIONS)
    except ConfigError as error:
        refused = error
    else:
        assert isinstance(loaded.settings, Settings)
        return
    assert refused.faults
    assert all(char.isprintable() or char == "\n" for char in refused.message)
