"""How a rule stands for one request, wherever it is counted."""

from typing import NamedTuple

from plugins.rate_limit.limit import NEVER, SECOND_US
from plugins.rate_limit.rules import Rule, json_amount


class Level(NamedTuple):
    """One rule, and what a request would find there.

    Args:
        wait_us: 0 if there is room.
    """

    rule: Rule
    amount: int
    wait_us: int
    left: int
    reset_us: int

    def describe(self) -> dict[str, object]:
        """Show it under its names in JSON; cost in US dollars."""
        rule = self.rule
        is_never = self.wait_us >= NEVER
        return {
            "rule": rule.name,
            "allows": rule.describe(),
            "mode": "enforce" if rule.is_enforced else "shadow",
            "takes": json_amount(self.amount, rule.counts),
            "left": json_amount(self.left, rule.counts),
            "resetSeconds": round(self.reset_us / SECOND_US, 3),
            "hasRoom": self.wait_us == 0,
            "waitSeconds": None if is_never else round(self.wait_us / SECOND_US, 3),
        }
