"""What no single key can tell: whether the core's settings fit together."""

from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.config.credentials import read_key_file
from proxy.config.document import dotted, read_regular_file
from proxy.config.environment import is_loopback
from proxy.config.faults import nearest, show
from proxy.config.models import ProviderSettings, Settings
from proxy.config.shape import KeyPath
from proxy.errors import ConfigError, Fault

Found = Iterator[tuple[KeyPath, Fault]]

MAX_CA_FILE_BYTES = 16 << 20


def check_settings(settings: Settings, host: str | None = None) -> list[tuple[KeyPath, Fault]]:
    """Find everything in valid settings that contradicts something else or the machine.

    Args:
        host: the address given on the command line, which goes before `server.host`.
    """
    found = list(_aliases(settings))
    found += _exposure(settings, settings.server.host if host is None else host)
    for name, provider in settings.providers.items():
        found += _files(name, provider)
    return found


def _fault(path: KeyPath, message: str, got: object = None) -> tuple[KeyPath, Fault]:
    return path, Fault(dotted(path), message, got)


def _aliases(settings: Settings) -> Found:
    for alias, targets in settings.models.items():
        if not targets:
            yield _fault(("models", alias), "has no target: name at least one provider/model")
        for position, target in enumerate(targets):
            path: KeyPath = ("models", alias, position)
            provider, slash, model = target.partition("/")
            if provider in settings.providers and slash and model:
                continue
            if target in settings.models:
                yield _fault(path, f"{show(target)} is itself an alias; name a provider/model", target)
            elif not slash or not model or not provider:
                yield _fault(path, f"{show(target)} is not of the form provider/model", target)
            else:
                near = nearest(provider, settings.providers)
                hint = f" (did you mean {near}?)" if near else ""
                yield _fault(path, f"{show(target)}: there is no provider {show(provider)}{hint}", target)


def _exposure(settings: Settings, host: str) -> Found:
    if settings.admin.token is None and not is_loopback(host):
        message = f"{show(host)} is not loopback, so admin.token must be set: others could change this proxy"
        yield _fault(("server", "host"), message, host)


def _files(name: str, provider: ProviderSettings) -> Found:
    path: KeyPath = ("providers", name)
    if provider.api_key_file:
        yield from _try((*path, "apiKeyFile"), read_key_file, provider.api_key_file)
    if provider.tls.ca_file:
        yield from _try((*path, "tls", "caFile"), _read_ca_file, provider.tls.ca_file)


def _try(path: KeyPath, read: Callable[[Path], object], file: str) -> Found:
    try:
        read(Path(file))
    except ConfigError as error:
        yield _fault(path, error.message, file)


def _read_ca_file(file: Path) -> None:
    try:
        read_regular_file(file, MAX_CA_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {(error.strerror or 'error').lower()}") from None
    except ValueError as error:
        raise ConfigError(f"{file} {error}") from None
