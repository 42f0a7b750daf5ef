"""Merge patches that name one place of the document."""

from typing import Any

from proxy.config.patch import Json
from proxy.config.shape import KeyPath


def nested(path: KeyPath, value: object) -> Json:
    """Make a patch that puts a value at a place of keys, None to take away what stands there."""
    patch: Json = {str(path[-1]): value}
    for key in reversed(path[:-1]):
        patch = {str(key): patch}
    return patch


def value_at(document: object, path: KeyPath) -> Any:  # Any: JSON
    """Give what a document has at a place of keys, None where it has nothing."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document
