"""What of a valid section is still worth a look."""

from collections.abc import Iterator

from plugins.balancer.settings import SESSION_HEADER, BalancerConfig
from proxy.plugin import Issue


def balancer_issues(config: BalancerConfig) -> Iterator[Issue]:
    """List settings that do nothing."""
    yield from _header_for_nothing(config)
    for position, route in enumerate(config.routes):
        key = route.when.key
        if key is not None and not key.get_secret_value():
            yield Issue(
                "route_key_empty",
                "warning",
                f"balancer.routes.{position}.when.key",
                "is empty: the variable it refers to is not set, or set to nothing",
                "no request has this key, so that the route is never taken",
            )


def _header_for_nothing(config: BalancerConfig) -> Iterator[Issue]:
    affinities = [config.affinity, *(model.affinity for model in config.models.values())]
    if config.affinity_header != SESSION_HEADER and "header" not in affinities:
        yield Issue(
            "affinity_header_unused",
            "info",
            "balancer.affinityHeader",
            f"is {config.affinity_header}, and no affinity is header",
            "the header is not looked at: sessions go from provider to provider; the patch has it looked at",
            patch={"balancer": {"affinity": "header"}},
        )
