"""Ends a stream that passes a limit of tokens or cost, by what has come of it so far."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from plugins.rate_limit.demand import Demand
from plugins.rate_limit.rules import Rule
from proxy.errors import Refused

LOOK_EVERY_BYTES: Final = 1024
"""A few tokens of a stream."""


class Watched(NamedTuple):
    """One rule that a stream may pass.

    Args:
        left: tells what is left of it now, besides what was reserved.
    """

    rule: Rule
    reserved: int
    left: Callable[[], int]


class Watch:
    """A stream filter that changes nothing and looks now and then.

    Args:
        demand: as it was guessed; its output is replaced by what has come.
        tokens_of: guesses the tokens of so many bytes.
        refuse: gives the error with which the stream ends, and notes it.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        demand: Demand,
        tokens_of: Callable[[int], int],
        refuse: Callable[[Rule, int], Refused],
    ) -> None:
        self._watched = watched
        self._demand = demand
        self._tokens_of = tokens_of
        self._refuse = refuse
        self._size_bytes = 0
        self._next_look_bytes = LOOK_EVERY_BYTES

    def event(self, event: bytes) -> bytes:
        """Let an event through. Raises Refused: a limit is passed."""
        self._size_bytes += len(event)
        if self._size_bytes >= self._next_look_bytes:
            self._next_look_bytes = self._size_bytes + LOOK_EVERY_BYTES
            self._look()
        return event

    def end(self) -> bytes:
        """Hold nothing back."""
        return b""

    def _look(self) -> None:
        demand = self._demand
        so_far = Demand(demand.input_tokens, self._tokens_of(self._size_bytes), demand.price)
        for rule, reserved, left in self._watched:
            amount = so_far.amount(rule.counts)
            if amount > reserved and amount - reserved > left():
                raise self._refuse(rule, amount)
