"""A waiting line in classes, fair among callers; pure: it holds waiters, and neither waits nor tells them anything."""

from collections import OrderedDict
from typing import Final, Generic, TypeVar

Waiter = TypeVar("Waiter")

Caller = str | None
"""Whose waiter it is: a secret key, so never part of a message; None for those who have none, who count as one."""

TURN_FOR_THE_LATE: Final = 8
"""Each so many-th waiter served is of the class that was served the longest ago, so that none starves."""


class Place(Generic[Waiter]):
    """A waiter's place in the line; compared by identity."""

    __slots__ = ("caller", "is_held", "rank", "waiter")

    def __init__(self, waiter: Waiter, caller: Caller, rank: int) -> None:
        self.waiter = waiter
        self.caller = caller
        self.rank = rank
        self.is_held = True
        """Whether it is in the line still."""


class _Crowd:
    """How many places each caller holds, and who holds most; every change is by one place."""

    def __init__(self, ranks: int) -> None:
        self.most = 0
        self._ranks = range(ranks)
        self._standings: dict[Caller, tuple[int, int]] = {}
        self._by_standing: dict[tuple[int, int], OrderedDict[Caller, None]] = {}

    def places(self, caller: Caller) -> int:
        """Tell how many places a caller holds."""
        return self._standings.get(caller, (0, 0))[0]

    def change(self, caller: Caller, places: int, lowest: int) -> None:
        """Set what a caller holds from now on, one place more or less than before."""
        before = self._standings.pop(caller, None)
        if before is not None:
            del self._by_standing[before][caller]
            if not self._by_standing[before]:
                del self._by_standing[before]
        if places:
            self._standings[caller] = standing = (places, lowest)
            self._by_standing.setdefault(standing, OrderedDict())[caller] = None
        if places > self.most:
            self.most = places
        elif not any((self.most, rank) in self._by_standing for rank in self._ranks):
            self.most -= 1

    def largest(self, rank: int) -> tuple[Caller, int] | None:
        """Find who holds most and holds one in this class or a lower one: the caller and the lowest such class.

        Of several the one with a place in the lowest class, and of those the one that came to it last: who waits
        longer stays, however many new callers are made up.
        """
        for lowest in reversed(self._ranks[rank:]):
            if tied := self._by_standing.get((self.most, lowest)):
                return next(reversed(tied)), lowest
        return None


class Line(Generic[Waiter]):
    """Who waits, in the order in which they are to be served; every call is O(1) in the number of waiters.

    Higher classes go first. Within a class callers take turns, and each caller's waiters go in order of arrival; with
    one caller that is the order of arrival. Each 8th served is of the class that was served the longest ago, among
    those that wait. Of a caller nothing is kept once its last waiter has left.

    Args:
        ranks: how many classes; 0 is the highest.
    """

    def __init__(self, ranks: int) -> None:
        self.size = 0
        """How many wait; an attribute, because it is read at each release of a slot."""
        self._turns: tuple[OrderedDict[Caller, OrderedDict[Place[Waiter], None]], ...] = tuple(
            OrderedDict() for _ in range(ranks)
        )
        """For each class its callers, whose turn is next first, with their waiters."""
        self._crowd = _Crowd(ranks)
        self._served = 0
        self._served_at = [0] * ranks

    def join(self, waiter: Waiter, caller: Caller, rank: int) -> Place[Waiter]:
        """Take the last place of a caller in a class."""
        place = Place(waiter, caller, rank)
        self._turns[rank].setdefault(caller, OrderedDict())[place] = None
        self._count(caller, 1)
        return place

    def leave(self, place: Place[Waiter]) -> None:
        """Give up a place; its caller keeps its turn. Who has left already may do so again."""
        if not place.is_held:
            return
        place.is_held = False
        queue = self._turns[place.rank][place.caller]
        del queue[place]
        if not queue:
            del self._turns[place.rank][place.caller]
        self._count(place.caller, -1)

    def first(self) -> Place[Waiter] | None:
        """Find whose turn it is."""
        waiting = [rank for rank, turns in enumerate(self._turns) if turns]
        if not waiting:
            return None
        is_for_the_late = self._served % TURN_FOR_THE_LATE == TURN_FOR_THE_LATE - 1
        rank = min(waiting, key=self._served_at.__getitem__) if is_for_the_late else waiting[0]
        return next(iter(next(iter(self._turns[rank].values()))))

    def serve(self, place: Place[Waiter]) -> None:
        """Take out the one whose turn it is; its caller goes to the end of its class."""
        self.leave(place)
        self._served += 1
        self._served_at[place.rank] = self._served
        turns = self._turns[place.rank]
        if place.caller in turns:
            turns.move_to_end(place.caller)

    def rival(self, caller: Caller, rank: int) -> Place[Waiter] | None:
        """Find who should make room for a newcomer, who has no place yet.

        Returns:
            The newest place, in its lowest class, of the caller that holds most; None if the newcomer's caller holds
            as many, or if that place is of a higher class than the newcomer.
        """
        if self._crowd.places(caller) >= self._crowd.most:
            return None
        largest = self._crowd.largest(rank)
        if largest is None:
            return None
        other, lowest = largest
        return next(reversed(self._turns[lowest][other]))

    def _count(self, caller: Caller, change: int) -> None:
        self.size += change
        lowest = max((rank for rank, turns in enumerate(self._turns) if caller in turns), default=0)
        self._crowd.change(caller, self._crowd.places(caller) + change, lowest)
