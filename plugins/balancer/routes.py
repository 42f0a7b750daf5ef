"""A route: for requests that meet its condition, who of the candidates is asked."""

from collections.abc import Sequence

from plugins.balancer.conditions import Condition
from plugins.balancer.settings import RouteSettings, Strategy
from proxy.exchange import Candidate


class Route:
    """Chooses among the candidates; compiled once for each change of the settings."""

    def __init__(self, settings: RouteSettings) -> None:
        self.condition = Condition(settings.when)
        self.strategy: Strategy | None = settings.strategy
        """None: in the order of `use`."""
        self.keeps_others = settings.or_else
        self._use = [_provider_and_model(name) for name in settings.use]

    def split(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
        """Part the candidates into those that are named, in the order of `use`, and the others as they were."""
        others, named = list(candidates), []
        for provider, model in self._use:
            found = [each for each in others if each.provider == provider and model in (None, each.model)]
            if found:
                named += found
                others = [each for each in others if each not in found]
        return named, others


def _provider_and_model(name: str) -> tuple[str, str | None]:
    provider, _, model = name.partition("/")
    return provider, model or None
