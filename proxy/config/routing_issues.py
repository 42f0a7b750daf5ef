"""Issues of where requests go: aliases that lead nowhere, fallback that never happens or makes answers up, shares."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from proxy.config.document import dotted
from proxy.config.failover_issues import has_model
from proxy.config.faults import show
from proxy.config.issue_patches import nested, value_at
from proxy.config.loader import Loaded
from proxy.config.models import ProviderSettings, Settings
from proxy.config.patch import Json
from proxy.config.shape import KeyPath
from proxy.plugin import Issue
from proxy.values import printable

BALANCER: Final = "balancer"


def routing_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at which provider a request can get to."""
    settings, raw = loaded.settings, loaded.document.raw
    yield from _no_provider(settings)
    for alias, targets in settings.models.items():
        written = value_at(raw, ("models", alias)) or list(targets)
        yield from _alias_to_nothing(settings, alias, written)
        yield from _alias_to_unlisted_model(settings, raw, alias)
        yield from _fallback_unreachable(settings, alias)
        yield from _fallback_echo(settings, alias, written)
        yield from _model_shadowed(settings, alias, written)
    yield from _weight_without_balancer(loaded)


def _no_provider(settings: Settings) -> Iterator[Issue]:
    providers = settings.providers
    if any(provider.enabled for provider in providers.values()):
        return
    why = "every request is refused"
    if not providers:
        patch: Json = {"providers": None}
        why += "; the patch brings the built-in echo back"
    else:
        first = min(providers, key=lambda name: providers[name].priority)
        patch = nested(("providers", first, "enabled"), True)
        why += f"; the patch enables {first}"
    message = f"none of {len(providers)} is enabled" if providers else "there is none"
    yield Issue("no_provider", "error", "providers", message, why, patch=patch)


def _targets(settings: Settings, alias: str) -> list[tuple[str, ProviderSettings, str]]:
    """Name, settings and model of each target."""
    parts = (target.partition("/") for target in settings.models[alias])
    return [(name, settings.providers[name], model) for name, _, model in parts]


def _is_dead(provider: ProviderSettings) -> bool:
    return not provider.enabled or provider.type == "http"


def _alias_to_nothing(settings: Settings, alias: str, written: list[Any]) -> Iterator[Issue]:  # Any: JSON
    targets = _targets(settings, alias)
    dead = [position for position, (_, provider, _) in enumerate(targets) if _is_dead(provider)]
    kept = [item for position, item in enumerate(written) if position not in dead]
    for position in dead:
        name, provider, _ = targets[position]
        is_off = not provider.enabled
        reason = "is not enabled" if is_off else f"is of type http, which is reached at /proxy/{name}/ only"
        yield Issue(
            "alias_to_nothing",
            "warning" if kept else "error",
            dotted(("models", alias, position)),
            f"{show(settings.models[alias][position])}: the provider {name} {reason}",
            "this target is passed over" if kept else "every request for this alias is refused: no target is left",
            patch=nested(("models", alias), kept or None),
        )


def _alias_to_unlisted_model(settings: Settings, raw: Json, alias: str) -> Iterator[Issue]:
    for position, (name, provider, model) in enumerate(_targets(settings, alias)):
        if _is_dead(provider) or provider.type == "echo" or not provider.models or has_model(provider, model):
            continue
        path: KeyPath = ("providers", name, "models")
        yield Issue(
            "alias_to_unlisted_model",
            "info",
            dotted(("models", alias, position)),
            f"{show(model)} is none of the models of {name}: {printable(', '.join(provider.models), 200)}",
            f"{name} is asked for it all the same; if the name is misspelt, it answers with an error. "
            "The patch adds it to the list",
            patch=nested(path, [*value_at(raw, path), model]),
        )


def _fallback_unreachable(settings: Settings, alias: str) -> Iterator[Issue]:
    """A target of another format is reached all the same, by clients that speak it."""
    own = settings.failover.models.get(alias)
    if settings.enable_fallback_providers if own is None or own.enabled is None else own.enabled:
        return
    is_own = own is not None and own.enabled is not None
    path: KeyPath = ("failover", "models", alias, "enabled") if is_own else ("enableFallbackProviders",)
    switch = dotted(path)
    live = [(target, provider) for target, provider, _ in _targets(settings, alias) if not _is_dead(provider)]
    taken: set[str] = set()
    for name, provider in live:
        if provider.type in taken or "echo" in taken:
            yield Issue(
                "fallback_unreachable",
                "warning",
                dotted(("models", alias)),
                f"has {len(live)} targets, and {switch} is false: {name} is never asked",
                "the first target that speaks the client's format gets every request, also while it fails",
                patch=nested(path, True),
            )
            return
        taken.add(provider.type)


def _fallback_echo(settings: Settings, alias: str, written: list[Any]) -> Iterator[Issue]:  # Any: JSON
    """With fallback switched off, echo still answers where those before it are not enabled."""
    targets = _targets(settings, alias)
    real = [position for position, (_, provider, _) in enumerate(targets) if provider.type not in ("echo", "http")]
    echoes = [
        position
        for position, (_, provider, _) in enumerate(targets)
        if provider.type == "echo" and provider.enabled and real and position > real[0]
    ]
    if not echoes:
        return
    before = [targets[position][1] for position in real if position < echoes[0]]
    if not settings.enable_fallback_providers and any(provider.enabled for provider in before):
        return
    yield Issue(
        "fallback_echo",
        "warning",
        dotted(("models", alias, echoes[0])),
        f"falls back from {targets[real[0]][0]} to {targets[echoes[0]][0]}, which is of type echo",
        "a client gets made-up answers with status 200 instead of an error",
        patch=nested(("models", alias), [item for position, item in enumerate(written) if position not in echoes]),
    )


def _model_shadowed(settings: Settings, alias: str, written: list[Any]) -> Iterator[Issue]:  # Any: JSON
    enabled = {name: provider for name, provider in settings.providers.items() if provider.enabled}
    is_echo_alone = all(provider.type == "echo" for provider in enabled.values())
    named = {name for name, _, _ in _targets(settings, alias)}
    for name, provider in enabled.items():
        is_asked = provider.type != "http" and (provider.type != "echo" or is_echo_alone)
        if is_asked and alias in provider.models and name not in named:
            yield Issue(
                "model_shadowed",
                "info",
                dotted(("models", alias)),
                f"is also a model of {name}, which is none of its targets",
                f"{name} is not asked for this model by its own name; the patch makes it the last target",
                patch=nested(("models", alias), [*written, f"{name}/{alias}"]),
            )


def _weight_without_balancer(loaded: Loaded) -> Iterator[Issue]:
    settings = loaded.settings
    balancer = loaded.sections.get(BALANCER)
    if (balancer is not None and balancer.enabled) or (balancer is None and BALANCER in settings.plugins):
        return
    if balancer is not None:
        path, state, patch = f"{BALANCER}.enabled", "is not enabled", nested((BALANCER, "enabled"), True)
    else:
        path, state, patch = "plugins", "is not loaded", {"plugins": [*settings.plugins, BALANCER]}
    asked = [
        (provider.priority, provider.type, name, provider.weight)
        for name, provider in settings.providers.items()
        if provider.enabled and provider.models and provider.type not in ("echo", "http")
    ]
    for (priority, _), group in groupby(sorted(asked), key=lambda each: each[:2]):
        weights = {name: weight for _, _, name, weight in group}
        if len(set(weights.values())) > 1:
            shown = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
            why = "weights count for nothing: of providers that have a model, the first of the file gets every request"
            if balancer is None:
                why += "; the patch takes effect at the next start"
            message = f"the weights of priority {priority} differ ({shown}), and the plugin balancer {state}"
            yield Issue("weight_without_balancer", "warning", path, message, why, patch=patch)
            return
