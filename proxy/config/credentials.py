"""A provider's keys, from the document or from a mounted file."""

from pathlib import Path

from proxy.config.document import read_regular_file
from proxy.config.models import ProviderSettings, check_key
from proxy.errors import ConfigError

MAX_KEY_FILE_BYTES = 64 << 10


def credentials(provider: ProviderSettings) -> tuple[str, ...]:
    """Give the keys held for a provider, none where the client's own is passed on.

    Reads `apiKeyFile` anew at each call, so that a rotated secret is found at the next change of configuration.

    Raises:
        ConfigError: the file is no key file; its content is never repeated.
    """
    if provider.api_key is not None:
        return (provider.api_key.get_secret_value(),)
    if provider.api_key_file:
        return (read_key_file(Path(provider.api_key_file)),)
    return tuple(key.get_secret_value() for key in provider.api_keys)


def read_key_file(path: Path) -> str:
    """Read a key: one line of visible ASCII in a regular file, or a link to one as container platforms mount it.

    Raises:
        ConfigError: unreadable, not regular, too large, or not one line of ASCII (so never /etc/passwd).
    """
    try:
        text = read_regular_file(path, MAX_KEY_FILE_BYTES).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or 'error').lower()}") from error
    except ValueError as error:
        raise ConfigError(f"{path} {error}") from None
    key = text.removesuffix("\n").removesuffix("\r")
    if not key:
        raise ConfigError(f"{path} is empty")
    try:
        return check_key(key)
    except ValueError as error:
        raise ConfigError(f"{path} holds no key: {error}") from None
