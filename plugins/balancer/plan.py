"""The settings made ready: in which order the candidates of a request are asked, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final

from plugins.balancer.rendezvous import by_session
from plugins.balancer.routes import Route
from plugins.balancer.sessions import session_of_header, session_of_prompt
from plugins.balancer.settings import Affinity, BalancerConfig, ModelBalancing, Strategy
from plugins.balancer.strategies import Strategies
from proxy.exchange import Candidate, Exchange, Request

AS_LISTED: Final = "as-listed"
"""Noted for a strategy where a route gives the order itself."""

PROMPTLESS: Final = (
    "affinity is prompt, and a dry run has none: a request with one goes where its session belongs, "
    "which may be any of those that share the work"
)

_priority_of = attrgetter("priority")


@dataclass(frozen=True, slots=True)
class Way:
    """How the candidates of a model are put in order."""

    strategy: Strategy
    affinity: Affinity
    ignores_priority: bool = False


class Plan:
    """Orders candidates by one revision of the settings."""

    def __init__(self, config: BalancerConfig, strategies: Strategies) -> None:
        self._strategies = strategies
        self._way = Way(config.strategy, config.affinity)
        self._ways: Mapping[str | None, Way] = {
            name: _way_of(model, self._way) for name, model in config.models.items()
        }
        self._routes = [Route(settings) for settings in config.routes]
        self._header = config.affinity_header.lower().encode("ascii")
        self.is_plain = self._way == Way("priority", "none") and not self._ways and not self._routes
        """Priorities and weights say it all, of every request."""

    def order(self, exchange: Exchange, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Put candidates in the order to ask; of a dry run, note how that came about."""
        way = self._ways.get(exchange.request.model, self._way)
        session = self._session(way.affinity, exchange.request)
        taken: int | None = None
        passed_over: list[int] = []
        strategy: Strategy | None = way.strategy
        named: list[Candidate] = []
        others = candidates
        for index, route in enumerate(self._routes):
            if route.condition.fits(exchange):
                found, left = route.split(candidates)
                if found:
                    taken, strategy, named, others = index, route.strategy, found, left if route.keeps_others else ()
                    break
                passed_over.append(index)
        if exchange.is_dry_run:
            _note(exchange, strategy, way.affinity, session, taken, passed_over)
        if strategy is not None:
            named = self._among_equals(exchange, strategy, session, named)
        return named + self._in_priorities(exchange, way, session, others)

    def _session(self, affinity: Affinity, request: Request) -> bytes | None:
        if affinity == "none":
            return None
        return session_of_header(request, self._header) if affinity == "header" else session_of_prompt(request)

    def _in_priorities(
        self, exchange: Exchange, way: Way, session: bytes | None, candidates: Sequence[Candidate]
    ) -> list[Candidate]:
        if way.ignores_priority:
            return self._among_equals(exchange, way.strategy, session, candidates)
        ranked = sorted(candidates, key=_priority_of)
        if not ranked or ranked[0].priority == ranked[-1].priority:
            return self._among_equals(exchange, way.strategy, session, ranked)
        ordered: list[Candidate] = []
        for _, equals in groupby(ranked, key=_priority_of):
            ordered += self._among_equals(exchange, way.strategy, session, list(equals))
        return ordered

    def _among_equals(
        self, exchange: Exchange, strategy: Strategy, session: bytes | None, equals: Sequence[Candidate]
    ) -> list[Candidate]:
        if len(equals) < 2:
            return list(equals)
        return self._strategies[strategy](exchange, equals) if session is None else by_session(equals, session)


def _way_of(model: ModelBalancing, general: Way) -> Way:
    return Way(model.strategy or general.strategy, model.affinity or general.affinity, model.ignore_priority)


def _note(
    exchange: Exchange,
    strategy: Strategy | None,
    affinity: Affinity,
    session: bytes | None,
    route: int | None,
    passed_over: list[int],
) -> None:
    exchange.notes["balancer"] = {
        "strategy": strategy or AS_LISTED,
        "route": route,
        "passedOver": passed_over,
        "affinity": affinity,
        "sticky": session is not None and strategy is not None,
        "caveat": PROMPTLESS if affinity == "prompt" and session is None and strategy is not None else None,
    }
