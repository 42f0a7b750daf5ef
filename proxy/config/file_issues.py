"""Issues of files: where the configuration in force differs from its file, and who can read the secrets in files."""

import shlex
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.config.document import dotted
from proxy.config.faults import show
from proxy.config.issue_patches import nested
from proxy.config.loader import Loaded
from proxy.config.patch import Change, Json, changes
from proxy.config.secrets import SecretStore, redact, tells_nothing
from proxy.config.shape import KeyPath, Shape
from proxy.plugin import Issue
from proxy.values import printable

MAX_DRIFTS: Final = 50


def file_issues(loaded: Loaded, base: Json, file: Path | None) -> Iterator[Issue]:
    """Compare a configuration with its file, and look who may read the files that hold secrets.

    Args:
        base: the file as it was last accepted.
        file: None where there is none.
    """
    yield from _drift(loaded, base)
    if file is not None:
        yield from _secret_in_clear(file, base, loaded.shape)
    for name, provider in loaded.settings.providers.items():
        if provider.api_key_file:
            yield from _key_file_readable(("providers", name, "apiKeyFile"), Path(provider.api_key_file))


def _mode(file: Path) -> int:
    """Ask who may do what with a file; 0, nobody, if it is not there. The only look at the disk."""
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return 0


def _drift(loaded: Loaded, base: Json) -> Iterator[Issue]:
    found = changes(base, loaded.document.raw)
    for change in islice(found, MAX_DRIFTS - 1):
        yield _one_drift(change, loaded.shape)
    rest = list(found)
    if len(rest) == 1:
        yield _one_drift(rest[0], loaded.shape)
    elif rest:
        message = f"{len(rest)} more places differ from the file"
        yield Issue("drift", "info", "", message, "only the first ones are listed; GET /deployments has them all")


def _one_drift(change: Change, shape: Shape) -> Issue:
    path = change.path
    now, then = _shown(change.new, path, shape), _shown(change.old, path, shape)
    message = f"{now} is in force, the file has {then}" if change.new is not None else f"the file has {then}, unused"
    why = "a live change goes before the file until this key is edited there; python -m proxy config export writes it"
    patch = nested(path, change.old)
    if change.old is not None and redact(patch, shape, SecretStore()) != patch:
        why += "; there is no patch, because it would show a secret of the file"
        return Issue("drift", "info", dotted(path), message, why)
    return Issue("drift", "info", dotted(path), message, why, patch=patch)


def _shown(value: object, path: KeyPath, shape: Shape) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a mapping of {', '.join(printable(str(key)) for key in value) or 'nothing'}"
    return show(value, secret=shape.is_secret(path, value) and not (isinstance(value, str) and tells_nothing(value)))


def _secret_in_clear(file: Path, base: Json, shape: Shape) -> Iterator[Issue]:
    found = list(_clear_secrets(base, (), shape))
    mode = _mode(file)
    if found and mode & (stat.S_IRGRP | stat.S_IROTH):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Issue(
            "secret_in_clear",
            "warning",
            dotted(found[0]),
            f"stands in clear{more} in {file}, which others may read (mode {mode:03o})",
            "every user of this machine who may read the file has the secret; a reference such as ${NAME}, or "
            "apiKeyFile, keeps it out of the file",
            command=f"chmod 600 {shlex.quote(str(file))}",
        )


def _clear_secrets(value: object, path: KeyPath, shape: Shape) -> Iterator[KeyPath]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _clear_secrets(item, (*path, key), shape)
    elif isinstance(value, str) and value and shape.is_secret(path, value):
        is_by_place = shape.is_secret(path)
        if not tells_nothing(value if is_by_place else _password(value)):
            yield path


def _password(url: str) -> str:
    """Take a password, or a user name that stands alone, out of a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts.password or parts.username or url


def _key_file_readable(path: KeyPath, file: Path) -> Iterator[Issue]:
    mode = _mode(file)
    if mode & stat.S_IROTH:
        yield Issue(
            "key_file_readable",
            "warning",
            dotted(path),
            f"{file} may be read by every user of this machine (mode {mode:03o})",
            "the key in it is everybody's here; in a container that runs one program this does no harm",
            command=f"chmod 600 {shlex.quote(str(file))}",
        )
