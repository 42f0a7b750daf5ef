"""Builds all that one revision of the configuration needs; what its change leaves alone is taken over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from proxy.config.models import ProviderSettings, Settings
from proxy.host.manager import PluginHost
from proxy.metrics import Registry
from proxy.providers.base import Provider, RemoteProvider
from proxy.providers.registry import make_providers
from proxy.routing.candidates import Candidates
from proxy.routing.health import ProviderHealth
from proxy.routing.policy import Policies
from proxy.upstream.dial import Origin
from proxy.upstream.endpoint import CallStats, Endpoint, UpstreamMetrics
from proxy.upstream.pool import Pool
from proxy.upstream.slots import Slots
from proxy.upstream.tls import make_context

OTHERS_PART: Final = 5
"""Of the process's slots one in so many is kept from a provider without a limit of its own."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything of one revision that requests read; an exchange keeps the one it began with."""

    revision: int
    settings: Settings
    host: PluginHost
    candidates: Candidates
    endpoints: Mapping[str, Endpoint]
    health: Mapping[str, ProviderHealth]
    policies: Policies

    def take_over(self, earlier: "Generation | None", now_s: float) -> None:
        """Come into force: set the limits, and close the connections that this generation does not share."""
        general = self.settings.breaker
        for name, endpoint in self.endpoints.items():
            settings = endpoint.provider.settings
            health = self.health[name]
            health.resettle(settings, general, keys_of(endpoint.provider), now_s)
            if earlier is not None and (before := earlier.health.get(name)) is not None:
                health.drained_s = before.drained_s  # an operator meant the name, wherever it leads now
            limit = calls_at_once(self.settings, settings) if health.adaptive is None else health.adaptive.limit
            endpoint.slots.resize(limit, settings.queue_size, settings.queue_timeout)
        if earlier is not None:
            kept = {id(endpoint.pool) for endpoint in self.endpoints.values()}
            for endpoint in earlier.endpoints.values():
                if endpoint.pool is not None and id(endpoint.pool) not in kept:
                    endpoint.pool.close()

    async def close(self) -> None:
        """Close its connections, busy ones after a second."""
        for endpoint in self.endpoints.values():
            if endpoint.pool is not None:
                await endpoint.pool.aclose()


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What building a generation takes from outside the configuration.

    Args:
        credentials: the keys held for a provider.
        proxy_for: the HTTP proxy on the way to a URL, given the provider's `proxy` setting; None for none.
        clock: monotonic seconds.
        slots: of each provider, for as long as a generation or a call holds them: one that comes back under its
            name finds the calls that still run.
    """

    credentials: Callable[[ProviderSettings], Sequence[str]]
    proxy_for: Callable[[str, str], str | None]
    metrics: Registry
    clock: Callable[[], float]
    slots: WeakValueDictionary[str, Slots] = field(default_factory=WeakValueDictionary)


@dataclass(frozen=True, slots=True)
class _Builder:
    ingredients: Ingredients
    earlier: Mapping[str, Endpoint] = field(default_factory=dict)

    def endpoint(self, provider: Provider) -> Endpoint:
        """Give the endpoint of a provider: the earlier one if nothing changed, else one with what it may keep."""
        name, settings = provider.name, provider.settings
        earlier = self.earlier.get(name)
        if earlier is None:
            return Endpoint(provider, self._pool(provider, None), self._slots(name, settings), self._stats(name))
        pool = self._pool(provider, earlier)
        if pool is earlier.pool and provider.is_same_as(earlier.provider):
            return earlier
        is_same_place = _is_same_place(provider, earlier.provider)
        # calls that run now hold slots of the earlier endpoint: a limit that did not count them would leak
        return Endpoint(provider, pool, earlier.slots, earlier.stats if is_same_place else self._stats(name))

    def _slots(self, name: str, settings: ProviderSettings) -> Slots:
        slots = self.ingredients.slots.get(name)
        if slots is None:
            slots = Slots(
                settings.max_concurrency, settings.queue_size, settings.queue_timeout, name, self.ingredients.clock
            )
            self.ingredients.slots[name] = slots
        return slots

    def _stats(self, name: str) -> CallStats:
        return CallStats(name, UpstreamMetrics(self.ingredients.metrics))

    def _pool(self, provider: Provider, earlier: Endpoint | None) -> Pool | None:
        """Give the pool to a provider's address: the earlier one if its connections serve as well."""
        if not isinstance(provider, RemoteProvider):
            return None
        settings = provider.settings
        proxy_url = self.ingredients.proxy_for(settings.base_url or "", settings.proxy)
        facts = (
            *(provider.origin, settings.tls, proxy_url, settings.timeouts.connect),
            *(settings.keep_alive, settings.max_idle_connections, settings.max_response_header_size),
        )
        if earlier is not None and earlier.pool is not None and earlier.pool.made_from == facts:
            return earlier.pool
        return Pool(
            provider.name,
            Origin(provider.scheme, provider.host, provider.port),
            tls=make_context(settings.tls) if provider.scheme == "https" else None,
            server_name=settings.tls.server_name,
            proxy_url=proxy_url,
            timeouts=settings.timeouts,
            keep_alive_s=settings.keep_alive,
            max_idle=settings.max_idle_connections,
            header_limit=settings.max_response_header_size,
            made_from=facts,
        )


def build(
    revision: int, settings: Settings, host: PluginHost, ingredients: Ingredients, earlier: Generation | None = None
) -> Generation:
    """Build a generation; nothing is opened, sent or changed before it takes over. May run in a thread.

    Args:
        earlier: the generation in force: connections, counts and statistics of providers are taken over from it.
    Raises:
        ConfigError: a credential or CA file cannot be used.
    """
    providers = make_providers(settings, ingredients.credentials)
    builder = _Builder(ingredients, earlier.endpoints if earlier is not None else {})
    endpoints = {name: builder.endpoint(provider) for name, provider in providers.items()}
    health = {
        name: _health(settings, endpoint, earlier.health.get(name) if earlier is not None else None, earlier)
        for name, endpoint in endpoints.items()
    }
    candidates = Candidates(settings, providers, health)
    return Generation(revision, settings, host, candidates, endpoints, health, Policies(settings))


def calls_at_once(settings: Settings, provider: ProviderSettings) -> int | None:
    """Tell how many calls of a provider there may be: as configured, else what leaves others a fifth of the process's.

    One that hangs would else hold every slot of the process, and a request for any other one wait for its timeouts.

    Returns:
        None for no limit: it answers in this process, or there is no other one.
    """
    if provider.max_concurrency is not None:
        return provider.max_concurrency
    remote = [one for one in settings.providers.values() if one.enabled and one.type != "echo"]
    if len(remote) < 2 or provider.type == "echo":
        return None
    return settings.max_concurrency - settings.max_concurrency // OTHERS_PART


def keys_of(provider: Provider) -> Sequence[str]:
    """List the keys held for a provider."""
    return provider.credentials if isinstance(provider, RemoteProvider) else ()


def _health(
    settings: Settings, endpoint: Endpoint, known: ProviderHealth | None, earlier: Generation | None
) -> ProviderHealth:
    """Give what is known of a provider as long as it is the same place, else a clean sheet."""
    provider = endpoint.provider
    if (
        known is not None
        and earlier is not None
        and _is_same_place(provider, earlier.endpoints[provider.name].provider)
    ):
        return known
    return ProviderHealth(provider.name, provider.settings.breaker or settings.breaker, keys_of(provider))


def _is_same_place(provider: Provider, other: Provider) -> bool:
    now, before = provider.settings, other.settings
    return (now.type, now.base_url) == (before.type, before.base_url)
