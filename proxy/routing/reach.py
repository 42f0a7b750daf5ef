"""How far failover goes for a request that comes now, and what keeps it from going further, in words; reads only."""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.config.routing_models import FailoverSettings
from proxy.routing.budget import RetryBudget
from proxy.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class Reach:
    """How many attempts a request may make.

    Args:
        why: there are no more.
    """

    attempts: int
    why: str


def reach_of(policy: Policy, budget: RetryBudget) -> Reach:
    """Tell how many attempts a request could make now.

    Args:
        budget: of the process.
    """
    if not policy.kinds:
        return Reach(1, "nobody is asked after a failure: failover.on is empty")
    affordable = 1 + int(budget.level)
    if affordable < policy.attempts:
        return Reach(affordable, "nothing is left of the retry budget of the process (failover.retryBudget)")
    return Reach(policy.attempts, f"the request has made its {policy.attempts} attempts before (failover.attempts)")


def hindrances(
    policy: Policy, budget: RetryBudget, settings: FailoverSettings, model: str, others: int
) -> Iterator[str]:
    """Say in sentences what keeps failover from helping.

    Args:
        model: as the client names it.
        others: how many there are besides the first, fallbacks included.
    """
    own = settings.models.get(model)
    if not policy.is_failover_on:
        where = "enableFallbackProviders"
        if own is not None and own.enabled is not None:
            where = f"failover.models.{model}.enabled"
        yield f"failover is off ({where} is false): no other provider and no fallback is asked after a failure"
    elif not others:
        yield "there is nobody to go on to: no other provider has the model, and it has no fallback that leads anywhere"
    if not policy.kinds:
        where = "failover.on" if own is None or own.on is None else f"failover.models.{model}.on"
        yield f"{where} is empty: after any failure the request ends, and nobody is asked again"
    elif policy.attempts == 1:
        where = "failover.attempts" if own is None or own.attempts is None else f"failover.models.{model}.attempts"
        yield f"{where} is 1: nobody is asked again after a failure"
    elif budget.level < 1.0:
        yield (
            f"the retry budget of the process is used up ({budget.level:.1f} of {budget.capacity:g} left): nobody is "
            f"asked again after a failure now; each request pays {budget.ratio:g} in (failover.retryBudget)"
        )
    elif 1 + int(budget.level) < policy.attempts:
        yield (
            f"the retry budget of the process is nearly used up: it pays for {int(budget.level)} further attempts of "
            f"all requests; each request pays {budget.ratio:g} in (failover.retryBudget)"
        )
