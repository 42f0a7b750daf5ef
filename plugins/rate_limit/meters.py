"""Which class counts by which algorithm, and how one goes on from what another has counted."""

from collections.abc import Mapping
from typing import Final

from plugins.rate_limit.bucket import Bucket
from plugins.rate_limit.in_work import InWork
from plugins.rate_limit.limit import Algorithm, Limit
from plugins.rate_limit.meter import Meter
from plugins.rate_limit.sliding_log import SlidingLog
from plugins.rate_limit.windows import FixedWindow, SlidingWindow

METERS: Final[Mapping[Algorithm, type[Meter]]] = {
    "token-bucket": Bucket,
    "gcra": Bucket,
    "leaky-bucket": Bucket,
    "fixed-window": FixedWindow,
    "sliding-window": SlidingWindow,
    "sliding-log": SlidingLog,
    "concurrent": InWork,
}


def new_meter(limit: Limit, label: str = "") -> Meter:
    """Make a meter with nothing spent."""
    return METERS[limit.algorithm](limit, label)


def resumed(meter: Meter, limit: Limit, now_us: int) -> Meter:
    """Go on under another limit, or by another algorithm, with all that was spent.

    Where the old meter does not know exactly when something was spent, the latest time it can have been is taken: what
    was spent before and what is admitted from now on never exceed the new limit together, and a request may be
    refused for a little longer than it would be had the new limit been there from the start.

    Returns:
        The same meter where it can go on, else a new one.
    """
    if meter.adopt(limit, now_us):
        return meter
    fresh = new_meter(limit, meter.label)
    for time_us, amount in meter.spent(now_us):
        fresh.add(amount, time_us)
    fresh.cap(now_us)
    return fresh
