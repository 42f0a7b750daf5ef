"""Limits of a key as operators write them, `requestsPerMinute: 60`, and as whoever limits takes them."""

import re
from collections.abc import Mapping
from typing import Final, cast

from proxy.callers import Allowance, Counted

SECONDS: Final = {"Second": 1.0, "Minute": 60.0, "Hour": 3600.0, "Day": 86_400.0}
CONCURRENT: Final = "concurrent"
NAME: Final = re.compile(
    rf"(requests|inputTokens|outputTokens|totalTokens|costUsd)Per({'|'.join(SECONDS)})|{CONCURRENT}"
)


def allowances(limits: Mapping[str, float]) -> tuple[Allowance, ...]:
    """Translate limits; their names are valid."""
    return tuple(_allowance(name, amount) for name, amount in limits.items())


def _allowance(name: str, amount: float) -> Allowance:
    if name == CONCURRENT:
        return Allowance(CONCURRENT, amount, 0.0)
    counts, _, per = name.partition("Per")
    return Allowance(cast("Counted", counts), amount, SECONDS[per])
