"""From the model a client names to the providers that have it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from proxy.config.models import Settings
from proxy.config.routing_models import PriceSettings
from proxy.errors import TranslationUnsupported, UnknownModel
from proxy.exchange import Candidate
from proxy.patterns import compile_patterns
from proxy.providers.base import Provider
from proxy.routing.health import LaneLoad, ProviderHealth
from proxy.usage import Price

MAX_KNOWN: Final = 1000
MAX_MODEL_CHARS: Final = 512
"""Longer names are no model's: they are neither matched, which could take long, nor kept as keys or labels."""
MAX_NAMED: Final = 20
"""Most models listed in an error message."""


def is_pattern(model: str) -> bool:
    """Tell a pattern from an exact name."""
    return "*" in model or "?" in model


def _price_list(prices: Mapping[str, PriceSettings]) -> list[tuple[re.Pattern[str], Price]]:
    return [(compile_patterns((name,)), Price(one.input, one.output)) for name, one in prices.items()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMED])
    return f"{shown} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else shown


class Candidates:
    """Answers which providers have a model, for one revision of the configuration; remembers what it was asked.

    Args:
        providers: the enabled ones, lower priority first.
        health: by provider; what strategies see of a candidate's load comes from it.
    """

    def __init__(
        self, settings: Settings, providers: Mapping[str, Provider], health: Mapping[str, ProviderHealth] | None = None
    ) -> None:
        self._health = health or {}
        self._prices = {name: _price_list(provider.settings.prices) for name, provider in providers.items()}
        self._aliases = settings.models
        self._disabled = {name: one for name, one in settings.providers.items() if not one.enabled}
        self._providers = providers
        is_echo_alone = all(provider.settings.type == "echo" for provider in providers.values())
        self._patterns = [
            (provider, compile_patterns(provider.settings.models))
            for provider in providers.values()
            if provider.settings.type != "echo" or is_echo_alone
        ]
        self._is_echo_alone = is_echo_alone
        self._known: dict[tuple[str, str], tuple[Candidate, ...]] = {}

    def find(self, model: str, format_name: str, translates_to: frozenset[str] = frozenset()) -> Sequence[Candidate]:
        """Find who can answer, in the order of priority.

        Args:
            model: an alias, `provider/model`, or a model's own name.
            format_name: the format of the client's path.
            translates_to: formats this path can be translated to.
        Returns:
            At least one candidate.
        Raises:
            UnknownModel: no enabled provider has it.
            TranslationUnsupported: only providers of other formats have it.
        """
        key = (model, format_name)
        found = self._known.get(key)
        if found is None:
            found = tuple(self._fitting(model, format_name, translates_to))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def passed_over(self, model: str, format_name: str, translates_to: frozenset[str] = frozenset()) -> dict[str, str]:
        """Tell why others have no part in a model: `{provider: why}`, without those that `disabled` lists."""
        matching = self._matching(model) if len(model) <= MAX_MODEL_CHARS else []
        found = {one.provider for one in matching if self._can_serve(one, format_name, translates_to)}
        having = {one.provider for one in matching}
        why = {name: self._why_not(name, model, format_name, having) for name in self._providers if name not in found}
        waiting = {one.provider for one in self.disabled(model)}
        return why | {name: f"providers.{name}.enabled is false" for name in self._disabled if name not in waiting}

    def disabled(self, model: str) -> Sequence[Candidate]:
        """List who else would be asked for a model, were its provider enabled; whatever its format."""
        if len(model) > MAX_MODEL_CHARS:
            return ()
        named = [target.partition("/") for target in self._aliases.get(model, (model,))]
        if found := [
            Candidate(name, of_vendor, priority, self._disabled[name].weight)
            for priority, (name, slash, of_vendor) in enumerate(named)
            if slash and of_vendor and name in self._disabled and self._disabled[name].type != "http"
        ]:
            return found
        if model in self._aliases:
            return ()
        return [
            Candidate(name, model, settings.priority, settings.weight)
            for name, settings in self._disabled.items()
            if settings.type not in ("echo", "http") and compile_patterns(settings.models).fullmatch(model)
        ]

    def default(self, format_name: str) -> Sequence[Candidate]:
        """Find who could take the paths of a format that name no model, echo only while it is alone."""
        found = tuple(
            self._candidate(provider, None, provider.settings.priority)
            for provider in self._providers.values()
            if provider.speaks(format_name) and (provider.settings.type != "echo" or self._is_echo_alone)
        )
        if not found:
            raise UnknownModel(f"no {format_name} provider is configured; there are {self._provider_list()}")
        return found

    def exact_names(self, format_name: str) -> list[str]:
        """List the models that have a name of their own: aliases and exact model names a client of a format can use."""
        names = dict.fromkeys(self._aliases)
        for provider, _ in self._patterns:
            if provider.speaks(format_name):
                names.update(dict.fromkeys(name for name in provider.settings.models if not is_pattern(name)))
                if provider.settings.type == "echo":
                    names["echo"] = None
        return list(names)

    def first_model(self) -> str | None:
        """Name a model for requests that name none: the first provider's first exact one."""
        for provider, _ in self._patterns:
            for name in provider.settings.models:
                if not is_pattern(name):
                    return name
            if provider.settings.type == "echo":
                return "echo"
        return None

    def _fitting(self, model: str, format_name: str, translates_to: frozenset[str]) -> list[Candidate]:
        found = self._matching(model) if len(model) <= MAX_MODEL_CHARS else []
        if not found:
            raise UnknownModel(f"no provider has the model {model[:200]!r}; there are {self._model_list()}")
        fitting = [one for one in found if self._can_serve(one, format_name, translates_to)]
        if not fitting:
            formats = sorted({self._format_of(one.provider) for one in found})
            raise TranslationUnsupported(
                f"the model {model[:200]!r} is only at a provider of the {' or '.join(formats)} format, "
                f"and this path speaks {format_name}; translation between the two is not there yet"
            )
        return fitting

    def _matching(self, model: str) -> list[Candidate]:
        if (targets := self._aliases.get(model)) is not None:
            return [one for index, target in enumerate(targets) for one in self._named(target, priority=index)]
        if named := self._named(model):
            return named
        return [
            self._candidate(provider, model, provider.settings.priority)
            for provider, pattern in self._patterns
            if pattern.fullmatch(model)
        ]

    def _why_not(self, name: str, model: str, format_name: str, matching: set[str]) -> str:
        provider = self._providers[name]
        if name in matching:
            return f"it speaks the {self._format_of(name)} format, and {format_name} is not translated to it"
        if model in self._aliases:
            return f"the alias {model!r} does not name it"
        if self._named(model):
            return "the request names another provider"
        if provider.settings.type == "echo":
            return "echo stands in for nobody: an alias, or echo/…, has to name it"
        if not provider.settings.models:
            return f"providers.{name}.models is empty: only an alias, or {name}/…, leads to it"
        return f"none of its models fits: {_listed(provider.settings.models)}"

    def _named(self, target: str, priority: int = 0) -> list[Candidate]:
        name, slash, model = target.partition("/")
        provider = self._providers.get(name)
        if not slash or not model or provider is None:
            return []
        return [self._candidate(provider, model, priority)]

    def _candidate(self, provider: Provider, model: str | None, priority: int) -> Candidate:
        name = provider.name
        health = self._health.get(name)
        price = next((price for pattern, price in self._prices[name] if model and pattern.fullmatch(model)), None)
        load = None if health is None else LaneLoad(health, model)
        place = provider.settings.base_url or provider.settings.type
        return Candidate(name, model, priority, provider.settings.weight, price, load, place)

    def _can_serve(self, candidate: Candidate, format_name: str, translates_to: frozenset[str]) -> bool:
        provider = self._providers[candidate.provider]
        return provider.speaks(format_name) or any(provider.speaks(name) for name in translates_to)

    def _format_of(self, name: str) -> str:
        wire = self._providers[name].format
        return wire.name if wire is not None else "no particular"

    def _model_list(self) -> str:
        names = [*self._aliases]
        for provider, _ in self._patterns:
            names.extend(provider.settings.models)
        if not names:
            return f"no models configured (providers: {self._provider_list()}; use provider/model)"
        return _listed(list(dict.fromkeys(names)))

    def _provider_list(self) -> str:
        return ", ".join(self._providers) or "none"
