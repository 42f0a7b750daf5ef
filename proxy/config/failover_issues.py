"""Issues of what happens when a provider fails: fallbacks that lead nowhere, exceptions for models nobody has."""

import re
from collections.abc import Iterator

from proxy.config.document import dotted
from proxy.config.faults import show
from proxy.config.issue_patches import mended, nested, value_at
from proxy.config.loader import Loaded
from proxy.config.models import ProviderSettings, Settings
from proxy.plugin import Issue


def failover_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at what is asked after a failure."""
    settings = loaded.settings
    for name, own in settings.failover.models.items():
        if not can_be_asked(settings, name):
            yield mended(
                "failover_of_nothing",
                "warning",
                ("failover", "models", name),
                "is no alias, and no enabled provider has a model of this name",
                "no request is handled by it; the name is misspelt, or the model is gone. The patch takes it away",
                None,
            )
        lost = [fallback for fallback in own.fallbacks if not can_be_asked(settings, fallback)]
        if lost:
            path = ("failover", "models", name, "fallbacks")
            written = value_at(loaded.document.raw, path) or list(own.fallbacks)
            kept = [item for item, each in zip(written, own.fallbacks, strict=True) if each not in lost]
            yield Issue(
                "fallback_to_nothing",
                "warning",
                dotted((*path, own.fallbacks.index(lost[0]))),
                f"{show(lost[0])} is no alias, no model of an enabled provider, and no provider/model",
                "it is passed over when everybody else has failed; the patch takes what leads nowhere away",
                patch=nested(path, kept),
            )
    if settings.hedging.enabled and sum(map(_takes_hedges, settings.providers.values())) < 2:
        yield mended(
            "hedging_alone",
            "info",
            ("hedging", "enabled"),
            "is on, and there are no two enabled providers",
            "a second attempt never goes to the same provider, so there is none",
            False,
        )


def can_be_asked(settings: Settings, name: str) -> bool:
    """Tell whether a model name leads to anybody, as requests look it up."""
    provider, slash, model = name.partition("/")
    if name in settings.models:
        return True
    if slash and model and (found := settings.providers.get(provider)) is not None:
        return found.enabled
    return any(has_model(one, name) for one in settings.providers.values() if one.enabled)


def has_model(provider: ProviderSettings, model: str) -> bool:
    """Tell whether a provider lists a model, by its name or by a pattern."""
    patterns = (re.escape(each).replace(r"\*", ".*").replace(r"\?", ".") for each in provider.models)
    return re.fullmatch("|".join(patterns) or r"(?!)", model, re.DOTALL) is not None


def _takes_hedges(provider: ProviderSettings) -> bool:
    return provider.enabled and provider.type not in ("echo", "http")
