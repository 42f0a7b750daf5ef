"""A request that is not made: who would be asked for it, in which order, and why the others would not."""

from collections.abc import Callable, Sequence
from typing import Final

from orjson import dumps

from proxy.errors import TranslationUnsupported, UnknownModel
from proxy.exchange import Candidate, Exchange, JsonObject
from proxy.formats.registry import translates_to
from proxy.reload.generation import Generation
from proxy.routing.explain import Moment, Prospect, Verdict, left_out, prospect_of, rows, verdict_of
from proxy.routing.policy import Policy
from proxy.routing.state import When

NOBODY_ENABLED: Final = Verdict(
    None, "nobody is asked: every provider that has the model is disabled, and a client gets 404 model_not_found"
)

Choose = Callable[[Generation, Exchange], Sequence[Candidate]]
"""Finds and orders the candidates of an exchange."""


def explain(exchange: Exchange, generation: Generation, choose: Choose, *, when: When, now_s: float) -> JsonObject:
    """Tell who would be asked now. Nobody is, and nothing changes.

    Args:
        exchange: with `is_dry_run`; its request names a model.
    Returns:
        `{"model", "format", "summary", "first": "provider/model" | None, "panic": bool, "candidates": [rows],
        "fallbacks": [rows], "notCandidates": [{"provider", "why"}], "balancer": as it notes, "policy": {...}}`; for
        the rows see `routing.explain`. Where all who have the model are disabled, nobody is asked; a request gets 404.
    Raises:
        ProxyError: as a request would get it.
    """
    request = exchange.request
    model, format_name = request.model or "", request.operation.format
    disabled = generation.candidates.disabled(model)
    chosen: Sequence[Candidate] = ()
    try:
        chosen = choose(generation, exchange)
    except UnknownModel:
        if not disabled:
            raise
    balancer = exchange.notes.get("balancer")
    policy = generation.policies.of(model)
    prospects = _prospects(chosen, generation, now_s)
    fallbacks = _prospects(_fallbacks(exchange, generation, policy, chosen), generation, now_s) if chosen else []
    verdict = verdict_of(prospects, fallbacks) if chosen else NOBODY_ENABLED
    moment = Moment(now_s, when, request.is_streaming)
    unchosen = [one for one in exchange.rivals if one not in chosen]
    return {
        "model": model,
        "format": format_name,
        "summary": verdict.summary,
        "first": None if verdict.first is None else verdict.first.name,
        "panic": verdict.is_panic,
        "candidates": [
            *rows(prospects, verdict, policy, moment),
            *left_out(unchosen, _why_unchosen(policy), moment),
            *(row for one in disabled for row in left_out((one,), _why_disabled(one), moment, cause="disabled")),
        ],
        "fallbacks": rows(fallbacks, verdict, policy, moment, before=sum(one.absence is None for one in prospects)),
        "notCandidates": [
            {"provider": name, "why": why}
            for name, why in generation.candidates.passed_over(model, format_name, translates_to(format_name)).items()
        ],
        "balancer": balancer,
        "policy": _as_json(policy),
    }


def _why_disabled(candidate: Candidate) -> str:
    patch = dumps({"providers": {candidate.provider: {"enabled": True}}}).decode()
    return f"disabled: providers.{candidate.provider}.enabled is false; PATCH /config with {patch} enables it"


def _why_unchosen(policy: Policy) -> str:
    if policy.is_failover_on:
        return "left out by the balancer, or by another plugin that chooses"
    return "somebody else is first, and failover is off (enableFallbackProviders, failover.models)"


def _prospects(candidates: Sequence[Candidate], generation: Generation, now_s: float) -> list[Prospect]:
    return [prospect_of(one, generation.health[one.provider], now_s) for one in candidates]


def _fallbacks(
    exchange: Exchange, generation: Generation, policy: Policy, chosen: Sequence[Candidate]
) -> Sequence[Candidate]:
    """List who is asked after all candidates, as `Journey` does."""
    if not policy.is_failover_on:
        return ()
    format_name = exchange.request.operation.format
    known = {(one.provider, one.model) for one in chosen}
    found: list[Candidate] = []
    for name in policy.fallbacks:
        try:
            more = generation.candidates.find(name, format_name, translates_to(format_name))
        except (UnknownModel, TranslationUnsupported):
            continue
        for one in generation.host.dispatch.select(exchange, more):
            if (one.provider, one.model) not in known:
                known.add((one.provider, one.model))
                found.append(one)
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
