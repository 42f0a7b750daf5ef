"""Several keys of one provider: which is used next, and which are left alone for how long."""

import math
from collections.abc import Collection, Sequence
from typing import Any, Final

from proxy.redaction import mask_of
from proxy.routing.quota import Quota

LIMITED_S: Final = 1.0
"""Cooldown after a 429 that names no time; doubled while it goes on."""
MOST_LIMITED_S: Final = 60.0
REFUSED_S: Final = 10.0
"""Cooldown after a 401 or 403; doubled while it goes on."""
MOST_REFUSED_S: Final = 600.0
MAX_DOUBLINGS: Final = 32
LIMITED: Final = "rate limit"
TOLD_WHEN: Final = "rate limit, and the provider said when to come back"
REFUSED: Final = "the provider refused the key"
USED_UP: Final = "nothing is left until the limit starts anew"
QUOTA_EVERY_S: Final = 0.25
"""How often the headers of a provider that is far from its limits are read: it takes 8 to 15 us."""
FEW_REQUESTS: Final = 100
FEW_TOKENS: Final = 200_000
"""At or below either of them every response is read."""


class Key:
    """One credential of a provider, and what is known of it. Equal to itself only.

    All times are on the monotonic clock; minus infinity is never.

    Args:
        text: the credential itself; nothing but the request to the provider may show it.
        mask: what people see in its place, unique in its pool.
    """

    name: str | None
    """Its mask where it is one of several, None where there is no choice."""
    limits: int
    """Cooldowns after a 429 since the last success."""
    refusals: int
    """Cooldowns after a 401 or 403 since the last success."""
    hard_until_s: float
    """Until then the provider does not want to hear of it, and said so."""
    limited_until_s: float
    refused_until_s: float
    used_up_until_s: float
    free_s: float
    """The latest of the four: from then on it is usable."""
    cooled_s: float
    """When the last cooldown began."""
    reason: str | None
    """Why it was left alone last."""
    quota: Quota | None
    quota_s: float
    """When `quota` was read."""
    quota_due_s: float
    """Before that nobody needs to read the rate-limit headers of its responses."""

    __slots__ = (
        "cooled_s",
        "free_s",
        "hard_until_s",
        "limited_until_s",
        "limits",
        "mask",
        "name",
        "quota",
        "quota_due_s",
        "quota_s",
        "reason",
        "refusals",
        "refused_until_s",
        "text",
        "used_up_until_s",
    )

    def __init__(self, text: str, mask: str) -> None:
        self.text = text
        self.mask = mask
        self.name = None
        self.forget()

    def forget(self) -> None:
        """Forget everything that was learned about it."""
        self.limits = self.refusals = 0
        self.hard_until_s = self.limited_until_s = self.refused_until_s = self.used_up_until_s = -math.inf
        self.free_s = self.cooled_s = -math.inf
        self.reason = None
        self.quota = None
        self.quota_s = self.quota_due_s = -math.inf

    def __repr__(self) -> str:
        return f"Key({self.mask})"

    def is_to_be_noted(self, now_s: float) -> bool:
        """Tell whether a success with it changes anything: it has had failures, or its quota is to be read again."""
        return now_s >= self.quota_due_s or self.limits > 0 or self.refusals > 0

    def note_quota(self, quota: Quota, now_s: float) -> None:
        """Keep what a response said is left."""
        requests, tokens = quota.requests_left, quota.tokens_left
        self.quota, self.quota_s = quota, now_s
        is_short = (requests is not None and requests <= FEW_REQUESTS) or (tokens is not None and tokens <= FEW_TOKENS)
        self.quota_due_s = now_s if is_short else now_s + QUOTA_EVERY_S
        until_s = -math.inf
        if requests == 0 and quota.requests_reset_s is not None:
            until_s = now_s + quota.requests_reset_s
        if tokens == 0 and quota.tokens_reset_s is not None:
            until_s = max(until_s, now_s + quota.tokens_reset_s)
        if until_s != self.used_up_until_s:
            self.used_up_until_s = until_s
            self.settle()

    def settle(self) -> None:
        """Work out `free_s` anew."""
        self.free_s = max(self.hard_until_s, self.limited_until_s, self.refused_until_s, self.used_up_until_s)


class KeyPool:
    """The keys of one provider, used in turn; `now_s` is the monotonic clock in seconds.

    Args:
        texts: the credentials, in the order of the configuration; one that stands there twice counts once.
    """

    __slots__ = ("_next", "keys")

    def __init__(self, texts: Sequence[str]) -> None:
        self.keys: tuple[Key, ...] = ()
        self._next = 0
        self.resettle(texts)

    def __repr__(self) -> str:
        return f"KeyPool({', '.join(key.mask for key in self.keys)})"

    # -- choosing ---------------------------------------------------------------------------------------------------

    def choose(self, now_s: float, tried: Collection[Key] = ()) -> Key | None:
        """Take the next key that is usable: not cooling down, not used up, and not among `tried`."""
        keys, index = self.keys, self._next
        if len(keys) == 1 and not tried:  # as nearly always
            return keys[0] if keys[0].free_s <= now_s else None
        for _ in keys:
            key = keys[index]
            index = index + 1 if index + 1 < len(keys) else 0
            if key.free_s <= now_s and key not in tried:
                self._next = index
                return key
        return None

    def last_resort(self, now_s: float, tried: Collection[Key] = ()) -> Key | None:
        """Take the key that is usable again first, when none is and there is nobody else to ask.

        Never one whose provider said when to come back, before that time.
        """
        asked = [key for key in self.keys if key.hard_until_s <= now_s and key not in tried]
        return min(asked, key=lambda key: key.free_s, default=None)

    def has_usable(self, now_s: float, tried: Collection[Key] = ()) -> bool:
        """Tell whether `choose` would find a key; takes none."""
        for key in self.keys:  # noqa: SIM110 (a generator in `any` costs three times as much)
            if key.free_s <= now_s and key not in tried:
                return True
        return False

    def why(self, key: Key, now_s: float) -> str:
        """Tell in words why a key is left alone."""
        return str(_describe(key, now_s)["reason"])

    def soonest_s(self, now_s: float) -> float | None:
        """Return the seconds until `choose` finds a key, 0.0 if there is one now; None without keys.

        One that was refused does not get better by itself: it counts only where all were.
        """
        if not self.keys:
            return None
        recovering = [key.free_s for key in self.keys if key.refused_until_s <= now_s]
        return max(min(recovering or [key.free_s for key in self.keys]) - now_s, 0.0)

    # -- what became of it ------------------------------------------------------------------------------------------

    def used(self, key: Key, now_s: float, began_s: float, quota: Quota | None) -> None:
        """Note a success: the next cooldown is the shortest again.

        Args:
            began_s: when the attempt began. One that began in the middle of a soft cooldown, as a last resort, ends
                it; one that began before the cooldown says nothing about it.
            quota: what its response said; None if nothing, or if it was not read because `key.quota_due_s` is to come.
        """
        if (key.limits or key.refusals) and began_s > key.cooled_s:
            key.limits = key.refusals = 0
            key.limited_until_s = key.refused_until_s = -math.inf
            key.settle()
        if quota is not None:
            key.note_quota(quota, now_s)
        elif now_s >= key.quota_due_s:
            key.quota_due_s = now_s + QUOTA_EVERY_S

    def limited(self, key: Key, now_s: float, retry_after_s: float | None, quota: Quota | None = None) -> None:
        """Note a 429: hard until the time the provider named, else soft and longer each time.

        What comes while it is cooling down was sent before, most likely: it makes nothing longer.

        Args:
            retry_after_s: as `quota.retry_after_s` reads it; 0.0 counts as none.
            quota: what the response said is left.
        """
        if now_s >= max(key.hard_until_s, key.limited_until_s):
            key.limits += 1
            key.cooled_s = now_s
            if not retry_after_s:
                key.limited_until_s = now_s + _grown_s(LIMITED_S, key.limits, MOST_LIMITED_S)
                key.reason = LIMITED
        if retry_after_s:
            key.hard_until_s = max(key.hard_until_s, now_s + retry_after_s)
            key.reason = TOLD_WHEN
        key.settle()
        if quota is not None:
            key.note_quota(quota, now_s)

    def refused(self, key: Key, now_s: float) -> None:
        """Note a 401 or 403: soft, and longer each time, but not while it is cooling down for that already."""
        if now_s >= key.refused_until_s:
            key.refusals += 1
            key.cooled_s = now_s
            key.refused_until_s = now_s + _grown_s(REFUSED_S, key.refusals, MOST_REFUSED_S)
            key.reason = REFUSED
            key.settle()

    # -- operators --------------------------------------------------------------------------------------------------

    def resettle(self, texts: Sequence[str]) -> None:
        """Take a changed list over; keys that stay keep what is known of them, and their masks."""
        known = {key.text: key for key in self.keys}
        wanted = dict.fromkeys(texts)
        masks = {key.mask for text, key in known.items() if text in wanted}
        keys = []
        for text in wanted:
            key = known.get(text)
            if key is None:
                key = Key(text, _free_mask(text, masks))
                masks.add(key.mask)
            key.name = key.mask if len(wanted) > 1 else None
            keys.append(key)
        self.keys = tuple(keys)
        self._next = self._next % len(keys) if keys else 0

    def reset(self) -> None:
        """Forget all cooldowns and quotas."""
        for key in self.keys:
            key.forget()

    def describe(self, now_s: float) -> list[dict[str, Any]]:  # Any: JSON
        """Describe the keys, ready for JSON.

        Returns:
            `[{"key": mask, "state": "ok" | "cooling" | "refused" | "used_up", "untilS": float | None,
            "reason": str | None, "failures": int, "remainingRequests": int | None, "remainingTokens": int | None,
            "quotaAgeS": float | None}]`; `untilS` counts from now, `failures` are those in a row. What the provider
            said is left is told until its limit starts anew.
        """
        return [_describe(key, now_s) for key in self.keys]


def _describe(key: Key, now_s: float) -> dict[str, Any]:  # Any: JSON
    state, reason = "ok", None
    if key.refused_until_s > now_s:
        state, reason = "refused", REFUSED
    elif key.hard_until_s > now_s:
        state, reason = "cooling", TOLD_WHEN
    elif key.limited_until_s > now_s:
        state, reason = "cooling", LIMITED
    elif key.used_up_until_s > now_s:
        state, reason = "used_up", USED_UP
    quota, age_s = key.quota or Quota(), now_s - key.quota_s
    requests = quota.requests_left if age_s < _or_ever(quota.requests_reset_s) else None
    tokens = quota.tokens_left if age_s < _or_ever(quota.tokens_reset_s) else None
    return {
        "key": key.mask,
        "state": state,
        "untilS": None if state == "ok" else round(key.free_s - now_s, 3),
        "reason": reason,
        "failures": key.limits + key.refusals,
        "remainingRequests": requests,
        "remainingTokens": tokens,
        "quotaAgeS": None if requests is None and tokens is None else round(now_s - key.quota_s, 3),
    }


def _or_ever(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def _grown_s(first_s: float, times: int, most_s: float) -> float:
    return min(first_s * 2.0 ** min(times - 1, MAX_DOUBLINGS), most_s)


def _free_mask(text: str, taken: Collection[str]) -> str:
    plain = mask_of(text)
    mask, number = plain, 1
    while mask in taken:
        number += 1
        mask = f"{plain}#{number}"
    return mask
