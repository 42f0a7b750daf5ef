"""A configuration that is valid by itself, with the plugins it names loaded; nothing has been opened yet."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from proxy.config.document import MAX_FILE_BYTES, read_regular_file
from proxy.config.loader import Document, Loaded, plugin_names, read, validate
from proxy.config.secrets import secret_values
from proxy.host.loader import LoadedPlugin, config_models, load
from proxy.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Prepared:
    """A validated configuration with the plugins it names; nothing has been opened yet."""

    loaded: Loaded
    environ: Mapping[str, str]
    redactor: Redactor
    """Knows every secret of the configuration."""
    content: bytes | None = None
    """What the file held before it was read; None where it came from elsewhere."""


def plugins_of(document: Document) -> tuple[LoadedPlugin, ...]:
    """Load the plugins that a document names. Raises ConfigError."""
    return load(plugin_names(document))


def prepare(document: Document, environ: Mapping[str, str], host: str | None = None) -> Prepared:
    """Load the plugins a document names and validate all of it.

    Raises:
        ConfigError: with everything that is wrong.
    """
    loaded = validate(document, config_models(plugins_of(document)), host=host)
    return Prepared(loaded, environ, Redactor(secret_values(loaded)))


def prepare_file(path: Path, environ: Mapping[str, str], host: str | None = None) -> Prepared:
    """Read a file and prepare it; see `prepare`."""
    content: bytes | None = None
    with suppress(OSError, ValueError):  # `read` tells what is wrong with the file
        content = read_regular_file(path, MAX_FILE_BYTES)
    return replace(prepare(read(path, environ), environ, host), content=content)
