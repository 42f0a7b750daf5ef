"""Queues of kept entries that any one can leave at once, whose links stand in the places themselves."""

from typing import Final

from plugins.cache.entry import Entry

TABLE_BYTES: Final = 64
"""What a dict takes for each of its keys, more or less: 30 to 60 bytes, and 60 to 120 where keys come and go."""


class Place:
    """Where an entry stands: in one queue, between two others."""

    __slots__ = ("after", "before", "entry", "hits", "queue", "size_bytes", "uses")

    before: "Place | Queue"
    after: "Place | Queue"
    """The next younger one."""
    queue: "Queue"

    def __init__(self, entry: Entry, size_bytes: int) -> None:
        self.entry = entry
        self.size_bytes = size_bytes
        """Of the entry and of what keeping it takes."""
        self.hits = 0
        self.uses = 0
        """How often it was asked for since it last stood at the head of its queue, at most 3."""


class Queue:
    """First in, first out; it is the link between its own end and its head, so that no end is a special case.

    A deque would keep the places that left before their turn, and with them the bodies of their entries; an
    OrderedDict takes 120 bytes more for each.
    """

    __slots__ = ("after", "before", "count", "size_bytes")

    def __init__(self) -> None:
        self.before: Place | Queue = self
        self.after: Place | Queue = self
        """The oldest."""
        self.count = 0
        self.size_bytes = 0

    @property
    def oldest(self) -> Place | None:
        """Who came first of those that are here."""
        return self.after if isinstance(self.after, Place) else None

    def append(self, place: Place) -> None:
        """Put a place at the end."""
        last = self.before
        last.after = self.before = place
        place.before, place.after, place.queue = last, self, self
        self.count += 1
        self.size_bytes += place.size_bytes

    def remove(self, place: Place) -> None:
        """Take a place out, wherever it stands; it keeps no other alive."""
        place.before.after, place.after.before = place.after, place.before
        place.before = place.after = self
        self.count -= 1
        self.size_bytes -= place.size_bytes


PLACE_BYTES: Final = 96 + TABLE_BYTES
"""What keeping an entry takes beside it; getsizeof says 88 for a place, the allocator makes it 96."""
