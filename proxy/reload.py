"""Builds all that one revision of the configuration needs, so that it can be swapped in as a whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.config.models import ProviderSettings, Settings
from proxy.host.manager import PluginHost
from proxy.metrics import Registry
from proxy.providers.base import Provider, RemoteProvider
from proxy.providers.registry import make_providers
from proxy.routing.candidates import Candidates
from proxy.upstream.dial import Origin
from proxy.upstream.endpoint import Endpoint, UpstreamMetrics
from proxy.upstream.pool import Pool
from proxy.upstream.slots import Slots
from proxy.upstream.tls import make_context


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything of one revision that requests read; an exchange keeps the one it began with."""

    revision: int
    settings: Settings
    host: PluginHost
    candidates: Candidates
    endpoints: Mapping[str, Endpoint]

    async def close(self) -> None:
        """Close its connections, busy ones after a second."""
        for endpoint in self.endpoints.values():
            if endpoint.pool is not None:
                await endpoint.pool.aclose()


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What building a generation takes from outside the configuration.

    Args:
        credential: the key held for a provider, None if there is none.
        proxy_for: the HTTP proxy on the way to a URL, given the provider's `proxy` setting; None for none.
        clock: monotonic seconds.
    """

    credential: Callable[[ProviderSettings], str | None]
    proxy_for: Callable[[str, str], str | None]
    metrics: Registry
    clock: Callable[[], float]


def build(revision: int, settings: Settings, host: PluginHost, ingredients: Ingredients) -> Generation:
    """Build a generation; nothing is opened or sent.

    Raises:
        ConfigError: a credential or CA file cannot be used.
    """
    providers = make_providers(settings, ingredients.credential)
    upstream_metrics = UpstreamMetrics(ingredients.metrics)
    endpoints = {
        name: Endpoint(provider, _pool(provider, ingredients), _slots(provider, ingredients.clock), upstream_metrics)
        for name, provider in providers.items()
    }
    return Generation(revision, settings, host, Candidates(settings, providers), endpoints)


def _slots(provider: Provider, clock: Callable[[], float]) -> Slots | None:
    settings = provider.settings
    if settings.max_concurrency is None:
        return None
    return Slots(settings.max_concurrency, settings.queue_size, settings.queue_timeout, provider.name, clock)


def _pool(provider: Provider, ingredients: Ingredients) -> Pool | None:
    if not isinstance(provider, RemoteProvider):
        return None
    settings = provider.settings
    return Pool(
        provider.name,
        Origin(provider.scheme, provider.host, provider.port),
        tls=make_context(settings.tls) if provider.scheme == "https" else None,
        server_name=settings.tls.server_name,
        proxy_url=ingredients.proxy_for(settings.base_url or "", settings.proxy),
        timeouts=settings.timeouts,
        keep_alive_s=settings.keep_alive,
        max_idle=settings.max_idle_connections,
        header_limit=settings.max_response_header_size,
    )
