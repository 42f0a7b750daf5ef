"""What operators should know about the settings of the cache."""

from collections.abc import Iterator

from plugins.cache.settings import CacheConfig
from proxy.plugin import Issue


def cache_issues(config: CacheConfig, *, has_store: bool) -> Iterator[Issue]:
    """Find what the settings may lead to."""
    if config.store == "shared" and not has_store:
        yield Issue(
            kind="cache_without_store",
            severity="error",
            path="cache.store",
            message="cache.store is shared, and store.url is not set",
            why="nothing is kept: every request is a miss",
            patch={"cache": {"store": "memory"}},
        )
    if config.partition == "shared":
        yield Issue(
            kind="cache_shared_by_all",
            severity="warning",
            path="cache.partition",
            message="cache.partition is shared",
            why="whoever asks the same gets an answer that another caller's key paid for and may have meant for itself",
            patch={"cache": {"partition": "caller"}},
        )
    if not config.size or not config.max_bytes or not (config.ttl or config.smart_cache):
        yield Issue(
            kind="cache_keeps_nothing",
            severity="warning",
            path="cache.size" if not config.size else "cache.maxBytes" if not config.max_bytes else "cache.ttl",
            message="the cache is on and keeps nothing",
            why="each request costs the look-up, and none is answered",
            patch={"cache": {"enabled": False}},
        )
    if config.max_entry > config.max_bytes > 0:
        yield Issue(
            kind="cache_entry_too_large",
            severity="info",
            path="cache.maxEntry",
            message=f"cache.maxEntry ({config.max_entry} bytes) is above cache.maxBytes ({config.max_bytes} bytes)",
            why="answers between the two are taken down and then not kept",
            patch={"cache": {"maxEntry": config.max_bytes}},
        )
    smart = config.smart
    if config.smart_cache and smart.min_ttl > smart.max_ttl:
        yield Issue(
            kind="cache_ttl_bounds_crossed",
            severity="warning",
            path="cache.smart.minTtl",
            message=f"cache.smart.minTtl ({smart.min_ttl:g} s) is above cache.smart.maxTtl ({smart.max_ttl:g} s)",
            why="answers that are repeated are fresh for maxTtl, whatever their interval",
            patch={"cache": {"smart": {"minTtl": smart.max_ttl}}},
        )
