"""Order providers: by priority, and within one priority at random by weight."""

from collections.abc import Sequence
from random import Random
from typing import Literal

from pydantic import Field

from proxy import hookimpl
from proxy.exchange import Candidate
from proxy.plugin import Plugin, PluginConfig, PluginContext


class BalancerConfig(PluginConfig):
    """Section `balancer`."""

    strategy: Literal["priority"] = Field(
        "priority", description="priority: the lowest `priority` first, shares within one by `weight`."
    )


class BalancerPlugin(Plugin[BalancerConfig]):
    """Gives each provider the share of first attempts that its weight has among those of its priority."""

    name = "balancer"

    def __init__(self, config: BalancerConfig, context: PluginContext, random: Random | None = None) -> None:
        super().__init__(config, context)
        self._random = random or Random()

    @hookimpl
    def select_provider(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Draw without replacement.

        Source:
            Efraimidis, Spirakis: Weighted random sampling with a reservoir (2006): the smallest of exponential
            variates of rate `weight` is each one's with the probability of its weight.
        """
        draw = self._random.expovariate
        return sorted(candidates, key=lambda candidate: (candidate.priority, draw(candidate.weight)))
