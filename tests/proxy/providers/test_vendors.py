"""Where each vendor wants its key, and where requests to it go."""

import pytest

from proxy.config.models import ProviderSettings, Settings
from proxy.errors import ConfigError
from proxy.exchange import Operation, Request
from proxy.providers.base import RemoteProvider
from proxy.providers.echo import EchoProvider
from proxy.providers.registry import make_providers
from proxy.providers.vendors import remote_provider

RAW = Operation("openai", "raw", "GET", "/v1/{rest}", reads_body=False)


def make(
    kind: str = "openai", url: str = "https://vendor.test/v1", key: str | None = "k", **more: object
) -> RemoteProvider:
    settings = ProviderSettings.model_validate({"type": kind, "baseUrl": url, **more})
    return remote_provider("p", settings, () if key is None else (key,))


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("openai", (b"Authorization", b"Bearer k")),
        ("ollama", (b"Authorization", b"Bearer k")),
        ("http", (b"Authorization", b"Bearer k")),
        ("anthropic", (b"x-api-key", b"k")),
        ("gemini", (b"x-goog-api-key", b"k")),
    ],
)
def test_each_vendor_gets_its_key_where_it_wants_it(kind: str, header: tuple[bytes, bytes]) -> None:
    assert list(make(kind).own_headers("k", None, ())) == [header]


@pytest.mark.parametrize("kind", ["openai", "ollama", "http", "anthropic", "gemini"])
def test_clients_key_never_replaces_one_that_is_held(kind: str) -> None:
    provider = make(kind)

    assert provider.has_credential
    for credential in ("k", None):
        own = provider.own_headers(credential, "theirs", [(b"Authorization", b"x")])
        assert b"theirs" not in b"".join(value for _, value in own)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_provider_without_a_key_passes_the_clients_on(kind: str) -> None:
    provider = make(kind, key=None)

    assert not provider.has_credential
    assert list(provider.own_headers(None, None, ())) == []
    assert b"theirs" in dict(provider.own_headers(None, "theirs", ())).popitem()[1]


@pytest.mark.parametrize(
    ("client_headers", "name"),
    [
        ([(b"Authorization", b"Bearer t")], b"Authorization"),
        ([(b"x-api-key", b"t")], b"x-api-key"),
        ([(b"authorization", b"Bearer t"), (b"X-Api-Key", b"t")], b"x-api-key"),
        ([], b"x-api-key"),
    ],
)
def test_anthropic_gets_the_clients_key_in_the_header_the_client_used(
    client_headers: list[tuple[bytes, bytes]], name: bytes
) -> None:
    assert [key for key, _ in make("anthropic", key=None).own_headers(None, "t", client_headers)] == [name]


@pytest.mark.parametrize(
    ("client_headers", "name"),
    [
        ([(b"Api-Key", b"t")], b"api-key"),
        ([(b"authorization", b"Bearer t"), (b"api-key", b"t")], b"Authorization"),
        ([], b"Authorization"),
    ],
)
def test_openai_gets_the_key_of_azures_clients_in_their_header(
    client_headers: list[tuple[bytes, bytes]], name: bytes
) -> None:
    assert [key for key, _ in make(key=None).own_headers(None, "t", client_headers)] == [name]


def test_configured_headers_are_added_with_either_key() -> None:
    extra = {"OpenAI-Organization": "org"}

    held, passed = make(headers=extra), make(headers=extra, key=None)

    for provider, credential in ((held, "k"), (passed, None)):
        assert (b"OpenAI-Organization", b"org") in provider.own_headers(credential, "t", ())


@pytest.mark.parametrize(
    ("url", "host", "origin", "target"),
    [
        ("https://vendor.test/v1", b"vendor.test", ("https", "vendor.test", 443), b"/v1/models"),
        ("https://vendor.test/v1/", b"vendor.test", ("https", "vendor.test", 443), b"/v1/models"),
        ("https://vendor.test", b"vendor.test", ("https", "vendor.test", 443), b"/models"),
        ("https://vendor.test:443", b"vendor.test", ("https", "vendor.test", 443), b"/models"),
        ("http://127.0.0.1:11434", b"127.0.0.1:11434", ("http", "127.0.0.1", 11434), b"/models"),
        ("http://[::1]:99/a/b", b"[::1]:99", ("http", "::1", 99), b"/a/b/models"),
        ("http://[::1]", b"[::1]", ("http", "::1", 80), b"/models"),
    ],
)
def test_base_url_gives_host_origin_and_prefix(
    url: str, host: bytes, origin: tuple[str, str, int], target: bytes
) -> None:
    provider = make(url=url)

    assert (provider.host_header, provider.origin, provider.target(b"/models", b"")) == (host, origin, target)


def test_query_is_kept_verbatim() -> None:
    assert make().target(b"/files", b"a=%20&a=b&&c") == b"/v1/files?a=%20&a=b&&c"


@pytest.mark.parametrize(("query", "target"), [(b"", b"/"), (b"a=1", b"/?a=1")])
def test_empty_path_is_still_a_path(query: bytes, target: bytes) -> None:
    assert make(url="https://vendor.test").target(b"", query) == target


def test_path_of_a_call_is_the_vendors_own() -> None:
    openai, plain = make(), make("http")
    chat = Operation("openai", "chat", "POST", "/v1/chat/completions")
    request = Request(RAW, method="GET", path=b"/files/1")

    assert openai.call_path(chat, request, "m") == b"/chat/completions"
    assert plain.call_path(RAW, request, None) == b"/files/1"


@pytest.mark.parametrize(("kind", "speaks"), [("openai", True), ("anthropic", False), ("http", False)])
def test_provider_speaks_its_own_format_only(kind: str, speaks: bool) -> None:
    assert make(kind).speaks("openai") is speaks


# -- the registry ---------------------------------------------------------------------------------------------------


def settings(**providers: dict[str, object]) -> Settings:
    return Settings.model_validate({"providers": providers})


def test_providers_are_made_in_the_order_of_priority_without_disabled_ones() -> None:
    one = {"type": "openai", "baseUrl": "https://a.test"}

    made = make_providers(
        settings(
            late={**one, "priority": 9}, off={**one, "enabled": False}, echo={"type": "echo", "priority": 5}, early=one
        ),
        lambda _: (),
    )

    assert list(made) == ["early", "echo", "late"]
    assert isinstance(made["echo"], EchoProvider)


def test_key_is_asked_for_each_remote_provider_and_its_fault_ends_the_making() -> None:
    def refuse(_: ProviderSettings) -> tuple[str, ...]:
        raise ConfigError("no such file")

    with pytest.raises(ConfigError):
        make_providers(settings(a={"type": "openai", "baseUrl": "https://a.test"}), refuse)
    assert list(make_providers(settings(echo={"type": "echo"}), refuse)) == ["echo"]
