"""What clients are told of their limits with every answer, in the IETF's headers, the older ones, and the vendors'."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from plugins.rate_limit.limit import SECOND_US
from plugins.rate_limit.plain import GENERAL, OPENAI, written_time
from plugins.rate_limit.rules import Rule
from proxy.callers import Counted

POLICY_UNITS: Final[dict[Counted, bytes]] = {
    "requests": b"",
    "inputTokens": b';qu="input-tokens"',
    "outputTokens": b';qu="output-tokens"',
    "totalTokens": b';qu="tokens"',
    "costUsd": b';qu="micro-usd"',
    "concurrent": b';qu="concurrent-requests"',
}

NANOS_PER_MICRO: Final = 1000

OPENAI_TOKENS: Final[tuple[Counted, ...]] = ("totalTokens", "inputTokens", "outputTokens")

ANTHROPIC_NAMES: Final[dict[Counted, bytes]] = {
    "requests": b"requests",
    "totalTokens": b"tokens",
    "inputTokens": b"input-tokens",
    "outputTokens": b"output-tokens",
}


class State(NamedTuple):
    """What is left of one rule.

    Args:
        reset_s: until all of it is there again, rounded up.
    """

    rule: Rule
    left: int
    reset_s: int


def policy_line(rules: Iterable[Rule]) -> bytes:
    """Write which limits are in force; empty where none is told.

    Source:
        draft-ietf-httpapi-ratelimit-headers-10, 3: `q` is the quota, `w` its window in seconds, `qu` what it counts.
    """
    policies = [_policy(rule) for rule in rules if rule.is_enforced]
    return b"RateLimit-Policy: %b\r\n" % b", ".join(policies) if policies else b""


def _policy(rule: Rule) -> bytes:
    scale = NANOS_PER_MICRO if rule.counts == "costUsd" else 1
    window = b""
    if rule.counts != "concurrent":
        window = b";w=%d" % max(rule.limit.period_us // SECOND_US, 1)
    quota = max(rule.limit.amount // scale, 1)
    return b'"%b";q=%d%b%b' % (rule.name.encode("ascii"), quota, POLICY_UNITS[rule.counts], window)


def limit_lines(policy: bytes, states: list[State], format_name: str, wall_s: float) -> bytes:
    """Write what is left, each line with its CRLF.

    Args:
        policy: from `policy_line`.
        states: of all rules that are told.
        format_name: of the client: openai and anthropic have names of their own.
        wall_s: seconds since 1970.
    """
    items = []
    tightest: State | None = None
    is_mixed = False
    for state in states:
        rule, left, reset_s = state
        if rule.is_plain:
            if tightest is None or left < tightest.left:
                tightest = state
        else:
            is_mixed = True
            if rule.counts == "costUsd":
                left //= NANOS_PER_MICRO
        items.append(rule.item % (left, reset_s))
    lines = b"%bRateLimit: %b\r\n" % (policy, b", ".join(items))
    if tightest is not None:
        figures = (tightest.rule.limit.amount, tightest.left, tightest.reset_s)
        lines += GENERAL % figures
        if format_name == "openai":
            lines += OPENAI % figures
    if format_name == "anthropic":
        return lines + _anthropic_lines(states, wall_s)
    if is_mixed and format_name == "openai":
        return lines + _openai_token_lines(states)
    return lines


def _openai_token_lines(states: list[State]) -> bytes:
    state = _tightest(states, OPENAI_TOKENS)
    if state is None:
        return b""
    return b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %ds\r\n" % (
        state.rule.limit.amount,
        state.left,
        state.reset_s,
    )


def _anthropic_lines(states: list[State], wall_s: float) -> bytes:
    lines = []
    for counts, name in ANTHROPIC_NAMES.items():
        if (state := _tightest(states, (counts,))) is not None:
            prefix = b"anthropic-ratelimit-" + name
            reset = written_time(wall_s + state.reset_s)
            figures = (prefix, state.rule.limit.amount, prefix, state.left, prefix, reset)
            lines.append(b"%b-limit: %d\r\n%b-remaining: %d\r\n%b-reset: %b\r\n" % figures)
    return b"".join(lines)


def _tightest(states: list[State], kinds: tuple[Counted, ...]) -> State | None:
    """Find the rule of which the least is left."""
    found = [state for state in states if state.rule.counts in kinds]
    return min(found, key=lambda state: state.left, default=None)
