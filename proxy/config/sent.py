"""Faults told in the words that were sent: neither what a reference stands for nor what an id stands for."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from proxy.config.shape import KeyPath
from proxy.errors import Fault
from proxy.values import printable

SHARED_LENGTH: Final = 6
"""So many characters of a hidden text in a message give it away."""

REFUSED: Final = "what it stands for is refused"


def as_sent(path: KeyPath, fault: Fault, sent: object, actual: object) -> Fault:
    """Give a fault without the texts that its caller did not send.

    Args:
        path: where it is.
        sent: the document as it came, with references and ids.
        actual: the same with what they stand for, of which the fault may speak.
    """
    shown, value = at(sent, path), at(actual, path)
    hidden = list(_hidden(shown, value))
    if not hidden:
        return fault
    message = fault.message
    for text, instead in hidden:
        for form in (text, *(printable(text, limit) for limit in (300, 80, 60))):
            message = message.replace(form, instead) if form else message
    if any(_is_given_away(text, message) for text, _ in hidden):
        message = REFUSED
    return replace(fault, message=message, got=shown if isinstance(shown, str) and fault.got is not None else None)


def at(document: object, path: KeyPath) -> Any:  # Any: JSON
    """Give what stands at a place, None if there is nothing."""
    for key in path:
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and isinstance(key, int) and key < len(document):
            document = document[key]
        else:
            return None
    return document


def _hidden(sent: object, actual: object) -> Iterator[tuple[str, str]]:
    """List the texts that stand for something else that was sent, with what may be shown instead."""
    if isinstance(actual, str):
        if actual and sent != actual:
            yield actual, sent if isinstance(sent, str) else "…"
    elif isinstance(actual, dict):
        for key, value in actual.items():
            yield from _hidden(sent.get(key) if isinstance(sent, dict) else None, value)
    elif isinstance(actual, list):
        for position, value in enumerate(actual):
            yield from _hidden(at(sent, (position,)), value)


def _is_given_away(text: str, message: str) -> bool:
    if len(text) < SHARED_LENGTH:
        return False
    return any(text[start : start + SHARED_LENGTH] in message for start in range(len(text) - SHARED_LENGTH + 1))
