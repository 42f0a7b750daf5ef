"""Issues of single providers: limits that contradict each other, keys that are missing or shown to everybody."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from proxy.config.document import dotted
from proxy.config.environment import is_loopback
from proxy.config.issue_patches import nested, value_at
from proxy.config.loader import Loaded
from proxy.config.models import ProviderSettings, Settings
from proxy.plugin import Issue, Severity

VENDOR_HOSTS: Final = frozenset({"api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"})
"""Hosts that answer nobody without a key."""


def provider_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at the providers that are enabled, one by one."""
    settings = loaded.settings
    yield from _limit_above_providers(settings)
    for name, provider in settings.providers.items():
        if not provider.enabled:
            continue
        yield from _limits(settings, name, provider)
        yield from _timeouts(name, provider)
        if provider.type != "echo":
            yield from _safety(name, provider)
            yield from _keys(loaded, name, provider)
            yield from _provider_without_models(settings, name, provider)


def _limit_above_providers(settings: Settings) -> Iterator[Issue]:
    remote = [one for one in settings.providers.values() if one.enabled and one.type != "echo"]
    limits = [one.max_concurrency for one in remote if one.max_concurrency is not None]
    if remote and len(limits) == len(remote) and sum(limits) < settings.max_concurrency:
        yield Issue(
            "limit_above_providers",
            "info",
            "maxConcurrency",
            f"{settings.max_concurrency} is above what all providers take together, {sum(limits)}",
            "requests beyond that hold a place here and wait in the queues of the providers",
            patch={"maxConcurrency": sum(limits)},
        )


def _limits(settings: Settings, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    limit = provider.max_concurrency
    if limit is not None and limit > settings.max_concurrency:
        yield Issue(
            "limit_above_process",
            "info",
            f"providers.{name}.maxConcurrency",
            f"{limit} is above maxConcurrency, {settings.max_concurrency}",
            "the limit of the whole process is reached first, so this one never is",
            patch=nested(("providers", name, "maxConcurrency"), settings.max_concurrency),
        )
    total = provider.timeouts.total
    if limit is not None and total is not None and provider.queue_timeout > total:
        yield Issue(
            "queue_longer_than_total",
            "info",
            f"providers.{name}.queueTimeout",
            f"{provider.queue_timeout:g} s is longer than a whole call may take, {total:g} s (timeouts.total)",
            "a client may wait longer for its turn than for the answer",
            patch=nested(("providers", name, "queueTimeout"), total),
        )


def _timeouts(name: str, provider: ProviderSettings) -> Iterator[Issue]:
    timeouts = provider.timeouts
    total = timeouts.total
    if total is None:
        return
    for key, part in (("connect", timeouts.connect), ("firstByte", timeouts.first_byte), ("idle", timeouts.idle)):
        if part is not None and part > total:
            yield Issue(
                "timeouts_contradict",
                "warning",
                f"providers.{name}.timeouts.{key}",
                f"{part:g} s is longer than timeouts.total, {total:g} s",
                "the whole call is over first, so this timeout never counts",
                patch=nested(("providers", name, "timeouts", key), total),
            )


def _safety(name: str, provider: ProviderSettings) -> Iterator[Issue]:
    path = ("providers", name)
    if not provider.tls.verify:
        yield Issue(
            "tls_not_verified",
            "warning",
            f"providers.{name}.tls.verify",
            "certificates are not checked",
            "whoever stands between this proxy and the provider can read and change everything, the key included",
            patch=nested((*path, "tls", "verify"), None),
        )
    url = urlsplit(provider.base_url or "")
    has_key = provider.api_key is not None or provider.api_key_file is not None
    if url.scheme == "http" and has_key and not is_loopback(url.hostname or ""):
        yield Issue(
            "key_over_plain_http",
            "warning",
            f"providers.{name}.baseUrl",
            f"the key is sent to {url.hostname} without TLS",
            "everybody on the way can read it",
            patch=nested((*path, "baseUrl"), f"https{(provider.base_url or '').removeprefix('http')}"),
        )


def _keys(loaded: Loaded, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    if provider.api_key is not None or provider.api_key_file is not None:
        return
    written = value_at(loaded.document.raw, ("providers", name, "apiKey"))
    path = dotted(("providers", name, "apiKey"))
    why = "clients' own keys are passed on, and clients without one are refused by the provider"
    severity: Severity = "warning"
    if isinstance(written, str) and "${" in written:
        message = f"{written} is empty in this process's environment"
        patch = nested(("providers", name, "apiKey"), None)
        yield Issue("key_empty", severity, path, message, f"{why}; the patch says so openly", patch=patch)
    elif urlsplit(provider.base_url or "").hostname in VENDOR_HOSTS and not provider.headers:
        message = "there is no key"
        command = "python -m proxy config set providers." + name + ".apiKey='${NAME}'"
        yield Issue("provider_without_key", "info", path, message, why, command=command)


def _provider_without_models(settings: Settings, name: str, provider: ProviderSettings) -> Iterator[Issue]:
    is_named = any(target.partition("/")[0] == name for targets in settings.models.values() for target in targets)
    if provider.type == "http" or provider.models or is_named:
        return
    yield Issue(
        "provider_without_models",
        "info",
        f"providers.{name}.models",
        "there is none, and no alias names this provider",
        f"it is asked only where a client says {name}/model or /proxy/{name}/; the patch sends it every model",
        patch=nested(("providers", name, "models"), ["*"]),
    )
