"""Issues of the section `balancer` that only who knows all providers can see: routes and models that lead to nobody."""

from collections.abc import Iterator
from typing import Any, Final

from proxy.config.document import dotted
from proxy.config.failover_issues import can_be_asked, has_model
from proxy.config.faults import show
from proxy.config.issue_patches import mended, nested, value_at
from proxy.config.loader import Loaded
from proxy.config.models import Settings
from proxy.config.patch import Json
from proxy.plugin import Issue
from proxy.values import printable

BALANCER: Final = "balancer"


def balancing_issues(loaded: Loaded) -> Iterator[Issue]:
    """Look at the names in the balancer's section, if it takes part."""
    section = loaded.sections.get(BALANCER)
    if section is None or not section.enabled:
        return
    values, settings = section.model_dump(by_alias=True), loaded.settings
    for name in values.get("models", {}):
        if not can_be_asked(settings, name):
            yield mended(
                "balancing_of_nothing",
                "warning",
                (BALANCER, "models", name),
                "is no alias, and no enabled provider has a model of this name",
                "no request is handled by it; the name is misspelt, or the model is gone. The patch takes it away",
                None,
            )
    for position, route in enumerate(values.get("routes", ())):
        yield from _condition_of_nothing(loaded, position, route["when"]["model"])
        yield from _route_to_nothing(loaded, position, route["use"])


def _condition_of_nothing(loaded: Loaded, position: int, model: str) -> Iterator[Issue]:
    is_pattern = "*" in model or "?" in model
    if _may_be_asked(loaded.settings, model) if is_pattern else can_be_asked(loaded.settings, model):
        return
    what = "fits no alias and no model of an enabled provider" if is_pattern else "is no alias, and nobody has it"
    yield Issue(
        "balancing_of_nothing",
        "info" if is_pattern else "warning",
        dotted((BALANCER, "routes", position, "when", "model")),
        f"{show(model)} {what}",
        "no request is for such a model, so that the route is never taken",
        patch=_with_use(loaded, position, []),
    )


def _route_to_nothing(loaded: Loaded, position: int, use: tuple[str, ...]) -> Iterator[Issue]:
    wrong = {place: why for place, name in enumerate(use) if (why := _why_nobody(loaded.settings, name))}
    kept = [place for place in range(len(use)) if place not in wrong]
    for place, why in wrong.items():
        yield Issue(
            "route_to_nothing",
            "warning",
            dotted((BALANCER, "routes", position, "use", place)),
            f"{show(use[place])}: {why}",
            "it is passed over" if kept else "the route is passed over: it leads to nobody else",
            patch=_with_use(loaded, position, kept),
        )


def _why_nobody(settings: Settings, name: str) -> str:
    """Tell why nobody is found under a name of `use`; empty if somebody is."""
    provider, _, model = name.partition("/")
    found = settings.providers.get(provider)
    if found is None:
        return f"there is no provider {show(provider)}"
    if not found.enabled:
        return f"the provider {provider} is not enabled"
    if found.type == "http":
        return f"the provider {provider} is of type http, which is reached at /proxy/{provider}/ only"
    is_target = any(name in targets for targets in settings.models.values())
    if not model or is_target or not found.models or has_model(found, model):
        return ""
    return (
        f"no alias leads to it, and it is none of the models of {provider}: {printable(', '.join(found.models), 200)}"
    )


def _with_use(loaded: Loaded, position: int, places: list[int]) -> Json | None:
    """Make the patch that leaves a route these places of `use`, or takes it away; None where it would show a key."""
    routes: Any = value_at(loaded.document.raw, (BALANCER, "routes"))  # Any: JSON
    if not isinstance(routes, list) or any("key" in (route.get("when") or {}) for route in routes):
        return None
    written = routes[position]
    instead = [{**written, "use": [written["use"][place] for place in places]}] if places else []
    return nested((BALANCER, "routes"), [*routes[:position], *instead, *routes[position + 1 :]])


def _may_be_asked(settings: Settings, pattern: str) -> bool:
    """Tell whether there can be a model name that fits a pattern and leads to somebody."""
    enabled = {name: one for name, one in settings.providers.items() if one.enabled}
    known = [*settings.models, *(model for one in enabled.values() for model in one.models)]
    return any(overlap(pattern, each) for each in (*known, *(f"{name}/*" for name in enabled)))


def overlap(one: str, other: str) -> bool:
    """Tell whether some text fits both patterns."""
    after = [not other[j:].strip("*") for j in range(len(other) + 1)]  # by what is left of `other`, none of `one`
    for char in reversed(one):
        found = [char == "*" and after[-1]]
        for j in reversed(range(len(other))):
            pair = (char, other[j])
            if "*" in pair:
                found.append(after[j] or found[-1])
            else:
                found.append(after[j + 1] and (char == other[j] or "?" in pair))
        after = found[::-1]
    return after[0]
