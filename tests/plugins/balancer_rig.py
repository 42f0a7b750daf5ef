"""Candidates, requests and traffic for tests of the balancer."""

import math
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from plugins.balancer.plugin import BalancerPlugin
from plugins.balancer.settings import BalancerConfig
from proxy.exchange import Candidate, Exchange, JsonObject, Request
from proxy.usage import Price
from tests.plugins.rig import CHAT, Rig

PEAK_FORGOTTEN_S = 10.0


class FakeLoad:
    """A provider's load: calls at work, and a peak-EWMA of how long they took."""

    def __init__(self, service_s: float = 1.0, *, in_flight: int = 0, latency_s: float | None = None) -> None:
        self.in_flight = in_flight
        self.service_s = service_s
        """How long the next calls take."""
        self._latency_s = latency_s
        self._seen_s = 0.0

    def latency_s(self, is_streaming: bool, now_s: float) -> float | None:
        if self._latency_s is None:
            return None
        return self._latency_s * math.exp((self._seen_s - now_s) / PEAK_FORGOTTEN_S)

    def took(self, service_s: float, now_s: float) -> None:
        if self._latency_s is None or service_s > self._latency_s:
            self._latency_s = service_s
        else:
            old = math.exp((self._seen_s - now_s) / PEAK_FORGOTTEN_S)
            self._latency_s = self._latency_s * old + service_s * (1 - old)
        self._seen_s = now_s


def candidate(
    provider: str,
    *,
    model: str | None = "gpt-4o",
    priority: int = 0,
    weight: float = 1.0,
    price: tuple[float, float] | None = None,
    load: FakeLoad | None = None,
) -> Candidate:
    return Candidate(provider, model, priority, weight, None if price is None else Price(*price), load)


def candidates_of(*weights: float) -> list[Candidate]:
    """One candidate for each weight, of one priority, named a, b, c, …"""
    return [candidate(chr(ord("a") + index), weight=weight) for index, weight in enumerate(weights)]


def asked(
    document: JsonObject | None = None,
    *,
    model: str | None = "gpt-4o",
    headers: dict[str, str] | None = None,
    caller: str | None = None,
    is_dry_run: bool = False,
    **fields: Any,
) -> Exchange:
    """An exchange as it comes to the balancer."""
    request = Request(
        CHAT,
        method="POST",
        path=b"/v1/chat/completions",
        headers=[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        document=document,
        model=model,
        **fields,
    )
    exchange = Exchange(request, id="r-1", received_s=1000.0, caller=caller)
    exchange.is_dry_run = is_dry_run
    return exchange


def make(seed: int = 1, clock: Callable[[], float] = lambda: 0.0, **section: Any) -> BalancerPlugin:
    """The plugin under a section in camelCase."""
    context = replace(Rig().context, clock=clock)
    return BalancerPlugin(BalancerConfig.model_validate(section), context, Random(seed))


def names(ordered: Any) -> list[str]:
    return [each.provider for each in ordered]


class Traffic:
    """Requests at random times to who is first, each at work for as long as its provider takes at that time."""

    def __init__(self, candidates: list[Candidate], *, per_s: float, seed: int = 1, **section: Any) -> None:
        self.now_s = 0.0
        self.firsts: list[str] = []
        self.most_in_flight = dict.fromkeys(names(candidates), 0)
        self._candidates, self._per_s = candidates, per_s
        self._plugin = make(seed, lambda: self.now_s, **section)
        self._random, self._numbers = Random(seed), count()
        self._ends: list[tuple[float, int, FakeLoad, float]] = []

    def run(self, seconds: float) -> list[str]:
        """Go on for a while; gives who was first, request by request."""
        self.firsts = []
        end_s = self.now_s + seconds
        while (next_s := self.now_s + self._random.expovariate(self._per_s)) < end_s:
            self._finish(next_s)
            self.now_s = next_s
            self._ask()
        self._finish(end_s)
        self.now_s = end_s
        return self.firsts

    def pause(self, seconds: float) -> None:
        """Let time pass without requests."""
        self.now_s += seconds
        self._finish(self.now_s)

    def _ask(self) -> None:
        chosen = self._plugin.select_provider(asked(), self._candidates)[0]
        load = chosen.load
        assert isinstance(load, FakeLoad)
        load.in_flight += 1
        self.firsts.append(chosen.provider)
        self.most_in_flight[chosen.provider] = max(self.most_in_flight[chosen.provider], load.in_flight)
        heappush(self._ends, (self.now_s + load.service_s, next(self._numbers), load, load.service_s))

    def _finish(self, until_s: float) -> None:
        while self._ends and self._ends[0][0] <= until_s:
            ended_s, _, load, service_s = heappop(self._ends)
            load.in_flight -= 1
            load.took(service_s, ended_s)
