"""Who is much slower than its rivals: left out for a while, never the last one."""

from collections.abc import Collection, Sequence
from statistics import median
from typing import Final

from proxy.config.routing_models import BreakerSettings
from proxy.routing.lane import Lane

LOOK_EVERY_S: Final = 1.0
LEAST_EXCESS_S: Final = 1.0
"""Slower by less than this is no reason, whatever the factor."""


def judge_lanes(
    lanes: Sequence[Lane], settings: BreakerSettings, now_s: float, *, absent: Collection[Lane] = ()
) -> None:
    """Compare the usual time to first byte of rivals, at most once a second, and leave out who is far behind.

    Args:
        lanes: of all candidates of one request; of those at most one is left out at a time, and never all.
        absent: those of them that are left out already: how quick they were is no reason to leave out the others too.
    """
    if len(lanes) < 2 or not settings.enabled or now_s < lanes[0].judged_at_s + LOOK_EVERY_S:
        return
    lanes[0].judged_at_s = now_s
    if any(lane.slow_until_s > now_s for lane in lanes):
        return
    rivals = [lane for lane in lanes if lane not in absent]
    for is_streaming in (True, False):
        if (found := _slowest(rivals, settings, now_s, is_streaming=is_streaming)) is not None:
            lane, reason = found
            lane.slow_until_s = now_s + settings.window
            lane.slow_reason = reason
            lane.forget_times()
            return


def _slowest(
    lanes: Sequence[Lane], settings: BreakerSettings, now_s: float, *, is_streaming: bool
) -> tuple[Lane, str] | None:
    """Find who is far behind its rivals with streams or with whole replies, and say it in words."""
    least = settings.min_requests
    usual = [(lane.first_bytes.quantile(0.5, now_s, least=least, is_streaming=is_streaming), lane) for lane in lanes]
    seen = [(value_s, lane) for value_s, lane in usual if value_s is not None]
    for value_s, lane in seen:
        others = [other_s for other_s, other in seen if other is not lane]
        if not others:
            return None
        theirs_s = median(others)
        if value_s > theirs_s * settings.latency_factor and value_s - theirs_s >= LEAST_EXCESS_S:
            what = "streams" if is_streaming else "whole replies"
            return lane, f"usual time to first byte of {what} {value_s:.1f} s, {theirs_s:.1f} s elsewhere"
    return None
