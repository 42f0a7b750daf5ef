"""Which models a key may use: patterns of names as clients write them."""

import re
from collections.abc import Sequence
from typing import Final

LONGEST_NAME: Final = 1024
"""Characters; a longer name fits no pattern: clients choose it, and it is looked at whole for each pattern."""


class ModelRule:
    """Tells which models fit one of some patterns: `*` is any run of characters, `?` any single one; case counts."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._fits = re.compile("|".join(f"(?:{_expression(each)})" for each in patterns), re.DOTALL)

    def allows(self, model: str) -> bool:
        """Tell whether a name fits."""
        return len(model) <= LONGEST_NAME and self._fits.fullmatch(model) is not None


def _expression(pattern: str) -> str:
    """Translate a pattern; what stands between two `*` is matched where it comes first and never tried elsewhere."""
    first, *others = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    if not others:
        return first
    *inner, last = others
    return first + "".join(f"(?>.*?{part})" for part in inner if part) + f".*{last}"
