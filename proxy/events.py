"""What happened, for people: a bounded ring of structured events that logs, tails and alerts read."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]

LEVELS: Final[dict[Level, int]] = {"DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40}

RING_SIZE: Final = 2000

MOST_SUBJECTS: Final = 1000
"""Beyond it the subject of which was told the longest ago is forgotten, and what was kept back of it."""

Subject = TypeVar("Subject", bound=Hashable)


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


class Seldom(Generic[Subject]):
    """Lets news of each subject through once in a while, and counts what it keeps back.

    Args:
        every_s: how long nothing more of a subject is let through.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._told: dict[Subject, _Told] = {}

    def admit(self, subject: Subject, now_s: float) -> int | None:
        """Ask whether one more piece of news of a subject is to be told.

        Args:
            now_s: monotonic clock in seconds, never earlier than at the last call.
        Returns:
            None to keep it back; else how many were kept back since the last one that was told.
        """
        told = self._told.get(subject)
        if told is not None and now_s - told.at_s < self._every_s:
            told.kept_back += 1
            return None
        if told is not None:
            del self._told[subject]  # to stand last again
        elif len(self._told) >= MOST_SUBJECTS:
            del self._told[next(iter(self._told))]
        self._told[subject] = _Told(now_s)
        return 0 if told is None else told.kept_back

    def told_since(self, since_s: float) -> list[Subject]:
        """List the subjects of which something was told since then, the latest last."""
        return [subject for subject, told in self._told.items() if told.at_s >= since_s]


class _Told:
    """When a subject was told of last, and how much was kept back since."""

    __slots__ = ("at_s", "kept_back")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.kept_back = 0
