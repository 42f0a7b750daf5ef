"""Where the running proxy is and which token it wants: from the options, the environment, or its configuration file."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from proxy.cli.client import check_url
from proxy.cli.commands import DEFAULT_CONFIG
from proxy.cli.exits import UNREACHABLE, Failed
from proxy.config.environment import is_loopback
from proxy.config.expand import expand

MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """A proxy to talk to.

    Args:
        token_problem: why the configuration file gave no token, for the case that the proxy wants one.
    """

    url: str
    token: str | None
    token_problem: str = ""


def find_proxy(options: argparse.Namespace, environ: Mapping[str, str]) -> Address:
    """Find the proxy and its token.

    The file's token goes to where the file itself leads, to this machine, and where `--config` names the file beside
    `--url`; a file that merely lies in the current folder gives its token to no other host.

    Raises:
        Failed: there is no running proxy, or no telling where it would be.
    """
    config: Path = getattr(options, "config", DEFAULT_CONFIG)
    named = getattr(options, "url", None) or environ.get("SWITCHYARD_URL")
    token = getattr(options, "token", None) or environ.get("PROXY_ADMIN_TOKEN")
    if named:
        is_trusted = hasattr(options, "config") or is_loopback(check_url(named).hostname or "")
        if token or not is_trusted:
            return Address(named, token)
        try:
            return Address(named, *_token_of(_read_config(config), config, environ))
        except ValueError as error:
            return Address(named, None, str(error))
    try:
        document = _read_config(config)
        folder = Path(_text_at(document, config, ("state", "dir"), environ) or "var")
    except ValueError as error:
        raise Failed(
            f"no telling where the proxy keeps its state: {error}\n{_how_to_go_on(config)}", UNREACHABLE
        ) from None
    url = _running_at(folder / "address.json", config)
    return Address(url, token) if token else Address(url, *_token_of(document, config, environ))


def _read_config(path: Path) -> dict[str, Any]:  # Any: JSON
    """Read a configuration as far as it is YAML; whether it is valid is the proxy's business.

    `proxy.config.document` would bring the models of all settings, which take a quarter of a second.

    Raises:
        ValueError: it cannot be read, in words that begin with its name.
    """
    try:
        document = YAML(typ="safe", pure=True).load(_read_file(path))
    except (YAMLError, RecursionError, IndexError, AttributeError, AssertionError, TypeError):
        # the YAML library lets the latter through on a few broken inputs
        raise ValueError(f"{path} is not valid YAML: `config validate {path}` tells the line") from None
    if document is not None and not isinstance(document, dict):
        raise ValueError(f"{path} is not a mapping of keys to values")
    return document or {}


def _read_file(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise ValueError(f"{path} is no regular file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def _text_at(
    document: dict[str, Any],  # Any: JSON
    config: Path,
    path: tuple[str, str],
    environ: Mapping[str, str],
) -> str:
    """Give a text of the document with its references replaced; empty where there is none.

    Raises:
        ValueError: a reference cannot be replaced.
    """
    section = document.get(path[0])
    value = section.get(path[1]) if isinstance(section, dict) else None
    if not isinstance(value, str | int):
        return ""
    try:
        return expand(str(value), environ)
    except ValueError as error:
        raise ValueError(f"{'.'.join(path)} of {config}: {error}") from None


def _token_of(
    document: dict[str, Any],  # Any: JSON
    config: Path,
    environ: Mapping[str, str],
) -> tuple[str | None, str]:
    try:
        return _text_at(document, config, ("admin", "token"), environ) or None, ""
    except ValueError as error:
        return None, str(error)


def _running_at(path: Path, config: Path) -> str:
    """Read the file that a proxy keeps while it listens: `{"url": str, "pid": int}`."""
    try:
        text = _read_file(path)
    except ValueError as error:
        reason = str(error) if path.exists() else f"{path.absolute()} does not exist"
        raise _not_running(reason, config) from None
    try:
        said = json.loads(text)
        url, pid = said["url"], said["pid"]
        check_url(url)
    except (ValueError, KeyError, TypeError, AttributeError, Failed):
        raise _not_running(f"{path.absolute()} holds no address", config) from None
    if not isinstance(pid, int) or pid <= 0:
        raise _not_running(f"{path.absolute()} names no process", config)
    if not _is_alive(pid):
        raise _not_running(f"the process {pid} that {path.absolute()} names has ended", config)
    return str(url)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _not_running(reason: str, config: Path) -> Failed:
    return Failed(f"no running proxy: {reason} (state.dir of {config})\n{_how_to_go_on(config)}", UNREACHABLE)


def _how_to_go_on(config: Path) -> str:
    option = "" if config == DEFAULT_CONFIG else f" --config {config}"
    return (
        f"start one: python -m proxy{option}\n"
        "or say where it is: --url http://127.0.0.1:8080 (or SWITCHYARD_URL), or --config with its file"
    )
