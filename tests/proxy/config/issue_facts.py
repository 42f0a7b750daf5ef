"""Configurations to find issues in."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from plugins.balancer.settings import BalancerConfig
from proxy.config.issues import Facts
from proxy.config.loader import Loaded, document_of, validate
from proxy.config.models import BUILT_IN_PLUGINS, Settings
from proxy.plugin import Issue, PluginConfig


class AlertingConfig(PluginConfig):
    hook: SecretStr | None = Field(None, description="Webhook.")
    every: int = Field(60, description="Seconds.")


Raw = dict[str, Any]

SECTIONS: dict[str, type[PluginConfig]] = {"balancer": BalancerConfig, "alerting": AlertingConfig}
WITHOUT_BALANCER: dict[str, type[PluginConfig]] = {"alerting": AlertingConfig}
ENVIRON = {"OPENAI_API_KEY": "k" * 20, "EMPTY": "", "TOKEN": "t" * 32}
CANARY = "canary-4f9a77e1-and-more"


def loaded(raw: Raw, sections: Mapping[str, type[PluginConfig]] = SECTIONS) -> Loaded:
    return validate(document_of(raw, ENVIRON, source="a.yaml"), sections)


def facts(
    raw: Raw,
    base: Raw | None = None,
    *,
    file: Path | None = None,
    plugins: Collection[str] = BUILT_IN_PLUGINS,
    sections: Mapping[str, type[PluginConfig]] = SECTIONS,
    running: Settings | None = None,
) -> Facts:
    configuration = loaded(raw, sections)
    return Facts(configuration, running or configuration.settings, raw if base is None else base, file, plugins)


def remote(**keys: object) -> Raw:
    return {"type": "openai", "baseUrl": "https://a.example/v1", "apiKey": "${OPENAI_API_KEY}", "models": ["x"], **keys}


def one(provider: Raw, **keys: object) -> Raw:
    return {"providers": {"a": provider}, **keys}


def two(**keys: object) -> Raw:
    return {"providers": {"a": remote(), "b": remote(models=["y"]), "e": {"type": "echo"}}, **keys}


def kinds(issues: list[Issue]) -> list[tuple[str, str]]:
    return [(issue.kind, issue.path) for issue in issues]
