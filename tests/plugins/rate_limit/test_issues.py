"""What an operator is told of a section that is valid and yet not what was meant."""

import re
from pathlib import Path
from typing import Any

import pytest

from plugins.rate_limit.issues import rate_limit_issues
from plugins.rate_limit.settings import RateLimitConfig

DOCS = Path(__file__).parents[3] / "docs/rate-limits.md"
RULE = {"name": "a", "amount": 5}


def issues_of(**section: Any) -> dict[str, str]:
    config = RateLimitConfig.model_validate({"enabled": True, **section})
    return {issue.kind: issue.path for issue in rate_limit_issues(config, has_store=False)}


def test_default_section_has_none() -> None:
    assert issues_of() == {}


@pytest.mark.parametrize(
    ("section", "kind", "path"),
    [
        ({"perHour": "none"}, "rate_limit_without_rules", "rateLimit"),
        ({"store": "shared"}, "rate_limit_store_missing", "rateLimit.store"),
        ({"rules": [{**RULE, "mode": "shadow"}]}, "rate_limit_shadow", "rateLimit.rules.0.mode"),
        (
            {"rules": [RULE, {"name": "b", "amount": 5, "burst": 2, "algorithm": "fixed-window"}]},
            "rate_limit_burst_unused",
            "rateLimit.rules.1.burst",
        ),
        ({"rules": [{**RULE, "per": ["ip"]}]}, "rate_limit_no_trusted_proxies", "rateLimit.trustedProxies"),
        (
            {"rules": [{**RULE, "amount": 20000, "algorithm": "sliding-log"}]},
            "rate_limit_long_log",
            "rateLimit.rules.0.amount",
        ),
    ],
)
def test_issue_names_the_setting(section: dict[str, Any], kind: str, path: str) -> None:
    assert issues_of(**section) == {kind: path}


def test_every_issue_is_documented() -> None:
    source = Path(rate_limit_issues.__code__.co_filename).read_text()

    kinds = set(re.findall(r'"(rate_limit_\w+)"', source))

    assert len(kinds) == 6
    assert kinds <= set(re.findall(r"`(rate_limit_\w+)`", DOCS.read_text()))
