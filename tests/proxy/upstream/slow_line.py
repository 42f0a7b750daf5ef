"""The rules of the waiting line once more, with plain lists and without a thought of speed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any


@dataclass(eq=False)
class Waiting:
    """One who waits.

    Args:
        waiter: what the line under test calls this one.
    """

    waiter: Any  # a number for the pure line, a task for slots
    caller: str | None
    rank: int


@dataclass
class SlowLine:
    """Says who is next and who makes room, by looking at everybody."""

    waiting: list[Waiting] = field(default_factory=list)
    """In order of arrival."""
    served: int = 0
    served_at: dict[int, int] = field(default_factory=dict)
    turn_since: dict[tuple[int, str | None], int] = field(default_factory=dict)
    changed: dict[str | None, int] = field(default_factory=dict)
    time: Iterator[int] = field(default_factory=lambda: count(1))

    def join(self, one: Waiting) -> None:
        if not any((other.rank, other.caller) == (one.rank, one.caller) for other in self.waiting):
            self.turn_since[one.rank, one.caller] = next(self.time)
        self.waiting.append(one)
        self.changed[one.caller] = next(self.time)

    def leave(self, one: Waiting) -> None:
        self.waiting.remove(one)
        self.changed[one.caller] = next(self.time)

    def first(self) -> Waiting | None:
        """The class by its height, each 8th time by how long ago it was served; in it, who waits longest for a turn."""
        ranks = {one.rank for one in self.waiting}
        if not ranks:
            return None
        if (self.served + 1) % 8 == 0:
            rank = min(ranks, key=lambda rank: (self.served_at.get(rank, 0), rank))
        else:
            rank = min(ranks)
        callers = {one.caller for one in self.waiting if one.rank == rank}
        caller = min(callers, key=lambda caller: self.turn_since[rank, caller])
        return next(one for one in self.waiting if (one.rank, one.caller) == (rank, caller))

    def serve(self, one: Waiting) -> None:
        self.leave(one)
        self.served += 1
        self.served_at[one.rank] = self.served
        self.turn_since[one.rank, one.caller] = next(self.time)

    def rival(self, caller: str | None, rank: int) -> Waiting | None:
        """The newest place, in its lowest class, of who holds most; not of a higher class than the newcomer's."""
        held = Counter(one.caller for one in self.waiting)
        if held[caller] >= max(held.values(), default=0):
            return None
        lowest: dict[str | None, int] = {}
        for one in self.waiting:
            lowest[one.caller] = max(lowest.get(one.caller, 0), one.rank)
        largest = [who for who in held if held[who] == max(held.values()) and lowest[who] >= rank]
        if not largest:
            return None
        victim = max(largest, key=lambda who: (lowest[who], self.changed[who]))
        return [one for one in self.waiting if (one.caller, one.rank) == (victim, lowest[victim])][-1]
