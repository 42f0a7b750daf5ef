"""A request that is not made: who would be asked for it, in which order, and why the others would not."""

from collections.abc import Callable, Sequence
from typing import Final

from orjson import dumps

from proxy.errors import TranslationUnsupported, UnknownModel
from proxy.exchange import Candidate, Exchange, JsonObject
from proxy.formats.registry import translates_to
from proxy.reload.generation import Generation
from proxy.routing.budget import RetryBudget
from proxy.routing.explain import Moment, Verdict, left_out, rows, verdict_of
from proxy.routing.policy import Policy
from proxy.routing.prospects import Prospect, Room, in_turn, prospect_of
from proxy.routing.reach import hindrances, reach_of
from proxy.routing.state import When

NOBODY_ENABLED: Final = Verdict(
    None, "nobody is asked: every provider that has the model is disabled, and a client gets 404 model_not_found"
)

Choose = Callable[[Generation, Exchange], Sequence[Candidate]]
"""Finds and orders the candidates of an exchange."""


def explain(
    exchange: Exchange, generation: Generation, choose: Choose, budget: RetryBudget, *, when: When, now_s: float
) -> JsonObject:
    """Tell who would be asked now. Nobody is, and nothing changes.

    Args:
        exchange: with `is_dry_run`; its request names a model.
        budget: of the process.
    Returns:
        `{"model", "format", "summary", "first": "provider/model" | None, "panic": bool, "candidates": [rows],
        "fallbacks": [rows], "notCandidates": [{"provider", "why"}], "notes": [what keeps failover from helping],
        "balancer": as it notes, "policy": {...}}`; for the rows see `routing.explain`. Where all who have the model
        are disabled, nobody is asked; a request gets 404.
    Raises:
        ProxyError: as a request would get it.
    """
    request = exchange.request
    model, format_name = request.model or "", request.operation.format
    disabled = generation.candidates.disabled(model)
    chosen = _chosen(exchange, generation, choose, may_be_nobody=bool(disabled))
    balancer = exchange.notes.get("balancer")
    policy = generation.policies.of(model)
    prospects = [_prospect(one, generation, now_s) for one in chosen]
    fallbacks = _fallbacks(exchange, generation, policy, chosen, now_s) if chosen else []
    verdict = verdict_of(prospects, fallbacks, policy) if chosen else NOBODY_ENABLED
    reach, well = reach_of(policy, budget), sum(one.is_well for one in prospects)
    others = len(prospects) + len(fallbacks) - 1
    moment = Moment(now_s, when, request.is_streaming)
    unchosen = [one for one in exchange.rivals if one not in chosen]
    return {
        "model": model,
        "format": format_name,
        "summary": verdict.summary,
        "first": None if verdict.first is None else verdict.first.name,
        "panic": verdict.is_panic,
        "candidates": [
            *rows(in_turn(prospects, policy), verdict, reach, moment),
            *left_out(unchosen, _why_unchosen(policy), moment),
            *(row for one in disabled for row in left_out((one,), _why_disabled(one), moment, cause="disabled")),
        ],
        "fallbacks": rows(in_turn(fallbacks, policy), verdict, reach, moment, before=well),
        "notCandidates": [
            {"provider": name, "why": why}
            for name, why in generation.candidates.passed_over(model, format_name, translates_to(format_name)).items()
        ],
        "notes": list(hindrances(policy, budget, generation.settings.failover, model, others)) if chosen else [],
        "balancer": balancer,
        "policy": _as_json(policy),
    }


def _chosen(exchange: Exchange, generation: Generation, choose: Choose, *, may_be_nobody: bool) -> Sequence[Candidate]:
    """Choose as a request does; nobody where it gets `UnknownModel`, if that may be."""
    try:
        return choose(generation, exchange)
    except UnknownModel:
        if not may_be_nobody:
            raise
        return ()


def _why_disabled(candidate: Candidate) -> str:
    patch = dumps({"providers": {candidate.provider: {"enabled": True}}}).decode()
    return f"disabled: providers.{candidate.provider}.enabled is false; PATCH /config with {patch} enables it"


def _why_unchosen(policy: Policy) -> str:
    if policy.is_failover_on:
        return "left out by the balancer, or by another plugin that chooses"
    return "somebody else is first, and failover is off (enableFallbackProviders, failover.models)"


def _prospect(candidate: Candidate, generation: Generation, now_s: float, turn: int = 0) -> Prospect:
    endpoint = generation.endpoints[candidate.provider]
    slots, is_own = endpoint.slots, endpoint.provider.settings.has_own_limit
    room = Room(slots.in_use, slots.limit, slots.waiting, is_own)
    return prospect_of(candidate, generation.health[candidate.provider], now_s, room, turn)


def _fallbacks(
    exchange: Exchange, generation: Generation, policy: Policy, chosen: Sequence[Candidate], now_s: float
) -> list[Prospect]:
    """List who is asked after all candidates, as `Journey` does."""
    if not policy.is_failover_on:
        return []
    format_name = exchange.request.operation.format
    known = {(one.provider, one.model) for one in chosen}
    found: list[Prospect] = []
    for turn, name in enumerate(policy.fallbacks, 1):
        try:
            more = generation.candidates.find(name, format_name, translates_to(format_name))
        except (UnknownModel, TranslationUnsupported):
            continue
        for one in generation.host.dispatch.select(exchange, more):
            if (one.provider, one.model) not in known:
                known.add((one.provider, one.model))
                found.append(_prospect(one, generation, now_s, turn))
    return found


def _as_json(policy: Policy) -> JsonObject:
    """Write a policy under the names of `failover`; times in seconds."""
    return {
        "failover": policy.is_failover_on,
        "on": sorted(policy.kinds),
        "attempts": policy.attempts,
        "deadline": policy.deadline_s,
        "afterExecution": policy.after_execution,
        "backoff": policy.backoff_s,
        "maxWait": policy.max_wait_s,
        "fallbacks": list(policy.fallbacks),
    }
