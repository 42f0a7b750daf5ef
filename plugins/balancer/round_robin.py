"""Smooth weighted round robin, and whose turn it is among each set of candidates."""

from collections.abc import Sequence
from random import Random
from typing import Final

from plugins.balancer.orders import by_weight
from proxy.exchange import Candidate

MOST_SETS: Final = 1000
"""Clients choose model names where a provider takes `*`: beyond this, the set that was not asked for longest is
forgotten."""

Key = tuple[tuple[str, str | None], ...]


class RoundRobin:
    """Gives each candidate of a set its turns by weight, spread evenly.

    Of a set that is new the first one is drawn by weight: else the heaviest had all requests of models that are
    asked for once.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._dues: dict[Key, tuple[float, list[float]]] = {}
        """By set, the one asked last at the end: the sum of its weights, and what each candidate has coming; a turn
        costs that sum, so that what they have coming adds up to 0."""

    def __len__(self) -> int:
        return len(self._dues)

    def order(self, equals: Sequence[Candidate], *, is_dry_run: bool = False) -> list[Candidate]:
        """Put who has waited longest for its turn first, the others behind it as drawn by weight.

        Who is left out, full or failing is passed over afterwards: were the others in the order of their turns, all
        of its work would fall to the same neighbour.

        Args:
            equals: their weights may change from call to call.
            is_dry_run: take no turn.
        Source:
            nginx, ngx_http_upstream_round_robin.c: each gets its weight, who has most is picked and pays the sum.
        """
        key = tuple([(candidate.provider, candidate.model) for candidate in equals])
        total = sum([candidate.weight for candidate in equals])
        earlier = self._dues.get(key)
        if earlier is None:
            ordered, dues = by_weight(equals, self._random), [0.0] * len(equals)
        else:
            # Debts of another scale of weights would last for hundreds of turns.
            scale = 1.0 if earlier[0] == total else total / earlier[0]
            dues = [due * scale + candidate.weight for due, candidate in zip(earlier[1], equals, strict=True)]
            first = max(range(len(dues)), key=dues.__getitem__)
            dues[first] -= total
            others = [*equals[:first], *equals[first + 1 :]]
            ordered = [equals[first], *(by_weight(others, self._random) if len(others) > 1 else others)]
        if not is_dry_run:
            self._dues.pop(key, None)
            if len(self._dues) >= MOST_SETS:
                del self._dues[next(iter(self._dues))]
            self._dues[key] = (total, dues)
        return ordered
