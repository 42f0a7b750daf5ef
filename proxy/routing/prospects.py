"""Candidates as a request would find them now, and in which order it asks those that are well; reads only."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.exchange import Candidate
from proxy.routing.health import Absence, ProviderHealth
from proxy.routing.policy import Policy


@dataclass(frozen=True, slots=True)
class Room:
    """How many calls a provider has at work, of how many.

    Args:
        limit: None for no limit.
        is_own: the limit is the provider's own, rather than its part of the process's.
    """

    in_use: int = 0
    limit: int | None = None
    waiting: int = 0
    is_own: bool = False

    @property
    def is_full(self) -> bool:
        """A call more has to wait."""
        return self.limit is not None and self.in_use >= self.limit

    def __str__(self) -> str:
        return f"{self.in_use} of {self.limit} calls, {self.waiting} wait"


UNLIMITED = Room()


@dataclass(frozen=True, slots=True)
class Prospect:
    """One candidate as a request would find it now.

    Args:
        absence: why it would be left out; None if it would not.
        share: which part of its requests it gets, from 0 to 1: less than all while it comes back.
        turn: 0 for those who have the model, then one more for each fallback model.
    """

    candidate: Candidate
    absence: Absence | None
    share: float
    room: Room = UNLIMITED
    turn: int = 0

    @property
    def name(self) -> str:
        """`provider/model`, for people."""
        return f"{self.candidate.provider}/{self.candidate.model}"

    @property
    def is_well(self) -> bool:
        """Nothing speaks against asking it, though it may have no room."""
        return self.absence is None


def prospect_of(
    candidate: Candidate, health: ProviderHealth, now_s: float, room: Room = UNLIMITED, turn: int = 0
) -> Prospect:
    """Look at one candidate; a model that was never asked for leaves no trace."""
    lane = health.known(candidate.model) or health.unknown(candidate.model)
    return Prospect(candidate, health.absence(lane, now_s), health.share(lane, now_s), room, turn)


def in_turn(prospects: Sequence[Prospect], policy: Policy) -> list[Prospect]:
    """Put those who have room before those in whose place they are asked; who is left out stays where it is."""
    left = [one for one in prospects if one.is_well]
    ordered: list[Prospect] = []
    while left:
        ordered.append(instead_of(left[0], left, policy))
        left.remove(ordered[-1])
    turns = iter(ordered)
    return [next(turns) if one.is_well else one for one in prospects]


def instead_of(first: Prospect, well: Sequence[Prospect], policy: Policy) -> Prospect:
    """Tell who is asked in place of one without room, by the rules of `Plan.beside`: itself, if that is waited for."""
    if not (first.room.is_full and first.room.is_own and policy.is_failover_on and "busy" in policy.kinds):
        return first
    free = [one for one in well if not one.room.is_full and one.turn <= first.turn]
    return next((one for one in free if one.share >= 1.0), free[0] if free else first)
