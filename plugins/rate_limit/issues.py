"""What of a valid section is still worth a look."""

from collections.abc import Iterator

from plugins.rate_limit.limit import BUCKETS
from plugins.rate_limit.settings import RateLimitConfig, RuleSettings
from proxy.plugin import Issue

LONG_LOG = 10_000


def rate_limit_issues(config: RateLimitConfig, *, has_store: bool) -> Iterator[Issue]:
    """List settings that limit nothing, or cost more than they seem to.

    Args:
        has_store: there is a server that processes share.
    """
    simple = (config.per_second, config.per_minute, config.per_hour, config.per_day)
    if not config.rules and all(amount == "none" for amount in simple):
        yield Issue(
            "rate_limit_without_rules",
            "warning",
            "rateLimit",
            "is enabled, and has no limit: perSecond to perDay are none, and there are no rules",
            "nobody is limited, but virtual keys that have limits of their own",
        )
    if config.store == "shared" and not has_store:
        yield Issue(
            "rate_limit_store_missing",
            "error",
            "rateLimit.store",
            "is shared, and section store names no server",
            f"every request is treated as while the server fails: onStoreFailure is {config.on_store_failure}",
            patch={"rateLimit": {"store": "memory"}},
        )
    for place, rule in enumerate(config.rules):
        yield from _rule_issues(config, rule, f"rateLimit.rules.{place}")


def _rule_issues(config: RateLimitConfig, rule: RuleSettings, path: str) -> Iterator[Issue]:
    algorithm = rule.algorithm or config.algorithm
    if rule.mode == "shadow":
        message = f"rule {rule.name} is in shadow mode"
        yield Issue("rate_limit_shadow", "info", f"{path}.mode", message, "it reports, and refuses nobody")
    if rule.burst is not None and algorithm not in BUCKETS:
        message = f"is {rule.burst:g}, and {algorithm} has no bucket"
        yield Issue("rate_limit_burst_unused", "info", f"{path}.burst", message, "it does nothing")
    if "ip" in rule.per and not config.trusted_proxies:
        message = f"rule {rule.name} is per ip, and no proxy in front of this one is trusted"
        why = "behind a reverse proxy or load balancer all clients have its address, and share one limit"
        yield Issue("rate_limit_no_trusted_proxies", "info", "rateLimit.trustedProxies", message, why)
    is_long = algorithm == "sliding-log" and rule.counts != "concurrent" and rule.amount > LONG_LOG
    if is_long and rule.counts != "costUsd":
        message = f"is {rule.amount:g} with sliding-log"
        why = "every request of the period is kept, for each partition; sliding-window counts in constant space"
        yield Issue("rate_limit_long_log", "warning", f"{path}.amount", message, why)
