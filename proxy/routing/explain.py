"""Who would be asked if a request came now, and why the others would not; reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.exchange import Candidate, JsonObject
from proxy.routing.policy import Policy
from proxy.routing.prospects import Prospect, instead_of
from proxy.routing.reach import Reach
from proxy.routing.state import When

FADED_S: Final = 0.001
"""Averages fade while nothing is called; below this they say nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who would be asked first.

    Args:
        first: None if nobody would be, or if it cannot be foretold.
        desperate: everybody is left out, and any of these is asked all the same.
        summary: in words.
    """

    first: Prospect | None
    summary: str
    desperate: tuple[Prospect, ...] = ()

    @property
    def is_panic(self) -> bool:
        """Everybody is left out, and somebody is asked all the same."""
        return bool(self.desperate)


@dataclass(frozen=True, slots=True)
class Moment:
    """When and for what kind of request it is asked.

    Args:
        now_s: monotonic clock.
        when: writes its times for people.
    """

    now_s: float
    when: When
    is_streaming: bool


def verdict_of(prospects: Sequence[Prospect], fallbacks: Sequence[Prospect], policy: Policy) -> Verdict:
    """Tell who would be asked first, by the rules of `Plan.first` and, where that one has no room, `Plan.beside`.

    Args:
        prospects: in the order in which they are to be asked.
        fallbacks: who follows them.
    """
    well = [one for one in (*prospects, *fallbacks) if one.is_well]
    if well:
        chosen = next((one for one in well if one.share >= 1.0), well[0])
        first = instead_of(chosen, well, policy)
        return Verdict(first, _first_of(first, chosen, well))
    soft = tuple(one for one in (*prospects, *fallbacks) if one.absence is not None and not one.absence.is_hard)
    soft = tuple(one for one in soft if one.absence is not None and one.absence.cause == "slow") or soft
    if not soft:
        return Verdict(None, "nobody may be asked now; a client gets an error with every candidate's reason")
    names = soft[0].name if len(soft) == 1 else f"one of {', '.join(one.name for one in soft)}"
    summary = f"panic: everybody is left out; {names} is asked all the same"
    return Verdict(soft[0] if len(soft) == 1 else None, summary, soft)


def _first_of(first: Prospect, chosen: Prospect, well: Sequence[Prospect]) -> str:
    """Say who is asked first, in place of which chosen one, and whether at once."""
    room = f", because {chosen.name} is busy ({chosen.room})" if first is not chosen else ""
    if first.room.is_full:
        room = f", and waits for its turn there: {first.room}"
    if first.share < 1.0:
        others = "nobody else is well and has room" if first is not chosen else "nobody else is well"
        return f"{first.name} is asked first{room}, though it has just come back: {others}"
    before = [one for one in well[: well.index(first)] if one.share < 1.0 and not one.room.is_full]
    sharing = [f"{one.name} ({one.share:.0%} of its share)" for one in before]
    but = f", but for what {', '.join(sharing)} gets while it comes back" if sharing else ""
    instead = "nobody who has the model may be asked; its fallback " if first.turn else ""
    return f"{instead}{first.name} is asked first{room}{but}"


def rows(
    prospects: Sequence[Prospect], verdict: Verdict, reach: Reach, moment: Moment, *, before: int = 0
) -> list[JsonObject]:
    """Write candidates as JSON, in the order in which they are asked.

    Args:
        before: how many attempts come before these.
    Returns:
        `[{"candidate": "provider/model", "provider", "model", "in": bool, "why", "cause": str | None, "until", "share",
        "priority", "weight", "inFlight", "slots": {"inUse", "limit", "waiting"} | None, "latencyMs": as strategies see
        it, "price": {"input", "output"} | None}]`; of `slots` None where there is no limit.
    """
    found = []
    for prospect in prospects:
        is_in = prospect in (verdict.first, *verdict.desperate) or (prospect.is_well and before < reach.attempts)
        before += prospect.is_well
        why = _why(prospect, verdict, reach, is_in=is_in)
        found.append(_row(prospect, why, moment, is_in=is_in))
    return found


def left_out(
    candidates: Sequence[Candidate], why: str, moment: Moment, *, cause: str | None = None
) -> list[JsonObject]:
    """Write candidates that are not even put into an order, as `rows` does."""
    return [{**_row(Prospect(one, None, 1.0), why, moment, is_in=False), "cause": cause} for one in candidates]


def _why(prospect: Prospect, verdict: Verdict, reach: Reach, *, is_in: bool) -> str:
    absence, room = prospect.absence, prospect.room
    if absence is not None:
        return f"asked all the same, because nobody is well: {absence.reason}" if is_in else absence.reason
    if prospect is verdict.first:
        return f"asked first, as soon as it has room: {room}" if room.is_full else "asked first"
    busy = f"busy: {room}; " if room.is_full else ""
    if not is_in:
        return f"{busy}{reach.why}"
    if prospect.share < 1.0:
        return f"{busy}coming back: takes {prospect.share:.0%} of its share, else asked if the others fail"
    return f"{busy}asked if those before it fail"


def _row(prospect: Prospect, why: str, moment: Moment, *, is_in: bool) -> JsonObject:
    candidate, absence, room = prospect.candidate, prospect.absence, prospect.room
    load, price = candidate.load, candidate.price
    latency_s = (None if load is None else load.latency_s(moment.is_streaming, moment.now_s)) or 0.0
    return {
        "candidate": prospect.name,
        "provider": candidate.provider,
        "model": candidate.model,
        "in": is_in,
        "why": why,
        "cause": absence.cause if absence is not None else "busy" if room.is_full else None,
        "until": None if absence is None else moment.when(absence.until_s),
        "share": round(prospect.share, 3),
        "priority": candidate.priority,
        "weight": candidate.weight,
        "inFlight": None if load is None else load.in_flight,
        "slots": None if room.limit is None else {"inUse": room.in_use, "limit": room.limit, "waiting": room.waiting},
        "latencyMs": round(latency_s * 1000, 1) if latency_s >= FADED_S else None,
        "price": None if price is None else {"input": price.input_usd, "output": price.output_usd},
    }
