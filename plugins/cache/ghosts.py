"""Which keys went lately without being asked for again: a table that forgets by overwriting."""

from array import array
from struct import Struct
from typing import Final

LEAST_SLOTS: Final = 64

SLOT_BYTES: Final = 4

HALVES: Final = Struct(">II").unpack_from
"""Takes the first eight bytes of a key for two numbers."""


class Ghosts:
    """Remembers about as many keys as it has slots, in four bytes each.

    A key takes the slot that its first half names and leaves its second half there, so that a newer one overwrites
    an older. One in four billion keys is taken for another, which costs a place in the queue and nothing else.
    """

    def __init__(self, count: int) -> None:
        self._slots = array("I")
        self.room = 0
        """How many keys there are slots for."""
        self.size_bytes = 0
        """Memory of the table."""
        self.fit(count)

    def fit(self, count: int) -> None:
        """Make room for that many keys, a power of two; all are forgotten if that changes the table."""
        slots = max(LEAST_SLOTS, 1 << max(count - 1, 0).bit_length())
        if slots != self.room:
            self.room, self.size_bytes = slots, slots * SLOT_BYTES
            self._slots = array("I", bytes(self.size_bytes))

    def add(self, key: bytes) -> None:
        """Remember a key, a digest of at least 8 bytes."""
        name, mark = HALVES(key)
        self._slots[name & (self.room - 1)] = mark | 1  # 0 is empty

    def pop(self, key: bytes) -> bool:
        """Tell whether a key is remembered, and forget it."""
        name, mark = HALVES(key)
        slot = name & (self.room - 1)
        if self._slots[slot] != mark | 1:
            return False
        self._slots[slot] = 0
        return True
