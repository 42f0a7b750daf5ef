"""What all journeys of the process share, and what the parts of one tell each other."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from proxy.errors import ProxyError
from proxy.exchange import Exchange
from proxy.journey.audiences import Audiences
from proxy.journey.news import News
from proxy.journey.prober import Prober
from proxy.journey.race import Contender
from proxy.redaction import Redactor
from proxy.reload.generation import Generation
from proxy.routing.budget import RetryBudget
from proxy.routing.failures import Verdict
from proxy.routing.plan import Step, Target
from proxy.sink import Sink
from proxy.tasks import Tasks
from proxy.upstream.slots import Slots


@dataclass(frozen=True, slots=True)
class Kit:
    """What all journeys of the process share.

    Args:
        slots: of the whole process.
        retries, hedges: budgets of the whole process.
        redactor: a vendor's own words may repeat the key they refuse.
        random: for backoff and shares.
        clock: monotonic seconds.
        wall_clock: seconds since 1970.
    """

    slots: Slots
    retries: RetryBudget
    hedges: RetryBudget
    news: News
    audiences: Audiences
    prober: Prober
    tasks: Tasks
    redactor: Redactor
    random: Random
    clock: Callable[[], float]
    wall_clock: Callable[[], float]


MayGoOn = Callable[[Target, Verdict, float], bool]
"""Tells whether another attempt may follow when one fails so, now; see `plan.Plan.may_go_on`."""

Ask = Callable[[Generation, Exchange, MayGoOn, Step, Sink, Contender | None], Coroutine[Any, Any, None]]
"""Asks one candidate whose slot is held; the contender is the sink, where another attempt may be made beside this one.
See `attempts.Attempts.ask`."""

Unanswered = tuple[Step, ProxyError]
"""Who failed, and how."""
