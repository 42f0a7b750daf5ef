"""What operators see of the limits, ask about them, and forget of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from plugins.rate_limit.asked import asked, caller_id_of
from plugins.rate_limit.fullest import Fullest, fullest
from plugins.rate_limit.level import Level
from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.refusals import Refusals
from plugins.rate_limit.rule_sets import RuleSet, RuleSets
from plugins.rate_limit.rules import Rule, json_amount, show_period
from plugins.rate_limit.settings import RateLimitConfig
from proxy.callers import Identity
from proxy.errors import ClientError, UnknownPath
from proxy.exchange import Exchange, JsonObject
from proxy.plugin import AdminRequest, AdminRoute

EXPLAINED: Final = ("key", "model", "ip", "inputChars", "maxTokens")
FORGOTTEN: Final = ("rule", "key", "caller")


class Limiter(Protocol):
    """What the admin side needs of the plugin."""

    config: RateLimitConfig
    sets: RuleSets
    refusals: Refusals

    def standing(self) -> JsonObject:
        """Show where is counted, and how full that is."""
        ...

    def buckets(self) -> Fullest:
        """Give what is looked through for the fullest buckets."""
        ...

    def recognise(self, text: str) -> Identity | None:
        """Tell whose virtual key goes by this name or id, or is this in clear."""
        ...

    def received_s(self) -> float:
        """Give the time at which a request would come."""
        ...

    async def levels(self, exchange: Exchange, rules: RuleSet) -> list[Level]:
        """Tell what a request would find, and take nothing."""
        ...

    async def forget(self, rule: str | None, caller_id: str | None) -> int:
        """Forget what was spent; returns of how many buckets."""
        ...


class Admin:
    """The admin routes."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/rate-limits", self._show, "Rules in force, fullest buckets, who was refused by which."),
            AdminRoute("GET", "/rate-limits/explain", self._explain, "Whether a request would pass, rule by rule."),
            AdminRoute("POST", "/rate-limits/explain", self._explain, "The same, with the key in the body."),
            AdminRoute("POST", "/rate-limits/reset", self._reset, "Forget what was spent: all, or by rule, or caller."),
        ]

    async def _show(self, request: AdminRequest) -> JsonObject:
        limiter = self._limiter
        config, refusals = limiter.config, limiter.refusals
        return {
            "enabled": config.enabled,
            "algorithm": config.algorithm,
            **limiter.standing(),
            "rules": [self._rule(rule) for rule in limiter.sets.general.rules],
            "ownRules": sorted(config.callers),
            "fullest": await fullest(limiter.buckets()),
            "blocked": [blocked.describe() for blocked in reversed(refusals.recent)],
        }

    def _rule(self, rule: Rule) -> JsonObject:
        spec, limit = rule.spec, rule.limit
        return {
            "name": rule.name,
            "allows": rule.describe(),
            "counts": spec.counts,
            "per": list(spec.per),
            "amount": json_amount(limit.amount, spec.counts),
            "burst": json_amount(limit.most, spec.counts),
            "period": show_period(limit.period_us),
            "algorithm": limit.algorithm,
            "mode": "enforce" if rule.is_enforced else "shadow",
            "models": list(spec.models) or ["*"],
            "queueSeconds": spec.queue_us / SECOND_US,
            "buckets": len(rule.meters),
            "admitted": int(rule.admitted.value),
            "refused": int(rule.refused.value),
        }

    async def _explain(self, request: AdminRequest) -> JsonObject:
        limiter, query = self._limiter, _query(request)
        _check([name for name in query if not name.startswith("header.")], (*EXPLAINED, "header.NAME"))
        caller_id, identity = await self._caller(query.get("key"))
        if caller_id is None and "ip" not in query:  # who asks, as the request would come without a key
            caller_id = f"peer:{request.peer}"
        exchange = asked(query, caller_id, limiter.received_s(), identity)
        levels = await limiter.levels(exchange, limiter.sets.of(exchange))
        holding = [level for level in levels if level.rule.is_enforced and level.wait_us]
        longest = max(holding, key=lambda level: level.wait_us, default=None)
        return {
            "caller": exchange.caller_id,
            "model": exchange.request.model,
            "wouldPass": longest is None,
            "refusedBy": None if longest is None else longest.rule.name,
            "waitSeconds": 0.0 if longest is None else longest.describe()["waitSeconds"],
            "rules": [level.describe() for level in levels],
        }

    async def _reset(self, request: AdminRequest) -> JsonObject:
        query = _query(request)
        _check(query, FORGOTTEN)  # one that means nothing here could have been meant to spare the others
        if "key" in query and "caller" in query:
            raise ClientError("?key and ?caller are two words for the same: give one of them")
        rule, key = query.get("rule"), query.get("key", query.get("caller"))
        names = {each.name for each in self._limiter.buckets().rules}
        if rule is not None and rule not in names:
            raise UnknownPath(f"there is no rule {rule[:64]!a}; there are {', '.join(sorted(names)) or 'none'}")
        caller_id, _ = await self._caller(key)
        return {"forgotten": await self._limiter.forget(rule, caller_id), "rule": rule, "caller": caller_id}

    async def _caller(self, text: str | None) -> tuple[str | None, Identity | None]:
        """Find whom an operator names: an id, and who that is where a plugin knows; both None for nobody."""
        if text is None:
            return None, None
        if not text:
            raise ClientError("?key: is empty")  # a variable that was not set: all callers are not meant
        identity = self._limiter.recognise(text)
        if identity is not None:
            return f"key:{identity.id}", identity
        return await caller_id_of(text, self._limiter.buckets().caller_shown_as), None


def _query(request: AdminRequest) -> Mapping[str, str]:
    """Read parameters from the query and from the body, where no history keeps them."""
    body: Any = request.body  # Any: the caller's JSON
    if body is None:
        return request.query
    if not isinstance(body, dict):
        raise ClientError("the body is an object")
    for name, value in body.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ClientError(f"{name[:50]!a}: is text or a whole number")
    return {**request.query, **{name: str(value) for name, value in body.items()}}


def _check(names: Iterable[str], known: Sequence[str]) -> None:
    """Raise ClientError for a parameter that is not known."""
    for name in names:
        if name not in known:
            raise ClientError(f"?{name[:50]!a}: is not known here; there are {', '.join(known)}")
