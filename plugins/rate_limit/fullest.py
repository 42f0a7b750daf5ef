"""The buckets of which the least is left, for operators."""

import asyncio
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.meter import Meter
from plugins.rate_limit.rules import Rule, json_amount

MOST_SHOWN: Final = 20

LOOKED_AT: Final = 500
"""Buckets that are looked at before others have their turn."""


@dataclass(frozen=True, slots=True)
class Fullest:
    """What is looked through.

    Args:
        rules: one for each table.
        now_us: the wall clock.
    """

    rules: list[Rule]
    now_us: Callable[[], int]

    async def caller_shown_as(self, label: str) -> str | None:
        """Find the id of a caller by what is shown of it; None where that is nobody, or not one alone."""
        found: set[str] = set()
        for place, (rule, key, meter) in enumerate(_all(self.rules), 1):
            if meter.label == label and rule.spec.per == ("caller",):
                found.add(str(key))
            if place % LOOKED_AT == 0:
                await asyncio.sleep(0)
        return found.pop() if len(found) == 1 else None


async def fullest(buckets: Fullest) -> list[dict[str, object]]:
    """Show the buckets of which the least is left; a large number of them is looked through bit by bit."""
    found: list[tuple[float, Rule, Hashable, Meter]] = []
    for place, (rule, key, meter) in enumerate(_all(buckets.rules), 1):
        left = meter.remaining(buckets.now_us())
        if left < meter.limit.most:
            found.append((left / meter.limit.most, rule, key, meter))
        if place % LOOKED_AT == 0:
            found = nsmallest(MOST_SHOWN, found, key=lambda each: each[0])
            await asyncio.sleep(0)
    now_us = buckets.now_us()
    return [_show(*each[1:], now_us) for each in nsmallest(MOST_SHOWN, found, key=lambda each: each[0])]


def _all(rules: list[Rule]) -> Iterator[tuple[Rule, Hashable, Meter]]:
    for rule in rules:
        for key in list(rule.meters):  # others may come and go meanwhile
            if (meter := rule.meters.get(key)) is not None:
                yield rule, key, meter
        if rule.table.shared is not None:
            yield rule, "", rule.table.shared


def _show(rule: Rule, key: Hashable, meter: Meter, now_us: int) -> dict[str, object]:
    parts = key if isinstance(key, tuple) else (key,)
    return {
        "rule": rule.name,
        "caller": meter.label,
        "id": " ".join(str(part) for part in parts) or "all",
        "left": json_amount(meter.remaining(now_us), rule.counts),
        "of": json_amount(meter.limit.most, rule.counts),
        "resetSeconds": round(meter.reset_us(now_us) / SECOND_US, 3),
    }
