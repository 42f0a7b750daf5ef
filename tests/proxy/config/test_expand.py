"""References are replaced by what the environment holds, once, as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.expand import expand, names_in

ENVIRON = {"A": "one", "EMPTY": "", "TRICK": "${A}", "B_2": "two"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("<${A}-${B_2}>", "<one-two>"),
        ("${EMPTY}", ""),
        ("${A:-x}", "one"),
        ("${NONE:-x y: z}", "x y: z"),
        ("${NONE:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NONE:-a:-b}", "a:-b"),
        ("${A:?why}", "one"),
        ("$${A}", "${A}"),
        ("$$", "$"),
        ("$$$${A}", "$${A}"),
        ("$A and $", "$A and $"),
        ("${TRICK}", "${A}"),
    ],
)
def test_reference_is_replaced(text: str, expanded: str) -> None:
    assert expand(text, ENVIRON) == expanded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NONE}", "the environment variable NONE is not set"),
        ("${NONE:?get one}", "the environment variable NONE is not set: get one"),
        ("${EMPTY:?}", "the environment variable EMPTY is not set: it is needed"),
        ("${", "holds a ${ that is no reference"),
        ("${}", "holds a ${ that is no reference"),
        ("${A", "holds a ${ that is no reference"),
        ("${1A}", "holds a ${ that is no reference"),
        ("${A-x}", "holds a ${ that is no reference"),
        ("${A:-${B}}", "holds a ${ that is no reference"),
    ],
)
def test_reference_without_value_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("$", "[$]").replace("{", "[{]")):
        expand(text, ENVIRON)


def test_names_are_listed_in_order() -> None:
    assert names_in("${B}-${A:-x}$${C}") == ["B", "A"]
    assert names_in("${") == []


@given(st.text(max_size=50))
def test_doubled_dollars_give_back_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}) == text


@given(st.text(max_size=50))
def test_value_is_taken_as_it_is(value: str) -> None:
    assert expand("a${X}b", {"X": value}) == f"a{value}b"


@given(st.text("${}:-?AB \n", max_size=40))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        expand(text, ENVIRON)
    except ValueError as error:
        refused = str(error)
    else:
        return
    assert "no reference" in refused or "is not set" in refused
