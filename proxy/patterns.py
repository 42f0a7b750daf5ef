"""Patterns of names as people write them: `*` is any run of characters, `?` any single one; case counts."""

import re
from collections.abc import Iterable


def compile_patterns(patterns: Iterable[str]) -> re.Pattern[str]:
    """Compile patterns into an expression whose `fullmatch` finds what fits one of them; none fits no name.

    What stands between two `*` is matched where it comes first and never tried elsewhere, so that no text takes more
    than linear time for each `*`: clients choose the text.
    """
    return re.compile("|".join(f"(?:{_expression(each)})" for each in patterns) or r"(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    first, *others = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    if not others:
        return first
    *inner, last = others
    return first + "".join(f"(?>.*?{part})" for part in inner if part) + f".*{last}"
