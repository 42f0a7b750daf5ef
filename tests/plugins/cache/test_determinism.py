"""Requests whose answer would be the same again, by what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.cache.determinism import is_deterministic


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.7}, False),
        ({"temperature": 0.7, "seed": 7}, True),
        ({"seed": 0}, True),
        ({"seed": None, "temperature": 1}, False),
        ({"temperature": False}, False),
        ({"temperature": "0"}, False),
        ({"generationConfig": {"temperature": 0}}, True),
        ({"generationConfig": {"temperature": 0.1}}, False),
        ({"generationConfig": {"seed": 3}}, True),
        ({"options": {"temperature": 0}}, True),
        ({"options": {"temperature": 1, "seed": 3}}, True),
        ({"temperature": 0, "options": {"temperature": 1}}, False),
    ],
    ids=str,
)
def test_temperature_of_zero_or_a_seed_draws_nothing(document: dict[str, object], expected: bool) -> None:
    assert is_deterministic("chat", document) is expected


@pytest.mark.parametrize("document", [None, {}, {"temperature": None}, {"options": {}}, {"options": 3}], ids=str)
def test_who_says_neither_has_an_answer_drawn(document: dict[str, object] | None) -> None:
    assert not is_deterministic("chat", document)


@pytest.mark.parametrize("operation", ["embeddings", "embed", "embed_batch", "count_tokens"])
def test_vectors_and_counts_are_never_drawn(operation: str) -> None:
    assert is_deterministic(operation, {"temperature": 1})


VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
KEYS = st.sampled_from(["temperature", "seed", "options", "generationConfig"])


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES)))
def test_whatever_the_document_says_nothing_raises(document: dict[str, object]) -> None:
    assert is_deterministic("chat", document) in (True, False)
