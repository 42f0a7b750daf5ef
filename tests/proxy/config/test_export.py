"""The document of GET /config is whole, and sent back it means the same."""

from pydantic import Field

from proxy.config.export import mark, show
from proxy.config.loader import Loaded, document_of, validate
from proxy.config.models import Settings
from proxy.config.secrets import SecretStore
from proxy.plugin import PluginConfig

RAW: dict[str, object] = {
    "server": {"port": "${PORT:-8080}"},
    "queueTimeout": "1m",
    "providers": {
        "a": {"type": "openai", "baseUrl": "https://a.example/v1", "timeouts": {"total": "5m", "idle": "none"}},
        "b": {"type": "echo"},
    },
    "models": {"fast": ["a/x", "b/y"]},
    "debug": {"maxBody": "4KB"},
}


class DebugConfig(PluginConfig):
    max_body: str = Field("2KB", description="Most bytes.")
    rate: float = Field(0.5, description="Share.")


def load(raw: dict[str, object]) -> Loaded:
    return validate(document_of(raw, {}, source="a.yaml"), {"debug": DebugConfig})


def test_marker_names_revision_time_and_sections() -> None:
    shown = mark(show(load({}), SecretStore()), revision=7, time_s=86400.5)

    assert shown["$export"]["revision"] == 7
    assert shown["$export"]["time"] == "1970-01-02T00:00:00Z"
    assert shown["$export"]["sections"] == [key for key in shown if key != "$export"]
    assert {"server", "providers", "maxConcurrency", "debug"} <= set(shown)


def test_written_values_stay_as_written_and_defaults_are_filled_in() -> None:
    shown = mark(show(load(RAW), SecretStore()), revision=1, time_s=0)

    assert shown["server"]["port"] == "${PORT:-8080}"
    assert shown["server"]["host"] == "127.0.0.1"
    assert shown["queueTimeout"] == "1m"
    assert shown["maxQueue"] == 1000
    assert shown["debug"] == {"enabled": True, "maxBody": "4KB", "rate": 0.5}
    assert shown["providers"]["a"]["timeouts"] == {"connect": 5, "firstByte": 60, "idle": "none", "total": "5m"}


def test_off_is_none_and_null_is_never_shown() -> None:
    shown = mark(show(load(RAW), SecretStore()), revision=1, time_s=0)

    assert shown["providers"]["b"]["timeouts"]["total"] == "none"
    assert "None" not in repr(shown)


def test_default_provider_is_shown_when_none_is_written() -> None:
    shown = mark(show(load({}), SecretStore()), revision=1, time_s=0)

    assert shown["providers"]["echo"]["type"] == "echo"
    assert shown["providers"]["echo"]["models"] == ["*"]


def test_shown_document_sent_back_means_the_same() -> None:
    for raw in ({}, RAW):
        before = load(raw)
        shown = mark(show(before, SecretStore()), revision=1, time_s=0)
        del shown["$export"]
        after = load(shown)

        assert after.settings == before.settings
        assert after.sections == before.sections
        assert mark(show(after, SecretStore()), revision=1, time_s=0).keys() == {"$export", *shown}


def test_default_settings_survive_the_way_through_the_document() -> None:
    shown = mark(show(load({}), SecretStore()), revision=1, time_s=0)
    del shown["$export"]

    assert load(shown).settings == Settings()
