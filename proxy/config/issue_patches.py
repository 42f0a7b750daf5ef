"""Merge patches that name one place of the document, and issues that such a patch mends."""

from typing import Any

from proxy.config.document import dotted
from proxy.config.patch import Json
from proxy.config.shape import KeyPath
from proxy.plugin import Issue, Severity


def nested(path: KeyPath, value: object) -> Json:
    """Make a patch that puts a value at a place of keys, None to take away what stands there."""
    first, *rest = path
    return {str(first): nested(tuple(rest), value) if rest else value}


def value_at(document: object, path: KeyPath) -> Any:  # Any: JSON
    """Give what a document has at a place of keys, None where it has nothing."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def mended(kind: str, severity: Severity, path: KeyPath, message: str, why: str, value: object) -> Issue:
    """Make an issue that is mended by another value at its place; None takes the value away."""
    return Issue(kind, severity, dotted(path), message, why, patch=nested(path, value))
