"""How the keys of a provider do, over all its models: for operators, with masks in place of the keys."""

from typing import Any, Final

from proxy.exchange import JsonObject
from proxy.routing.health import ProviderHealth
from proxy.routing.state import MOST_SHOWN, When

WORST_FIRST: Final = ("refused", "used_up", "cooling", "ok")

Use = tuple[str | None, dict[str, Any]]
"""A model, and how the key does for it; Any: JSON of `KeyPool.describe`."""


def key_rows(health: ProviderHealth, when: When, now_s: float) -> list[JsonObject]:
    """List the keys, each as it is where it does worst: vendors limit a key for each model by itself.

    Returns:
        `[{"key": mask, "state": "ok" | "cooling" | "used_up" | "refused", "reason", "until", "models": [those for which
        it rests, the worst first], "failures": int, "remainingRequests": int | None, "remainingTokens": int | None,
        "quotaModel": the model of which the provider said so, "quotaAt"}]`.
    """
    uses: dict[str, list[Use]] = {key.text: [] for key in health.keys.keys}
    for lane in health.lanes():
        if lane.keys is not None:
            for key, found in zip(lane.keys.keys, lane.keys.describe(now_s), strict=True):
                uses.setdefault(key.text, []).append((lane.model, found))
    fresh = health.keys.describe(now_s)
    return [_row(unused, used, when, now_s) for unused, used in zip(fresh, uses.values(), strict=False)]


def _row(unused: dict[str, Any], uses: list[Use], when: When, now_s: float) -> JsonObject:  # Any: as in Use
    uses = sorted(uses, key=_badness)
    worst = uses[0][1] if uses else unused
    told = [use for use in uses if use[1]["quotaAgeS"] is not None]
    model, quota = min(told, key=_what_is_left, default=(None, unused))
    until_s, age_s = worst["untilS"], quota["quotaAgeS"]
    return {
        "key": worst["key"],
        "state": worst["state"],
        "reason": worst["reason"],
        "until": None if until_s is None else when(now_s + until_s),
        "models": [name for name, found in uses if found["state"] != "ok"][:MOST_SHOWN],
        "failures": worst["failures"],
        "remainingRequests": quota["remainingRequests"],
        "remainingTokens": quota["remainingTokens"],
        "quotaModel": model,
        "quotaAt": None if age_s is None else when(now_s - age_s),
    }


def _badness(use: Use) -> tuple[int, float]:
    return WORST_FIRST.index(use[1]["state"]), -(use[1]["untilS"] or 0.0)


def _what_is_left(use: Use) -> tuple[float, float]:
    left = use[1]["remainingRequests"], use[1]["remainingTokens"]
    return float("inf") if left[0] is None else left[0], float("inf") if left[1] is None else left[1]
