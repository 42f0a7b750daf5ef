"""The vendors' ways: where each wants its key, and what it must be told besides."""

from collections.abc import Sequence
from typing import Final

from proxy.config.models import ProviderSettings
from proxy.exchange import RawHeaders
from proxy.formats.registry import FORMATS
from proxy.providers.base import RemoteProvider

ANTHROPIC_VERSION: Final = (b"anthropic-version", b"2023-06-01")
"""Sent with requests written here, unless the configuration names another; it still takes sampling parameters."""

API_KEY: Final = b"api-key"


def _bearer(key: str) -> tuple[bytes, bytes]:
    return b"Authorization", b"Bearer " + key.encode("latin-1", "replace")


class BearerProvider(RemoteProvider):
    """Any upstream that takes `Authorization: Bearer`, or nothing."""

    def credential_headers(self, key: str, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the Authorization header (RFC 6750, 2.1)."""
        return [_bearer(key)]


class OpenAIProvider(BearerProvider):
    """OpenAI and everything compatible with it."""

    format = FORMATS["openai"]

    def credential_headers(self, key: str, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the key in the header the client used for its own: Azure's clients send `api-key`."""
        names = {name.lower() for name, _ in client_headers}
        if API_KEY in names and b"authorization" not in names:
            return [(API_KEY, key.encode("latin-1", "replace"))]
        return [_bearer(key)]


class OllamaProvider(BearerProvider):
    """Ollama; without a key unless something in front of it wants one."""

    format = FORMATS["ollama"]


class AnthropicProvider(RemoteProvider):
    """Anthropic's API."""

    format = FORMATS["anthropic"]

    def credential_headers(self, key: str, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the key in the header the client used for its own; `x-api-key` otherwise.

        Source: Anthropic's API accepts both and prefers `x-api-key`; its SDK sends Bearer from version 2026-10-21 on.
        """
        names = {name.lower() for name, _ in client_headers}
        if b"x-api-key" not in names and b"authorization" in names:
            return [_bearer(key)]
        return [(b"x-api-key", key.encode("latin-1", "replace"))]


class GeminiProvider(RemoteProvider):
    """Google's Gemini API."""

    format = FORMATS["gemini"]

    def credential_headers(self, key: str, client_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """Return the key as a header, never in the query, where logs would keep it."""
        return [(b"x-goog-api-key", key.encode("latin-1", "replace"))]


REMOTE_TYPES: Final[dict[str, type[RemoteProvider]]] = {
    "openai": OpenAIProvider,
    "anthropic": AnthropicProvider,
    "gemini": GeminiProvider,
    "ollama": OllamaProvider,
    "http": BearerProvider,
}


def remote_provider(name: str, settings: ProviderSettings, credentials: Sequence[str]) -> RemoteProvider:
    """Make the provider of a type that is behind HTTP."""
    return REMOTE_TYPES[settings.type](name, settings, credentials)
