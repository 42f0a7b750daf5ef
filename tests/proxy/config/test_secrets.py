"""What is shown of a document holds no secret, and the same secret keeps its id."""

import base64
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from proxy.config.export import mark, show
from proxy.config.loader import Loaded, document_of, validate
from proxy.config.secrets import SecretStore, redact, secret_values, tells_nothing
from proxy.config.shape import Shape
from proxy.plugin import PluginConfig
from proxy.values import Timeout


class Channel(PluginConfig):
    url: SecretStr = Field(SecretStr(""), description="Webhook.")
    wait: Timeout = Field(None, description="Seconds.")


class AlertingConfig(PluginConfig):
    keys: tuple[SecretStr, ...] = Field((), description="Keys.")
    channels: dict[str, Channel] = Field(default_factory=dict, description="Channels.")
    listed: tuple[Channel, ...] = Field((), description="Channels in a list.")


SECTIONS: dict[str, type[PluginConfig]] = {"alerting": AlertingConfig}
CANARY = "canary-4f9a77e1"
ENVIRON = {"KEY": "from-the-environment"}


def loaded(raw: dict[str, object]) -> Loaded:
    return validate(document_of(raw, ENVIRON, source="a.yaml"), SECTIONS)


def provider(**keys: object) -> dict[str, object]:
    return {"providers": {"a": {"type": "openai", "baseUrl": "https://a.example/v1", **keys}}}


PLACES = [
    {"admin": {"token": CANARY}},
    {"admin": {"token": f"${{KEY:-{CANARY}}}"}},
    {"admin": {"token": f"${{KEY}}{CANARY}"}},
    {"admin": {"token": f"$${CANARY}"}},
    provider(apiKey=CANARY),
    provider(headers={"Authorization": f"Bearer {CANARY}"}),
    provider(headers={"X-Api-Key": CANARY}),
    provider(headers={"X-Auth-Token": CANARY, "cookie": CANARY, "x-secret": CANARY}),
    provider(proxy=f"http://user:{CANARY}@proxy.example:3128"),
    provider(proxy=f"${{KEY_PROXY:-http://user:{CANARY}@proxy.example:3128}}"),
    {"alerting": {"keys": [CANARY]}},
    {"alerting": {"channels": {"slack": {"url": f"https://hooks.example/{CANARY}"}}}},
    {"alerting": {"listed": [{"url": CANARY}]}},
]


@pytest.mark.parametrize("raw", PLACES, ids=str)
def test_no_form_of_a_secret_is_shown(raw: dict[str, object]) -> None:
    shown = orjson.dumps(mark(show(loaded(raw), SecretStore()), revision=1, time_s=0)).decode()

    for form in (CANARY, CANARY[-8:], quote(CANARY), base64.b64encode(CANARY.encode()).decode()[:-4]):
        assert form not in shown
    assert "from-the-environment" not in shown
    assert "$secret" in shown


@pytest.mark.parametrize("raw", PLACES, ids=str)
def test_secrets_are_known_for_redaction(raw: dict[str, object]) -> None:
    values = secret_values(loaded(raw))

    assert values
    assert any(CANARY in value or value == "from-the-environment" for value in values)


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:6379", "rediss://redis.example:6379/0", "unix:///run/redis.sock", "redis://[::1]/3"]
)
def test_address_without_user_and_password_is_told_to_operators(url: str) -> None:
    assert not secret_values(loaded({"store": {"url": url}}))


def test_of_an_address_the_password_is_a_secret_and_the_whole() -> None:
    url = f"redis://:{CANARY}%21@redis.example:6379/0"

    assert secret_values(loaded({"store": {"url": url}})) == {url, f"{CANARY}%21", f"{CANARY}!"}


def test_reference_is_shown_as_it_was_written() -> None:
    raw = provider(apiKey="${KEY}", headers={"Authorization": "Bearer ${KEY}", "x-token": "${NO:-}"})

    shown = mark(show(loaded(raw), SecretStore()), revision=1, time_s=0)["providers"]["a"]

    assert shown["apiKey"] == "${KEY}"
    assert shown["headers"] == {"Authorization": "Bearer ${KEY}", "x-token": "${NO:-}"}


def test_same_secret_at_the_same_place_keeps_its_id() -> None:
    store = SecretStore()
    shape = Shape(SECTIONS)

    first = redact({"admin": {"token": CANARY}}, shape, store)
    again = redact({"admin": {"token": CANARY}}, shape, store)
    changed = redact({"admin": {"token": CANARY + "x"}}, shape, store)
    elsewhere = redact({"alerting": {"keys": [CANARY]}}, shape, store)

    assert first == again
    ids = {
        first["admin"]["token"]["$secret"],
        changed["admin"]["token"]["$secret"],
        elsewhere["alerting"]["keys"][0]["$secret"],
    }
    assert len(ids) == 3
    assert store.text_of(first["admin"]["token"]["$secret"]) == CANARY
    assert store.text_of("unknown") is None


def test_ids_tell_nothing_of_the_secret() -> None:
    assert SecretStore().id_of(("a",), CANARY) != SecretStore().id_of(("a",), CANARY)


def test_document_itself_is_not_changed() -> None:
    raw = {"admin": {"token": CANARY}}

    redact(raw, Shape({}), SecretStore())

    assert raw == {"admin": {"token": CANARY}}


def test_what_is_no_secret_is_shown() -> None:
    raw = provider(headers={"X-Max-Tokens": "5", "OpenAI-Organization": "org"}, models=["gpt-*"])

    assert redact(raw, Shape({}), SecretStore()) == raw


def test_key_from_a_file_is_known_for_redaction(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_text(CANARY + "\n")

    assert CANARY in secret_values(loaded(provider(apiKeyFile=str(path))))


def test_password_in_a_url_is_known_alone_too() -> None:
    values = secret_values(loaded(provider(proxy="http://u:pass%2Fword@proxy.example")))

    assert {"pass%2Fword", "pass/word"} <= values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", True),
        ("${A}${B}", True),
        ("${A:?tell}", True),
        ("${A:-}", True),
        ("Bearer ${A}", True),
        ("${A:-x}", False),
        ("x${A}", False),
        ("Bearer x", False),
        ("$$", False),
        ("${", False),
        ("", False),
    ],
)
def test_only_bare_references_tell_nothing(text: str, expected: bool) -> None:
    assert tells_nothing(text) is expected


@given(st.text(min_size=4, max_size=30).map(lambda text: f"q{text}7"))
def test_any_token_is_hidden(token: str) -> None:
    shown = redact({"admin": {"token": token}}, Shape({}), SecretStore())

    assert list(shown["admin"]["token"]) == ["$secret"]
