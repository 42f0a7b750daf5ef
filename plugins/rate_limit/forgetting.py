"""Forgetting what was spent, by an operator's word."""

import asyncio
from collections.abc import Hashable, Iterable
from typing import Final

from plugins.rate_limit.rules import Rule

LOOKED_AT: Final = 500
"""Buckets that are looked at before others have their turn."""


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
        count += rule.table.clear() if caller_id is None else await _of_caller(rule, caller_id)
    return count


async def _of_caller(rule: Rule, caller_id: str) -> int:
    per = rule.spec.per
    if per == ("caller",):
        return rule.table.drop(caller_id)
    if "caller" not in per:
        return 0
    place, count = per.index("caller"), 0
    keys: list[Hashable] = list(rule.meters)
    for number, key in enumerate(keys, 1):
        if isinstance(key, tuple) and key[place] == caller_id:
            count += rule.table.drop(key)
        if number % LOOKED_AT == 0:
            await asyncio.sleep(0)
    return count
