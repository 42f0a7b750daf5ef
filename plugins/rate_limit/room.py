"""The meters of all rules by whom they are for: bounded in number, made when they are needed, dropped when idle."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from typing import Final

from plugins.rate_limit.limit import Limit
from plugins.rate_limit.meter import Meter
from plugins.rate_limit.meters import new_meter, resumed

EXAMINED: Final = 32
"""Meters that are looked at to find room for a new one, so that the search costs microseconds."""
SWEPT: Final = 500
"""Meters that are looked at by a sweep before others have their turn."""


class Table:
    """The meters of one rule.

    Attributes:
        meters: by partition; hot code looks into it first, and asks `meter` when what it finds is not of its limit.
        shared: counts for all who came while there was no room for a meter of their own.
        is_closed: its rule is gone; what requests in work still settle is kept no more.
    """

    __slots__ = ("_room", "is_closed", "meters", "shared")

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.is_closed = False
        self.meters: OrderedDict[Hashable, Meter] = OrderedDict()
        self.shared: Meter | None = None

    def meter(self, key: Hashable, limit: Limit, label: Callable[[], str], now_us: int) -> Meter:
        """Find the meter of a partition, or make it; one of another limit goes on under this one.

        Where there is no room, all newcomers share one meter until nothing is spent in that any more: nobody gets
        more than the limit by coming under ever new names, or by making others lose their count.
        """
        found = self.meters.get(key)
        if found is not None:
            if found.limit is not limit:
                self.meters[key] = found = resumed(found, limit, now_us)
            return found
        shared = self.shared
        if shared is not None and shared.reset_us(now_us) > 0:
            if shared.limit != limit:
                self.shared = shared = resumed(shared, limit, now_us)
            return shared
        self.shared = None
        if self.is_closed:
            return new_meter(limit, label())
        if not self._room.find(now_us):
            self.shared = shared = new_meter(limit, "all who came when maxBuckets was reached")
            return shared
        self._room.used += 1
        self.meters[key] = fresh = new_meter(limit, label())
        return fresh

    def peek(self, key: Hashable, limit: Limit, now_us: int) -> Meter:
        """Find the meter that would count for a partition; where there is none of this limit, one that is not kept."""
        found = self.meters.get(key)
        if found is None and self.shared is not None and self.shared.reset_us(now_us) > 0:
            found = self.shared
        if found is None:
            return new_meter(limit)
        return found if found.limit == limit else resumed(deepcopy(found), limit, now_us)

    def drop(self, key: Hashable) -> int:
        """Forget a partition; returns how many there were."""
        if self.meters.pop(key, None) is None:
            return 0
        self._room.used -= 1
        return 1

    def clear(self) -> int:
        """Forget everybody; returns how many there were."""
        count = len(self.meters)
        self._room.used -= count
        self.meters.clear()
        self.shared = None
        return count


class Room:
    """How many meters there may be, over all tables.

    Args:
        most: `maxBuckets`.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.tables: list[Table] = []
        self._turn = 0

    def table(self) -> Table:
        """Make one more table."""
        table = Table(self)
        self.tables.append(table)
        return table

    def close(self, table: Table) -> None:
        """Forget a table with all that is in it."""
        table.clear()
        table.is_closed = True
        self.tables.remove(table)

    def find(self, now_us: int) -> bool:
        """Make sure that there is room for one more meter.

        Of each table in turn, those are looked at that have been there the longest. One in which nothing is missing may
        go: a new one would be as it is.

        Returns:
            False if all that were looked at still count something.
        """
        if self.used < self.most:
            return True
        for _ in range(EXAMINED):
            table = self.tables[self._turn % len(self.tables)]
            self._turn += 1
            if not table.meters:
                continue
            key, meter = next(iter(table.meters.items()))
            if meter.reset_us(now_us) <= 0:
                table.drop(key)
                return True
            table.meters.move_to_end(key)
        return False

    def sweep(self, now_us: int) -> Iterator[None]:
        """Drop what is idle; comes back now and then, so that others have their turn."""
        for table in list(self.tables):
            meters = table.meters
            for place in range(1, len(meters) + 1):
                if not meters:
                    break
                key, meter = next(iter(meters.items()))
                if meter.is_idle(now_us):
                    table.drop(key)
                else:
                    meters.move_to_end(key)
                if place % SWEPT == 0:
                    yield
