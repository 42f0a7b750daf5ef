"""How often the same is said: once in a while, and then how many times it was not."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MOST_SUBJECTS: Final = 1000
"""Beyond it the subject of which was told the longest ago is forgotten, and what was kept back of it."""

Subject = TypeVar("Subject", bound=Hashable)


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
