"""What operators are shown of providers and of requests in work, and what they may do about providers."""

from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote

from proxy.errors import Refused, UnknownPath
from proxy.exchange import Exchange, JsonObject
from proxy.journey.dry_run import Choose, explain
from proxy.journey.kit import Kit
from proxy.journey.running import running_row
from proxy.redaction import Redactor
from proxy.reload.generation import Generation
from proxy.routing.health import Forgotten, ProviderHealth
from proxy.routing.key_state import key_rows
from proxy.routing.state import OUT, Condition, condition_of_provider, model_rows, models_left_out, shown
from proxy.values import timestamp

MOST_RUNNING: Final = 200
MOST_PANICS: Final = 5


class Overview:
    """Reads the state of routing for people, and changes it by their word.

    Args:
        generation: gives the one in force.
        running: gives every exchange in work, oldest first.
        choose: as `Pipeline.choose`.
        redactor: takes secrets out of vendors' words.
        wall_clock: seconds since 1970.
    """

    def __init__(
        self,
        kit: Kit,
        generation: Callable[[], Generation],
        running: Callable[[], Iterable[Exchange]],
        choose: Choose,
        redactor: Redactor,
        wall_clock: Callable[[], float],
    ) -> None:
        self._kit = kit
        self._generation = generation
        self._running = running
        self._choose = choose
        self._redactor = redactor
        self._wall_clock = wall_clock

    # -- reading -----------------------------------------------------------------------------------------------------

    def providers(self) -> JsonObject:
        """Show every provider: `{"providers": [...], "retryBudget": {"left", "capacity", "ratio"}}`."""
        now_s, generation = self._kit.clock(), self._generation()
        shown = [self._provider(generation, name, now_s) for name in generation.endpoints]
        return {"providers": shown, "retryBudget": self._budget()}

    def explain(self, exchange: Exchange) -> JsonObject:
        """Tell who would be asked for a request, and why the others would not; see `dry_run.explain`."""
        kit = self._kit
        told = explain(exchange, self._generation(), self._choose, kit.retries, when=self._when, now_s=kit.clock())
        return {**told, "retryBudget": self._budget()}

    def requests(self) -> JsonObject:
        """Show the requests in work, oldest first: `{"total": int, "requests": [...]}`."""
        running, now_s = list(self._running()), self._kit.clock()
        return {"total": len(running), "requests": [running_row(one, now_s) for one in running[:MOST_RUNNING]]}

    def problems(self) -> list[str]:
        """List what keeps providers from being asked, in words that name the call that tells more or mends it."""
        now_s, generation = self._kit.clock(), self._generation()
        found = [_problem(generation, name, now_s) for name in generation.endpoints]
        for model in self._kit.news.panicking()[:MOST_PANICS]:
            what, where = (
                (f"model {model[:100]!r}", f"explain?model={quote(model[:100], safe='')}")
                if model
                else ("this", "status")
            )
            found.append(f"everybody who has {what} was left out, and asked all the same; see /providers/{where}")
        return [problem for problem in found if problem]

    def _provider(self, generation: Generation, name: str, now_s: float) -> JsonObject:
        endpoint, health = generation.endpoints[name], generation.health[name]
        facts = endpoint.describe(now_s)
        if facts["lastError"] is not None:
            facts["lastError"]["message"] = self._redactor.text(facts["lastError"]["message"])
        return {
            "name": name,
            "type": endpoint.provider.settings.type,
            **shown(_condition(generation, name, now_s), self._when, until="nextProbe"),
            **facts,
            "adaptiveLimit": None if health.adaptive is None else health.adaptive.limit,
            "keys": key_rows(health, self._when, now_s),
            "modelsAsked": sum(1 for _ in health.lanes()),
            "modelStates": model_rows(health, self._when, now_s),
        }

    def _budget(self) -> JsonObject:
        budget = self._kit.retries
        return {"left": round(budget.level, 1), "capacity": budget.capacity, "ratio": budget.ratio}

    def _when(self, time_s: float | None) -> str | None:
        """Write a time of the monotonic clock by the wall clock."""
        if time_s is None:
            return None
        return timestamp(self._wall_clock() - self._kit.clock() + time_s, is_exact=True)

    # -- changing ----------------------------------------------------------------------------------------------------

    def drain(self, name: str, by: str) -> JsonObject:
        """Have a provider take no new calls; those that run go on. Doing it again changes nothing.

        Args:
            by: who says so, for the log.
        Returns:
            `{"provider", "state", "why", "since", "nextProbe", "inFlight", "queued"}`.
        Raises:
            UnknownPath: there is no such provider.
            Refused: it is switched off by the configuration.
        """
        health = self._health(name)
        if health.drained_s is None:
            health.drained_s = self._kit.clock()
            slots = self._generation().endpoints[name].slots
            self._kit.news.drained(name, slots.in_use, by)
            slots.turn_away("drained by an operator meanwhile")
        return self._standing(name)

    def enable(self, name: str, by: str) -> JsonObject:
        """Let a provider take calls again: circuits closed, cooldowns and failures forgotten. Raises as `drain`.

        Returns:
            As `drain`, with `"forgotten": {"circuits": [...], "cooldowns": int}`.
        """
        health = self._health(name)
        forgotten = health.reset(self._kit.clock())
        self._generation().endpoints[name].stats.begin_anew()
        if health.drained_s is not None or forgotten != Forgotten():
            health.drained_s = None
            self._kit.news.enabled(name, forgotten, by)
        return {**self._standing(name), "forgotten": _as_json(forgotten)}

    def forget(self, by: str) -> JsonObject:
        """Close every circuit, end every cooldown and judge everybody anew; who is drained stays so.

        Returns:
            `{"circuits": [...], "cooldowns": int, "stillDrained": [...]}`.
        """
        now_s, generation = self._kit.clock(), self._generation()
        everybody = generation.health
        each = [health.reset(now_s) for health in everybody.values()]
        for endpoint in generation.endpoints.values():
            endpoint.stats.begin_anew()
        forgotten = Forgotten(tuple(name for one in each for name in one.circuits), sum(one.cooldowns for one in each))
        if forgotten != Forgotten():
            self._kit.news.reset(forgotten, by)
        return {
            **_as_json(forgotten),
            "stillDrained": [name for name, health in everybody.items() if health.drained_s is not None],
        }

    def tell_cancelled(self, exchange: Exchange, by: str) -> None:
        """Tell that an operator ended a request."""
        self._kit.news.cancelled(exchange, by)

    def _standing(self, name: str) -> JsonObject:
        now_s, generation = self._kit.clock(), self._generation()
        condition = _condition(generation, name, now_s)
        return {
            "provider": name,
            **shown(condition, self._when, until="nextProbe"),
            "inFlight": generation.endpoints[name].slots.in_use,
            "queued": generation.endpoints[name].slots.waiting,
        }

    def _health(self, name: str) -> ProviderHealth:
        generation = self._generation()
        health = generation.health.get(name)
        if health is not None:
            return health
        if name in generation.settings.providers:
            message = f"{name} is off by configuration: providers.{name}.enabled is false"
            raise Refused(message, code="provider_not_enabled", status=409)
        raise UnknownPath(f"there is no provider {name[:64]!a}; there are {', '.join(generation.endpoints) or 'none'}")


def _condition(generation: Generation, name: str, now_s: float) -> Condition:
    recent = generation.endpoints[name].stats.recent(now_s)
    return condition_of_provider(generation.health[name], recent.calls, recent.failures, now_s)


def _problem(generation: Generation, name: str, now_s: float) -> str:
    """Tell what an operator should look at; empty if it is nothing."""
    health, recent = generation.health[name], generation.endpoints[name].stats.recent(now_s)
    condition = condition_of_provider(health, recent.calls, recent.failures, now_s)
    if condition.state == "drained":
        in_use = generation.endpoints[name].slots.in_use
        return f"provider {name} is drained ({in_use} in flight); POST /providers/{name}/enable undoes it"
    if condition.state in OUT:
        return f"provider {name} is left out: {condition.why}; see /providers/status"
    parts = []
    if condition.state == "failing":
        parts.append(f"failed {recent.failures} of {recent.calls} calls")
    if models := models_left_out(health, now_s):
        parts.append(f"is left out for some requests ({models})")
    return f"provider {name} {' and '.join(parts)}; see /providers/status" if parts else ""


def _as_json(forgotten: Forgotten) -> JsonObject:
    return {"circuits": list(forgotten.circuits), "cooldowns": forgotten.cooldowns}
