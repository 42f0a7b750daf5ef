"""What a call may not do to the configuration, valid as it may be: reach for secrets, run new code, move the state."""

from collections.abc import Iterator, Sequence
from typing import Final

from proxy.config.document import dotted
from proxy.config.expand import names_in
from proxy.config.loader import Document
from proxy.config.models import BUILT_IN_PLUGINS
from proxy.config.patch import Json
from proxy.config.secrets import ID
from proxy.config.sent import at
from proxy.config.shape import KeyPath
from proxy.config.standing import Standing
from proxy.errors import Fault

FILE_KEYS: Final = frozenset({"apiKeyFile", "caFile"})
STATE_DIR: Final = ("state", "dir")


def reaches(standing: Standing, sent: Json, wanted: Json, *, is_trusted: bool) -> list[Fault]:
    """List the secrets that a call reaches for; to be asked before any reference in it is replaced.

    Whoever reaches this machine's loopback may write where no token is configured. They may point a provider that is
    there elsewhere, as the operator may; they get no variable and no file that the configuration does not name, and
    nobody gets a secret shown by moving it to a place that is.

    Args:
        sent: the whole document with ids where secrets stand.
        wanted: the same with the secrets.
        is_trusted: the caller has shown a token.
    """
    shape = standing.loaded.shape
    found = [
        Fault(dotted(path), "what is shown here is no secret, so that no secret may stand here")
        for path, _ in _ids(sent, ())
        if not shape.is_secret(path, at(wanted, path))
    ]
    return found if is_trusted else [*found, *_reached_for(standing, wanted)]


def trespasses(standing: Standing, wanted: Document, plugins: Sequence[str]) -> list[Fault]:
    """List what only the configuration file may say; to be asked before anything of it is loaded.

    Args:
        plugins: the names that the wanted document lists.
    """
    return [*_moved_state(standing, wanted), *_foreign_plugins(standing, wanted, plugins)]


def _moved_state(standing: Standing, wanted: Document) -> Iterator[Fault]:
    if at(wanted.values, STATE_DIR) not in (None, standing.loaded.settings.state.dir):
        message = "can be changed in the file only: live changes are kept in this folder"
        yield Fault("state.dir", message, at(wanted.raw, STATE_DIR))


def _foreign_plugins(standing: Standing, wanted: Document, plugins: Sequence[str]) -> Iterator[Fault]:
    listed = standing.base.get("plugins")
    allowed = {*BUILT_IN_PLUGINS, *standing.loaded.settings.plugins, *(listed if isinstance(listed, list) else ())}
    for position, name in enumerate(plugins):
        if name not in allowed:
            written = at(wanted.raw, ("plugins", position))
            message = f"{written} is not built in, so that only the file may name it: it is code that would run"
            yield Fault(f"plugins.{position}", message, written)


def _reached_for(standing: Standing, wanted: Json) -> Iterator[Fault]:
    shape = standing.loaded.shape
    known = {found for document in (standing.base, standing.document) for found in _texts(document, ())}
    variables = {name for _, text in known for name in names_in(text)}
    hidden = {name for path, text in known if "$" in text and shape.is_secret(path, text) for name in names_in(text)}
    files = {text for path, text in known if path[-1] in FILE_KEYS}
    for path, text in _texts(wanted, ()):
        if (path, text) in known:
            continue
        for name in names_in(text):
            if name not in variables:
                message = f"the file does not name the variable {name}; without admin.token a call may not either"
                yield Fault(dotted(path), message)
            elif name in hidden and not shape.is_secret(path, text):
                message = f"the variable {name} holds a secret; without admin.token it may not stand where it is shown"
                yield Fault(dotted(path), message)
        if path[-1] in FILE_KEYS and text not in files:
            message = "the configuration does not name this file; without admin.token a call may not either"
            yield Fault(dotted(path), message)


def _ids(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """List where ids of secrets stand."""
    if isinstance(value, dict) and value.keys() == {ID}:
        yield path, str(value[ID])
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _ids(item, (*path, key))


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))
    elif isinstance(value, str):
        yield path, value
