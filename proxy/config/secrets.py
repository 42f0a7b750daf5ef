"""Showing a document without its secrets: references stay as they are, secrets in clear become random ids."""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from proxy.config.credentials import credential
from proxy.config.expand import Reference, parts
from proxy.config.loader import Loaded
from proxy.config.shape import KeyPath, Shape

SCHEMES = ("Bearer ", "Basic ")
"""What may stand before a reference and still tell nothing."""


class SecretStore:
    """Which id stands for which secret, in memory, for as long as the process lives."""

    def __init__(self) -> None:
        self._ids: dict[tuple[KeyPath, str], str] = {}
        self._texts: dict[str, str] = {}

    def id_of(self, path: KeyPath, text: str) -> str:
        """Give the id of a secret at a place, the same at each call; it is random and tells nothing of the secret."""
        if (path, text) not in self._ids:
            new = secrets.token_hex(8)
            self._ids[path, text] = new
            self._texts[new] = text
        return self._ids[path, text]

    def text_of(self, secret_id: str) -> str | None:
        """Give what was written in the document where an id stands now, None for an unknown id."""
        return self._texts.get(secret_id)


def redact(document: Mapping[str, Any], shape: Shape, store: SecretStore) -> dict[str, Any]:  # Any: JSON
    """Copy a document for showing.

    Args:
        document: with references as written, never expanded.
    Returns:
        The same, but `{"$secret": id}` for each secret in clear, also for one that is the default in a reference.
    """
    return {key: _redact(value, (key,), shape, store) for key, value in document.items()}


def _redact(value: Any, path: KeyPath, shape: Shape, store: SecretStore) -> Any:  # Any: JSON
    if isinstance(value, dict):
        return {key: _redact(item, (*path, key), shape, store) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, (*path, position), shape, store) for position, item in enumerate(value)]
    if value == "" or isinstance(value, bool) or not shape.is_secret(path, value):
        return value
    text = str(value)
    return text if tells_nothing(text) else {"$secret": store.id_of(path, text)}


def tells_nothing(text: str) -> bool:
    """Tell whether a text is made of references only, without a default that could be a secret itself."""
    for scheme in SCHEMES:
        text = text.removeprefix(scheme)
    try:
        found = list(parts(text))
    except ValueError:
        return False
    return bool(found) and all(isinstance(part, Reference) and not part.default for part in found)


def secret_values(loaded: Loaded) -> set[str]:
    """List every secret that the running configuration holds, for a redactor to know.

    Raises:
        ConfigError: a key file went away since the configuration was validated.
    """
    found = set(_secret_texts(loaded.document.values, (), loaded.shape))
    for provider in loaded.settings.providers.values():
        if provider.api_key_file:
            found.add(credential(provider) or "")
    return found - {""}


def _secret_texts(value: object, path: KeyPath, shape: Shape) -> Iterator[str]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _secret_texts(item, (*path, key), shape)
    elif isinstance(value, str) and shape.is_secret(path, value):
        yield value
        yield value.rpartition(" ")[2]
        yield from _userinfo(value)


def _userinfo(text: str) -> Iterator[str]:
    try:
        password = urlsplit(text).password or ""
    except ValueError:
        return
    yield password
    yield unquote(password)
