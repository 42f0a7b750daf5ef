"""What a call may not do to the configuration, valid as it may be: reach for secrets, run new code, move the state."""

from collections.abc import Iterator, Sequence
from typing import Final

from proxy.config.document import dotted
from proxy.config.expand import names_in
from proxy.config.loader import Document
from proxy.config.models import BUILT_IN_PLUGINS
from proxy.config.patch import Json
from proxy.config.shape import KeyPath
from proxy.config.standing import Standing
from proxy.errors import Fault

FILE_KEYS: Final = frozenset({"apiKeyFile", "caFile"})


def trespasses(standing: Standing, wanted: Document, plugins: Sequence[str], *, is_trusted: bool) -> list[Fault]:
    """List what only the configuration file may say; to be asked before anything of it is loaded or validated.

    Args:
        plugins: the names that the wanted document lists.
        is_trusted: the caller has shown a token; without one, whoever reaches this machine's loopback could send the
            environment's secrets or files' contents to a provider of their own.
    """
    found = [*_moved_state(standing, wanted), *_foreign_plugins(standing, plugins)]
    return found if is_trusted else [*found, *_reached_for(standing, wanted.raw)]


def _moved_state(standing: Standing, wanted: Document) -> Iterator[Fault]:
    state = wanted.values.get("state")
    folder = state.get("dir") if isinstance(state, dict) else None
    if folder is not None and folder != standing.loaded.settings.state.dir:
        yield Fault("state.dir", "can be changed in the file only: live changes are kept in this folder", folder)


def _foreign_plugins(standing: Standing, plugins: Sequence[str]) -> Iterator[Fault]:
    listed = standing.base.get("plugins")
    allowed = {*BUILT_IN_PLUGINS, *standing.loaded.settings.plugins, *(listed if isinstance(listed, list) else ())}
    for position, name in enumerate(plugins):
        if name not in allowed:
            message = f"{name} is not built in, so that only the file may name it: it is code that would run"
            yield Fault(f"plugins.{position}", message, name)


def _reached_for(standing: Standing, wanted: Json) -> Iterator[Fault]:
    known = [found for document in (standing.base, standing.document) for found in _texts(document, ())]
    variables = {name for _, text in known for name in names_in(text)}
    files = {text for path, text in known if path[-1] in FILE_KEYS}
    for path, text in _texts(wanted, ()):
        for name in names_in(text):
            if name not in variables:
                message = f"the file does not name the variable {name}; without admin.token a call may not either"
                yield Fault(dotted(path), message, text)
        if path[-1] in FILE_KEYS and text not in files:
            message = "the configuration does not name this file; without admin.token a call may not either"
            yield Fault(dotted(path), message, text)


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(item, (*path, key))
    elif isinstance(value, str):
        yield path, value
