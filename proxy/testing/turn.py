"""What passes of one turn under its fault; pure."""

from collections.abc import Callable

from proxy.testing.fault import Direction, Fault, FaultKind
from proxy.testing.steps import Cut, Pause, Stall

Move = int | Pause | Cut | Stall
"""So many bytes pass now; nothing for so long; the connection ends; nothing until the fault is another."""


class Turn:
    """One turn of a connection, and its fault, which may be exchanged meanwhile.

    Args:
        struck: told the kind of a fault when it does something for the first time.
    """

    def __init__(self, fault: Fault | None, struck: Callable[[FaultKind], None]) -> None:
        self._fault = fault
        self._struck = struck
        self._has_struck = False
        self._passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._has_paused: set[Direction] = set()

    def switch(self, fault: Fault | None) -> None:
        """Go on under another fault, or none; what has passed stays counted."""
        self._fault, self._has_struck = fault, False
        self._has_paused.clear()

    def move(self, direction: Direction, available: int) -> Move:
        """Say what happens next.

        Args:
            available: bytes that are there and have not passed; 0 asks whether the fault strikes without more of them.
        Returns:
            Bytes count as passed, a Pause as made.
        """
        fault = self._fault
        if fault is None or direction not in fault.directions:
            return self._pass(direction, available)
        assert isinstance(fault.after_bytes, int)  # noqa: S101 (for the type checker: it is drawn before)
        left = fault.after_bytes - self._passed[direction]
        if left > 0:
            return self._pass(direction, min(left, available))
        if not available and fault.kind in ("delay", "drip"):
            return 0
        if not self._has_struck:
            self._has_struck = True
            self._struck(fault.kind)
        if fault.kind in ("reset", "truncate"):
            return Cut("rst" if fault.kind == "reset" else "fin")
        return self._slow_down(fault, direction, available) if fault.kind in ("delay", "drip") else Stall()

    def _slow_down(self, fault: Fault, direction: Direction, available: int) -> Move:
        if direction not in self._has_paused:
            self._has_paused.add(direction)
            return Pause(fault.seconds)
        if fault.piece_bytes:
            self._has_paused.discard(direction)
            available = min(available, fault.piece_bytes)
        return self._pass(direction, available)

    def _pass(self, direction: Direction, count: int) -> int:
        self._passed[direction] += count
        return count
