"""Order the providers that have a model: by priority, and among equals by a strategy, a session, or a route."""

from collections.abc import Sequence
from random import Random

from plugins.balancer.issues import balancer_issues
from plugins.balancer.orders import by_priority_and_weight
from plugins.balancer.plan import Plan
from plugins.balancer.settings import BalancerConfig
from plugins.balancer.strategies import make_strategies
from proxy import hookimpl
from proxy.exchange import Candidate, Exchange
from proxy.plugin import Issue, Plugin, PluginContext


class BalancerPlugin(Plugin[BalancerConfig]):
    """Says who is asked first and who after that; who must not be asked at the moment, the core leaves out."""

    name = "balancer"

    def __init__(self, config: BalancerConfig, context: PluginContext, random: Random | None = None) -> None:
        super().__init__(config, context)
        self._random = random or Random()
        self._strategies = make_strategies(self._random, context.clock)
        self._plan = Plan(config, self._strategies)

    @hookimpl
    def reconfigure(self, config: BalancerConfig) -> None:
        """Go on by new settings; the round robin keeps whose turn it is."""
        self._plan = Plan(config, self._strategies)

    @hookimpl
    def select_provider(self, exchange: Exchange, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Put all candidates in the order to ask; a route may leave some out."""
        if self._plan.is_plain and not exchange.is_dry_run:
            return by_priority_and_weight(candidates, self._random)
        return self._plan.order(exchange, candidates)

    @hookimpl
    def config_issues(self) -> Sequence[Issue]:
        """Tell which settings do nothing."""
        return list(balancer_issues(self.config))
