"""Which keys went lately without being asked for again: a table that forgets by overwriting."""

from array import array
from typing import Final

LEAST_SLOTS: Final = 64

SLOT_BYTES: Final = 4


class Ghosts:
    """Remembers about as many keys as it has slots, in four bytes each.

    A key takes the slot that its first half names and leaves its second half there, so that a newer one overwrites
    an older. One in four billion keys is taken for another, which costs a place in the queue and nothing else.
    """

    def __init__(self, count: int) -> None:
        self._slots = array("I")
        self.fit(count)

    def fit(self, count: int) -> None:
        """Make room for that many keys, a power of two; all are forgotten if that changes the table."""
        slots = max(LEAST_SLOTS, 1 << max(count - 1, 0).bit_length())
        if slots != len(self._slots):
            self._slots = array("I", bytes(slots * SLOT_BYTES))

    @property
    def size_bytes(self) -> int:
        """Memory of the table."""
        return len(self._slots) * SLOT_BYTES

    @property
    def room(self) -> int:
        """How many keys there are slots for."""
        return len(self._slots)

    def add(self, key: bytes) -> None:
        """Remember a key, a digest of at least 8 bytes."""
        self._slots[int.from_bytes(key[:4]) & (len(self._slots) - 1)] = int.from_bytes(key[4:8]) | 1  # 0 is empty

    def pop(self, key: bytes) -> bool:
        """Tell whether a key is remembered, and forget it."""
        slot = int.from_bytes(key[:4]) & (len(self._slots) - 1)
        if self._slots[slot] != int.from_bytes(key[4:8]) | 1:
            return False
        self._slots[slot] = 0
        return True
