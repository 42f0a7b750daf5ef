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

    def callers(self) -> dict[str, str]:
        """List the ids of callers by what is shown of them, where that is one caller's alone."""
        found: dict[str, str] = {}
        for rule in self.rules:
            if rule.spec.per == ("caller",):
                for key, meter in rule.meters.items():
                    found[meter.label] = "" if meter.label in found and found[meter.label] != key else str(key)
        return found


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
        yield from [(rule, key, meter) for key, meter in rule.meters.items()]
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
