"""What happened, for people: a bounded ring of structured events that logs, tails and alerts read."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]

LEVELS: Final[dict[Level, int]] = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}

RING_SIZE: Final = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        time_s: wall clock, seconds since 1970.
        kind: stable and greppable, `<subject>_<what>`: `rate_limit_blocked`, `upstream_auth`, `plugin_failed`.
        message: one line in plain words.
        fields: values of JSON types; names in snake_case.
    """

    time_s: float
    level: Level
    kind: str
    message: str
    fields: dict[str, object]


class Events:
    """Takes events, keeps the newest, tells the subscribers."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._ring: deque[Event] = deque(maxlen=RING_SIZE)
        self._subscribers: list[Callable[[Event], None]] = []

    def emit(self, level: Level, kind: str, message: str, **fields: object) -> None:
        """Record an event. Never called per chunk; per request only where something is wrong or asked for."""
        event = Event(self._wall_clock(), level, kind, message, fields)
        self._ring.append(event)
        for tell in tuple(self._subscribers):  # one may end its subscription while it is told
            tell(event)

    def subscribe(self, tell: Callable[[Event], None]) -> Callable[[], None]:
        """Have every later event passed to `tell`, which must not block or raise; returns the way to end it."""
        self._subscribers.append(tell)
        return lambda: self._subscribers.remove(tell)

    def recent(self) -> list[Event]:
        """List the kept events, oldest first."""
        return list(self._ring)
