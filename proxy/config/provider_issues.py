"""Issues of single providers: models, keys, and who can listen on the way."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from proxy.config.document import dotted
from proxy.config.environment import is_loopback
from proxy.config.expand import names_in
from proxy.config.issue_patches import mended, nested, value_at
from proxy.config.loader import Loaded
from proxy.config.models import ProviderSettings, Settings
from proxy.config.patch import Json
from proxy.config.shape import KeyPath
from proxy.plugin import Issue
from proxy.redaction import is_secret_name

KEY_VARIABLES: Final = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.anthropic.com": "ANTHROPIC_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "api.x.ai": "XAI_API_KEY",
}
"""Vendors that answer nobody without a key, and the variable their own SDKs read it from."""

VENDOR_MODELS: Final = {
    "api.openai.com": ["gpt-*", "o*"],
    "api.anthropic.com": ["claude-*"],
    "generativelanguage.googleapis.com": ["gemini-*"],
}


def provider_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at each enabled provider."""
    settings, raw = loaded.settings, loaded.document.raw
    for name, provider in settings.providers.items():
        if provider.enabled:
            yield from _models(settings, name, provider)
            yield from _keys(raw, name, provider)
            yield from _transport(raw, name, provider)


def _models(settings: Settings, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    if provider.type in ("echo", "http") or provider.models:
        return
    if any(target.partition("/")[0] == name for targets in settings.models.values() for target in targets):
        return
    known = VENDOR_MODELS.get(_host(provider))
    path: KeyPath = ("providers", name, "models")
    message, why = "is empty, and no alias names this provider", f"it is reached only by models named {name}/…"
    if known is not None:
        yield mended("provider_without_models", "info", path, message, why, known)
    else:
        where = "api/tags" if provider.type == "ollama" else "models"
        why += f"; /proxy/{name}/{where} shows what it has"
        yield Issue("provider_without_models", "info", dotted(path), message, why)


def _keys(raw: Json, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    if _holds_key(provider) or provider.type == "echo":
        return
    path: KeyPath = ("providers", name, "apiKey")
    written = value_at(raw, path)
    if isinstance(written, str) and written:
        variables = " and ".join(names_in(written)) or "the reference"
        yield mended(
            "key_empty",
            "warning",
            path,
            f"is written as a reference, and {variables} is empty",
            "clients' own keys are passed on; set the variable and start again. The patch only makes the document "
            "say so",
            None,
        )
    elif (variable := KEY_VARIABLES.get(_host(provider))) and not any(map(is_secret_name, provider.headers)):
        yield mended(
            "provider_without_key",
            "info",
            path,
            f"is not set, and {_host(provider)} answers nobody without a key",
            f"clients' own keys are passed on, and those who have none are refused; the patch needs {variable} in "
            "the environment",
            f"${{{variable}}}",
        )


def _transport(raw: Json, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    if provider.type == "echo":
        return
    scheme = urlsplit(provider.base_url or "").scheme
    if scheme == "https" and not provider.tls.verify:
        yield mended(
            "tls_not_verified",
            "warning",
            ("providers", name, "tls", "verify"),
            "is false",
            "whoever is on the way to the provider can read and change everything, keys too; tls.caFile names "
            "authorities of one's own",
            None,
        )
    has_key = _holds_key(provider) or any(map(is_secret_name, provider.headers))
    if scheme == "http" and has_key and not is_loopback(_host(provider)):
        path: KeyPath = ("providers", name, "baseUrl")
        written = str(value_at(raw, path))
        secure = nested(path, "https" + written[4:]) if written.lower().startswith("http://") else None
        why = "the key and every request can be read on the way"
        why += "; the patch works only if the upstream speaks TLS there" if secure else "; write it with https://"
        yield Issue(
            "key_over_plain_http",
            "warning",
            dotted(path),
            f"a key is sent to {_host(provider)} over plain http",
            why,
            patch=secure,
        )


def _holds_key(provider: ProviderSettings) -> bool:
    return provider.api_key is not None or bool(provider.api_key_file or provider.api_keys)


def _host(provider: ProviderSettings) -> str:
    return urlsplit(provider.base_url or "").hostname or ""
