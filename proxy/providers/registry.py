"""From settings to provider objects."""

from collections.abc import Callable

from proxy.config.models import ProviderSettings, Settings
from proxy.providers.base import Provider
from proxy.providers.echo import EchoProvider
from proxy.providers.vendors import remote_provider


def make_providers(settings: Settings, credential: Callable[[ProviderSettings], str | None]) -> dict[str, Provider]:
    """Make every enabled provider.

    Args:
        credential: gives the key held for a provider, None if there is none; raises ConfigError for a bad key file.
    Returns:
        By name, lower priority first, then as configured.
    """
    named = sorted(settings.providers.items(), key=lambda item: item[1].priority)
    return {name: _make(name, one, credential) for name, one in named if one.enabled}


def _make(name: str, settings: ProviderSettings, credential: Callable[[ProviderSettings], str | None]) -> Provider:
    if settings.type == "echo":
        return EchoProvider(name, settings)
    return remote_provider(name, settings, credential(settings))
