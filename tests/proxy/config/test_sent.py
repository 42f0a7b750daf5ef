"""A fault says nothing of what its caller did not send."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.config.sent import SHARED_LENGTH, as_sent
from proxy.errors import Fault

CANARY = "sk-canary-77a3b0e2"


def test_hidden_text_is_told_by_what_was_sent() -> None:
    fault = as_sent(("a",), Fault("a", f'"{CANARY}" is not a number', CANARY), {"a": "${KEY}"}, {"a": CANARY})

    assert fault == Fault("a", '"${KEY}" is not a number', "${KEY}")


def test_fault_of_what_was_sent_itself_stays_as_it_is() -> None:
    fault = Fault("a", '"abc" is not a number', "abc")

    assert as_sent(("a",), fault, {"a": "abc"}, {"a": "abc"}) is fault


@given(st.integers(0, len(CANARY)), st.integers(0, len(CANARY)))
def test_part_of_a_hidden_text_that_would_give_it_away_is_not_told(start: int, end: int) -> None:
    part = CANARY[start:end]

    message = as_sent(("a",), Fault("a", f"{part!r}: what is that?"), {"a": {"$secret": "1"}}, {"a": CANARY}).message

    assert (part in message) == (len(part) < SHARED_LENGTH)
    assert "what" in message
