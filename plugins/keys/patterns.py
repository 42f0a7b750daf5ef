"""Which models a key may use: patterns of names as clients write them."""

from collections.abc import Sequence
from typing import Final

from proxy.patterns import compile_patterns

LONGEST_NAME: Final = 1024
"""Characters; a longer name fits no pattern: clients choose it, and it is looked at whole for each pattern."""


class ModelRule:
    """Tells which models fit one of some patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._fits = compile_patterns(patterns)

    def allows(self, model: str) -> bool:
        """Tell whether a name fits."""
        return len(model) <= LONGEST_NAME and self._fits.fullmatch(model) is not None
