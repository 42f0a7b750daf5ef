"""Patterns mean what they say, and no text takes long."""

import string
from time import process_time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.patterns import compile_patterns

ALPHABET: Final = "ab*?.+()[]{}|\\^$/-\n"
NAMES: Final = "ab.+()[]{}|\\^$/-\n"


def matches(pattern: str, name: str) -> bool:
    """What patterns mean, spelled out."""
    reached = {0}
    for sign in pattern:
        if sign == "*":
            reached = set(range(min(reached), len(name) + 1)) if reached else set()
        else:
            reached = {i + 1 for i in reached if i < len(name) and sign in ("?", name[i])}
    return len(name) in reached


@given(st.lists(st.text(ALPHABET, min_size=1, max_size=8), max_size=3), st.text(NAMES, max_size=8))
def test_pattern_knows_two_wildcards_and_nothing_else(patterns: list[str], name: str) -> None:
    found = compile_patterns(patterns).fullmatch(name) is not None

    assert found == any(matches(pattern, name) for pattern in patterns)


@given(st.text(string.printable.translate({ord("*"): None, ord("?"): None}), min_size=1, max_size=30))
def test_name_without_wildcards_matches_itself_alone(exact: str) -> None:
    pattern = compile_patterns([exact])

    assert pattern.fullmatch(exact)
    assert not pattern.fullmatch(exact + "x")


@pytest.mark.parametrize(("pattern", "length"), [("*a*b", 20_000), ("*a*a*b", 1500)])
def test_pattern_takes_no_longer_for_a_text_made_to_delay_it(pattern: str, length: int) -> None:
    compiled = compile_patterns([pattern])
    started = process_time()

    found = compiled.fullmatch("a" * length)  # by its plain reading: more than a second

    assert found is None
    assert process_time() - started < 0.2
