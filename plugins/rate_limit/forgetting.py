"""Forgetting what was spent, by an operator's word."""

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from plugins.rate_limit.rules import Rule

DROPPED: Final = 500
"""Buckets that are dropped before others have their turn."""


async def forget(rules: Iterable[Rule], name: str | None, caller_id: str | None) -> int:
    """Forget what was spent under rules.

    What is in work at once is not spent, and goes on being counted.

    Args:
        name: of one rule; None for all.
        caller_id: whose; None for everybody.
    Returns:
        How many buckets went.
    """
    count = 0
    for rule in rules:
        if name not in (None, rule.name) or rule.counts == "concurrent":
            continue
        count += await (_of_all(rule) if caller_id is None else _of_caller(rule, caller_id))
    return count


async def _of_all(rule: Rule) -> int:
    rule.table.shared = None
    return await _drop(rule, list(rule.meters))


async def _of_caller(rule: Rule, caller_id: str) -> int:
    per = rule.spec.per
    if per == ("caller",):
        return rule.table.drop(caller_id)
    if "caller" not in per:
        return 0
    place = per.index("caller")
    keys = [key for key in rule.meters if isinstance(key, tuple) and key[place] == caller_id]
    return await _drop(rule, keys)


async def _drop(rule: Rule, keys: Sequence[Hashable]) -> int:
    count = 0
    for place, key in enumerate(keys, 1):
        count += rule.table.drop(key)
        if place % DROPPED == 0:
            await asyncio.sleep(0)
    return count
