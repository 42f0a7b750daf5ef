"""What can go wrong on the way to a server, for sure or by chance; pure."""

import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

Direction = Literal["up", "down"]
"""`up` is from the client to the upstream, `down` is the answer."""

FaultKind = Literal["delay", "drip", "stall", "truncate", "reset", "refuse", "blackhole"]
AfterBytes = int | range


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; the functions below make them and say what their arguments mean.

    All but `refuse` and `blackhole` befall a turn: what a client sends and what it is answered, HTTP or not. It begins
    with the client's first bytes on a connection, and again with its first bytes after the upstream has spoken. Bytes
    are counted in each turn and direction anew, as they are on the wire.

    Args:
        after_bytes: so many bytes pass in that direction first; of a range, each turn draws one number.
        only_reused: turns that are the first of their connection are spared.
    """

    kind: FaultKind
    after_bytes: AfterBytes = 0
    directions: tuple[Direction, ...] = ("down",)
    seconds: float = 0.0
    piece_bytes: int = 0
    only_reused: bool = False

    def __post_init__(self) -> None:
        least = min(self.after_bytes, default=-1) if isinstance(self.after_bytes, range) else self.after_bytes
        if least < 0 or self.seconds < 0 or self.piece_bytes < (self.kind == "drip"):
            raise ValueError(f"no such fault: {self}")

    @classmethod
    def delay(
        cls, seconds: float, *, after_bytes: AfterBytes = 0, direction: Direction = "down", each_read: bool = False
    ) -> Self:
        """Hold back for so long what comes: once in a turn, or each time whatever comes at once."""
        return cls("delay", after_bytes, (direction,), seconds, sys.maxsize if each_read else 0)

    @classmethod
    def drip(
        cls, piece_bytes: int, seconds: float, *, after_bytes: AfterBytes = 0, direction: Direction = "down"
    ) -> Self:
        """Pass so few bytes at a time, with a pause before each piece."""
        return cls("drip", after_bytes, (direction,), seconds, piece_bytes)

    @classmethod
    def stall(cls, after_bytes: AfterBytes = 0, *, direction: Direction = "down", only_reused: bool = False) -> Self:
        """Pass nothing more, neither bytes nor an end, until the client leaves."""
        return cls("stall", after_bytes, (direction,), only_reused=only_reused)

    @classmethod
    def truncate(cls, after_bytes: AfterBytes = 0, *, direction: Direction = "down", only_reused: bool = False) -> Self:
        """End the connection by FIN, as if all were said; for the rest like `reset`."""
        return cls("truncate", after_bytes, (direction,), only_reused=only_reused)

    @classmethod
    def reset(cls, after_bytes: AfterBytes = 0, *, direction: Direction = "down", only_reused: bool = False) -> Self:
        """End the connection by RST.

        Args:
            after_bytes: 0 ends it as soon as something comes: `down`, the upstream has done its work and the answer is
                lost; `up`, nothing of the request reaches the upstream.
        """
        return cls("reset", after_bytes, (direction,), only_reused=only_reused)

    @classmethod
    def refuse(cls) -> Self:
        """Nobody listens; connections that are open are reset, as when a server's process ends."""
        return cls("refuse", directions=())

    @classmethod
    def blackhole(cls) -> Self:
        """A connect hangs; connections that are open stall in both directions."""
        return cls("blackhole", directions=())

    @property
    def is_of_turn(self) -> bool:
        """Whether it befalls turns; else it is about who may connect."""
        return self.kind not in ("refuse", "blackhole")

    def drawn(self, rng: random.Random) -> Self:
        """Settle what is left to chance."""
        return replace(self, after_bytes=rng.choice(self.after_bytes)) if isinstance(self.after_bytes, range) else self


class Mix:
    """Faults by chance, decided for each turn.

    Args:
        shares: of all turns, from 0 to 1; the rest of them have no fault.
    Raises:
        ValueError: the shares exceed 1 together, or a fault does not befall turns.
    """

    def __init__(self, shares: Mapping[Fault, float]) -> None:
        if min(shares.values(), default=0.0) < 0 or sum(shares.values()) > 1 + sys.float_info.epsilon * len(shares):
            raise ValueError(f"shares are 0 or more each and 1 or less together, not {list(shares.values())}")
        if not all(fault.is_of_turn for fault in shares):
            raise ValueError("refuse and blackhole befall no turns: set them")
        self._shares = dict(shares)

    def draw(self, rng: random.Random) -> Fault | None:
        """Choose for one turn."""
        point = rng.random()
        for fault, share in self._shares.items():
            if point < share:
                return fault
            point -= share
        return None
