"""Issues of limits that contradict each other: how much at once, and how long."""

from collections.abc import Iterator

from proxy.config.issue_patches import mended, value_at
from proxy.config.loader import Loaded
from proxy.config.models import ProviderSettings, Settings
from proxy.config.patch import Json
from proxy.config.shape import KeyPath
from proxy.plugin import Issue


def limit_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at the limits of each enabled provider, beside each other and beside those of the process."""
    settings, raw = loaded.settings, loaded.document.raw
    for name, provider in settings.providers.items():
        if provider.enabled:
            yield from _limit_above_process(settings, name, provider)
            yield from _timeouts(raw, name, provider)
    yield from _limit_above_providers(settings)


def _limit_above_process(settings: Settings, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    limit, whole = provider.max_concurrency, settings.max_concurrency
    if limit is not None and limit > whole:
        yield mended(
            "limit_above_process",
            "warning",
            ("providers", name, "maxConcurrency"),
            f"{limit} is above maxConcurrency of the whole process, {whole}",
            "it is never reached; the patch makes it what holds now, raise maxConcurrency if more is wanted",
            whole,
        )


def _limit_above_providers(settings: Settings) -> Iterator[Issue]:
    """Not where a provider's queue waits longer than the process's: there the waiting is meant to be."""
    remote = [each for each in settings.providers.values() if each.enabled and each.type != "echo"]
    limits = [each.max_concurrency for each in remote if each.max_concurrency is not None]
    whole = settings.max_concurrency
    if not remote or len(limits) < len(remote) or whole <= sum(limits):
        return
    if all(each.queue_timeout <= settings.queue_timeout for each in remote):
        yield mended(
            "limit_above_providers",
            "info",
            ("maxConcurrency",),
            f"{whole} is above what the providers take together, {sum(limits)}",
            "requests beyond that are let in only to wait in the queues of providers",
            sum(limits),
        )


def _timeouts(raw: Json, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    """`total` counts from the request being sent: the queue and the connection come before it."""
    times, total = provider.timeouts, provider.timeouts.total
    if total is None:
        return
    base: KeyPath = ("providers", name, "timeouts")
    for key, limit in (("firstByte", times.first_byte), ("idle", times.idle)):
        if limit is not None and total < limit:
            is_default = value_at(raw, (*base, key)) is None
            yield mended(
                "timeouts_contradict",
                "info" if is_default else "warning",
                (*base, key),
                f"{limit:g} s{', the default,' if is_default else ''} is above timeouts.total, {total:g} s",
                "total ends a call first, so this limit is never reached; the patch makes it what holds now",
                total,
            )
    if total <= times.connect:
        is_default = value_at(raw, (*base, "connect")) is None
        yield mended(
            "timeouts_contradict",
            "info" if is_default else "warning",
            (*base, "connect"),
            f"{times.connect:g} s{', the default,' if is_default else ''} is not below timeouts.total, {total:g} s",
            "a call may wait longer for its connection than for its whole answer: total counts from the request "
            "being sent; the patch halves it",
            total / 2,
        )
    if provider.max_concurrency is not None and provider.queue_timeout > total:
        yield mended(
            "queue_longer_than_total",
            "info",
            ("providers", name, "queueTimeout"),
            f"{provider.queue_timeout:g} s is above timeouts.total, {total:g} s",
            "a call may wait longer for its turn than it may take; total counts from the request being sent",
            total,
        )
