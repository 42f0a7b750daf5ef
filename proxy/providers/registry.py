"""From settings to provider objects."""

from collections.abc import Callable, Sequence

from proxy.config.models import ProviderSettings, Settings
from proxy.providers.base import Provider
from proxy.providers.echo import EchoProvider
from proxy.providers.vendors import remote_provider


def make_providers(settings: Settings, credentials: Callable[[ProviderSettings], Sequence[str]]) -> dict[str, Provider]:
    """Make every enabled provider.

    Args:
        credentials: gives the keys held for a provider; raises ConfigError for a bad key file.
    Returns:
        By name, lower priority first, then as configured.
    """
    named = sorted(settings.providers.items(), key=lambda item: item[1].priority)
    return {name: _make(name, one, credentials) for name, one in named if one.enabled}


def _make(name: str, settings: ProviderSettings, credentials: Callable[[ProviderSettings], Sequence[str]]) -> Provider:
    if settings.type == "echo":
        return EchoProvider(name, settings)
    return remote_provider(name, settings, credentials(settings))
