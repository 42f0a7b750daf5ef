"""The questions that were asked last, so that it can be told what makes another one different."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from plugins.cache.question import Question, Questions
from proxy.exchange import Request

MOST: Final = 256
MOST_BYTES: Final = 16 << 10
"""Longer questions are not remembered."""


class Asked(NamedTuple):
    """A question whose answer was kept.

    Args:
        body: of the request, as the client sent it.
    """

    key: bytes
    about: Sequence[bytes]
    body: bytes
    at_s: float


class Nearest(NamedTuple):
    """The question most like another.

    Args:
        differs: the parts that are not alike: fields of the body by name, the rest in brackets, such as `(caller)`.
    """

    asked: Asked
    differs: list[str]


class LastAsked:
    """Remembers a few hundred questions, 4 MB at most, by reference: it costs a request next to nothing."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._asked)

    def note(self, question: Question, request: Request, now_s: float) -> None:
        """Remember a question whose answer is kept."""
        if len(request.body) <= MOST_BYTES:
            self._asked.append(Asked(question.key, question.about, request.body, now_s))

    def forget(self) -> None:
        """Remember none."""
        self._asked.clear()

    async def nearest(self, questions: Questions, question: Question, document: dict[str, object]) -> Nearest | None:
        """Find the question that differs in the fewest parts, in a thread: they are parsed anew for that."""
        parts = questions.parts(question.about, document)
        return await asyncio.to_thread(_nearest, questions, parts, list(self._asked))


def _nearest(questions: Questions, parts: dict[str, bytes], asked: Sequence[Asked]) -> Nearest | None:
    best: Nearest | None = None
    for one in reversed(asked):
        others = questions.parts(one.about, orjson.loads(one.body))
        differs = sorted(name for name in parts.keys() | others.keys() if parts.get(name) != others.get(name))
        if best is None or len(differs) < len(best.differs):
            best = Nearest(one, differs)
    return best
