"""In which state a provider and its models are, and why: for operators. Reads only, changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from proxy.exchange import JsonObject
from proxy.routing.breaker import Breaker
from proxy.routing.health import ProviderHealth, without_key
from proxy.routing.keys import TOLD_WHEN, Key
from proxy.routing.lane import Lane, Recent, RecentOfBoth

StateName = Literal["ok", "degraded", "failing", "half_open", "open", "drained", "unknown"]

OUT: Final[frozenset[StateName]] = frozenset({"open", "half_open"})

ORDER: Final[tuple[StateName, ...]] = ("drained", "open", "half_open", "degraded", "ok")
"""States of models, the worst first."""

MOST_SHOWN: Final = 20

LEAST_CALLS: Final = 5
"""Failures among fewer calls say nothing yet."""

NOT_CALLED: Final = "not called in the last minutes, or not since it was reset"

When = Callable[[float | None], str | None]
"""Writes a time of the monotonic clock for people; None where there is none."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How something does.

    Args:
        why: in words; empty where there is nothing to say.
        since_s: None where nobody knows, or where it was never otherwise.
        until_s: when a request is let through to try, or when it will be as before; None if that depends.
    """

    state: StateName
    why: str = ""
    since_s: float | None = None
    until_s: float | None = None


def condition_of_model(health: ProviderHealth, lane: Lane, now_s: float) -> Condition:
    """Tell how a model of a provider does, as far as that is its own affair: ok, degraded, half_open or open."""
    circuit = _condition_of_circuit(lane.breaker, health, now_s)
    if circuit.state in OUT:
        return circuit
    keys, is_on = lane.keys, lane.breaker.settings.enabled
    resting = [] if keys is None else [key for key in keys.keys if key.free_s > now_s]
    if keys is not None and is_on and len(resting) == len(keys.keys):
        absence = without_key(keys, now_s)
        return Condition("open", absence.reason, max(map(_rests_since_s, resting)), absence.until_s)
    if is_on and lane.rests_until_s > now_s:
        return Condition("open", TOLD_WHEN, None, lane.rests_until_s)
    if is_on and lane.slow_until_s > now_s:
        since_s = lane.slow_until_s - lane.breaker.settings.window
        return Condition("open", f"slow: {lane.slow_reason}", since_s, lane.slow_until_s)
    if circuit.state == "ok" and keys is not None and resting:
        first = min(resting, key=lambda key: key.free_s)
        why = f"{len(resting)} of {len(keys.keys)} keys rest: {keys.why(first, now_s)}"
        return Condition("degraded", why, min(map(_rests_since_s, resting)), first.free_s)
    return circuit


def condition_of_provider(health: ProviderHealth, calls: int, failures: int, now_s: float) -> Condition:
    """Tell how a provider does.

    Args:
        calls: in the last minutes, since an operator had it judged anew; of these `failures` failed.
    """
    circuit = _condition_of_whole(health, now_s)
    if circuit.state not in ("ok", "degraded"):
        return circuit
    models = [(lane, condition_of_model(health, lane, now_s)) for lane in health.lanes()]
    out = [each for each in models if each[1].state in OUT]
    if out and not any(_is_asked(lane, now_s) for lane, condition in models if condition.state not in OUT):
        return _all_out(out)
    if calls >= LEAST_CALLS and failures * 2 > calls:
        left_out = f"; {_told(out)}" if out else ""
        return Condition("failing", f"{failures} of {calls} calls failed in the last minutes{left_out}")
    if circuit.state == "degraded":
        return circuit
    if worse := out + [each for each in models if each[1].state == "degraded"]:
        condition = worse[0][1]
        return Condition("degraded", _told(worse), condition.since_s, condition.until_s)
    return circuit if calls else Condition("unknown", NOT_CALLED, circuit.since_s)


def models_left_out(health: ProviderHealth, now_s: float) -> str:
    """Tell which models of a provider may not be asked, and why; empty if there is none."""
    models = [(lane, condition_of_model(health, lane, now_s)) for lane in health.lanes()]
    return _told([each for each in models if each[1].state in OUT])


def model_rows(health: ProviderHealth, when: When, now_s: float) -> list[JsonObject]:
    """List the models that were asked for, the worst first, at most `MOST_SHOWN`.

    Returns:
        `[{"model": str | None, "state", "why": str | None, "since", "until", "timeToFirstByteMs": {"p50", "p95"},
        "latencyMs": {"p50", "p95"}}]`; times are of the last half to whole minute.
    """
    whole = _condition_of_whole(health, now_s)
    if whole.state in ("ok", "degraded"):
        found = [(condition_of_model(health, lane, now_s), lane) for lane in health.lanes()]
    else:
        of_all = replace(whole, why=f"the whole provider: {whole.why}")
        found = [(of_all, lane) for lane in health.lanes()]
    found.sort(key=lambda each: (ORDER.index(each[0].state), not _is_asked(each[1], now_s), each[1].model or ""))
    return [
        {
            "model": lane.model,
            **shown(condition, when, until="until"),
            "timeToFirstByteMs": _recent(lane.first_bytes.streams, now_s),
            "latencyMs": _recent(lane.durations, now_s),
        }
        for condition, lane in found[:MOST_SHOWN]
    ]


def shown(condition: Condition, when: When, *, until: str) -> JsonObject:
    """Write a condition as JSON; `until` names its last field."""
    return {
        "state": condition.state,
        "why": condition.why or None,
        "since": when(condition.since_s),
        until: when(condition.until_s),
    }


# -- circuits ----------------------------------------------------------------------------------------------------------


def _condition_of_whole(health: ProviderHealth, now_s: float) -> Condition:
    """Tell what an operator and the provider's own circuit say: all models share it."""
    if health.drained_s is not None:
        return Condition("drained", "drained by an operator", health.drained_s)
    return _condition_of_circuit(health.breaker, health, now_s)


def _condition_of_circuit(breaker: Breaker, health: ProviderHealth, now_s: float) -> Condition:
    since_s, why = breaker.since_s or None, breaker.reason or ""
    if breaker.state != "closed":
        if health.awaits_probe:
            return Condition(breaker.state, f"{why}; the proxy itself probes it (activeProbe)", since_s)
        if breaker.admits(now_s):
            return Condition(breaker.state, f"{why}; its next request tries it out", since_s, now_s)
        if breaker.state == "half_open":
            return Condition("half_open", f"{why}; a request is trying it out", since_s)
        return Condition("open", why, since_s, max(breaker.until_s, now_s))
    if (share := breaker.share(now_s)) < 1.0:
        until_s = breaker.since_s + breaker.settings.slow_start
        return Condition("degraded", f"coming back, with {share:.0%} of its share: {why}", since_s, until_s)
    return Condition("ok", "", since_s)


def _all_out(out: list[tuple[Lane, Condition]]) -> Condition:
    """Tell of a provider none of whose models in use may be asked, by the one that comes back first."""
    lane, first = min(out, key=lambda each: (each[1].state != "half_open", each[1].until_s or float("inf")))
    others = "" if len(out) == 1 else f"none of the {len(out)} models in use can be asked; "
    since = [condition.since_s for _, condition in out if condition.since_s is not None]
    return Condition(first.state, f"{others}{_named(lane)}: {first.why}", max(since, default=None), first.until_s)


def _told(models: list[tuple[Lane, Condition]]) -> str:
    if not models:
        return ""
    lane, condition = models[0]
    more = f"; and {len(models) - 1} more of its models" if len(models) > 1 else ""
    return f"{_named(lane)}: {condition.why}{more}"


def _is_asked(lane: Lane, now_s: float) -> bool:
    """Whether anybody asked for it lately."""
    return not lane.breaker.is_calm or lane.first_bytes.quantile(0.5, now_s) is not None


def _rests_since_s(key: Key) -> float:
    return key.quota_s if key.free_s == key.used_up_until_s else key.cooled_s


def _named(lane: Lane) -> str:
    return "requests that name no model" if lane.model is None else f"model {lane.model[:100]}"


def _recent(times: Recent | RecentOfBoth, now_s: float) -> JsonObject:
    values = {name: times.quantile(share, now_s) for name, share in (("p50", 0.5), ("p95", 0.95))}
    return {name: None if value_s is None else round(value_s * 1000, 1) for name, value_s in values.items()}
