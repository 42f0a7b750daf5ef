"""Documents without their secrets: references stay as they are, secrets in clear become random ids, and back."""

import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from proxy.config.credentials import credentials
from proxy.config.expand import Reference, parts
from proxy.config.loader import Loaded
from proxy.config.shape import KeyPath, Shape

BARE_ADDRESS: Final = re.compile(r"[a-z]+://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?/?\d*|unix:///[^@?]*")
"""Of a server, with nothing to hide: were it a secret, logs could not say which server is down."""

SCHEMES = ("Bearer ", "Basic ")
"""What may stand before a reference and still tell nothing."""


ID: Final = "$secret"
"""The key of the mapping that stands for a secret: `{"$secret": id}`."""

Secrets = dict[str, tuple[KeyPath, str]]
"""By id: the place for which it was made, and the text that was written there."""


class SecretStore:
    """Which id stands for which secret.

    Args:
        known: what an earlier process knew.
    """

    def __init__(self, known: Mapping[str, tuple[KeyPath, str]] | None = None) -> None:
        self.known: Secrets = dict(known or {})
        self._ids = {place: secret_id for secret_id, place in self.known.items()}

    def id_of(self, path: KeyPath, text: str) -> str:
        """Give the id of a secret at a place, the same at each call; it is random and tells nothing of the secret."""
        if (path, text) not in self._ids:
            new = secrets.token_hex(8)
            self._ids[path, text] = new
            self.known[new] = (path, text)
        return self._ids[path, text]

    def knows(self, path: KeyPath, text: str) -> bool:
        """Tell whether a text was a secret at a place: it is still one if the plugin that says so is gone."""
        return (path, text) in self._ids

    def text_of(self, secret_id: str) -> str | None:
        """Give what was written in the document where an id stands now, None for an unknown id."""
        found = self.known.get(secret_id)
        return found[1] if found else None

    def keep(self, ids: Collection[str]) -> None:
        """Forget all but these."""
        self.known = {secret_id: place for secret_id, place in self.known.items() if secret_id in ids}
        self._ids = {place: secret_id for secret_id, place in self.known.items()}

    def fork(self) -> "SecretStore":
        """Copy it for a change that may come to nothing."""
        return SecretStore(self.known)


def redact(document: Mapping[str, Any], shape: Shape, store: SecretStore) -> dict[str, Any]:  # Any: JSON
    """Copy a document for showing.

    Args:
        document: with references as written, never expanded.
    Returns:
        The same, but `{"$secret": id}` for each secret in clear, also for one that is the default in a reference.
    """
    return {key: _redact(value, (key,), shape, store) for key, value in document.items()}


def _redact(value: Any, path: KeyPath, shape: Shape, store: SecretStore) -> Any:  # Any: JSON
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: _redact(item, (*path, key), shape, store) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact(item, (*path, position), shape, store) for position, item in enumerate(value)]
    if value == "" or isinstance(value, bool):
        return value
    text = str(value)
    if not (shape.is_secret(path, value) or store.knows(path, text)):
        return value
    return text if tells_nothing(text) else {ID: store.id_of(path, text)}


def reveal(value: Any, store: SecretStore, unknown: list[tuple[KeyPath, str]], path: KeyPath = ()) -> Any:  # Any: JSON
    """Undo `redact`: copy a document with the secrets where their ids stand.

    Args:
        unknown: gets the place and the id of each one that the store does not know; it stays as it is.
    """
    if isinstance(value, dict):
        if value.keys() == {ID} and isinstance(secret_id := value[ID], str):
            if (text := store.text_of(secret_id)) is not None:
                return text
            unknown.append((path, secret_id))
            return value
        return {key: reveal(item, store, unknown, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item, store, unknown, (*path, position)) for position, item in enumerate(value)]
    return value


def ids_in(value: object) -> Iterator[str]:
    """List the ids that a document or patch names."""
    if isinstance(value, dict):
        if isinstance(secret_id := value.get(ID), str):
            yield secret_id
        for item in value.values():
            yield from ids_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from ids_in(item)


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
            found.update(credentials(provider))
    return found - {""}


def _secret_texts(value: object, path: KeyPath, shape: Shape) -> Iterator[str]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _secret_texts(item, (*path, key), shape)
    elif isinstance(value, str) and shape.is_secret(path, value) and not BARE_ADDRESS.fullmatch(value):
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
