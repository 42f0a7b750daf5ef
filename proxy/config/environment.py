"""The process's environment: read here and nowhere else, and what it says about HTTP proxies."""

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit


def read_environment() -> dict[str, str]:
    """Copy the environment; called once, by `app`, which hands it on."""
    return dict(os.environ)


def proxy_for(url: str, setting: str, environ: Mapping[str, str]) -> str | None:
    """Find the HTTP proxy for one address.

    Args:
        url: what is to be reached.
        setting: a provider's `proxy`: a URL, `env` or `none`.
        environ: `https_proxy`, `http_proxy`, `all_proxy`, `no_proxy` count in both cases, lower case first.
    Returns:
        The proxy's URL, None to connect directly.
    Source:
        NO_PROXY as curl and Go read it: `*`, host names and the names below them, with or without a leading dot,
        addresses, networks as `10.0.0.0/8`, each with an optional `:port`.
    """
    if setting == "none":
        return None
    if setting != "env":
        return setting
    scheme = urlsplit(url).scheme
    found = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not found or bypasses_proxy(url, _variable(environ, "no_proxy")):
        return None
    return found if "://" in found else f"http://{found}"


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Tell whether a NO_PROXY list names the host of a URL; loopback always goes directly, as in Go."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in no_proxy.replace(",", " ").split())
    return any(_matches(entry, host, port, address) for entry in entries)


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    address = _address(host.strip("[]").lower())
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _matches(entry: str, host: str, port: int | None, address: _Address | None) -> bool:
    if entry == "*":
        return True
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    if address is not None:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return address.version == network.version and address in network
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        inside, _, rest = entry[1:].partition("]")
        return inside, int(rest[1:]) if rest.startswith(":") and rest[1:].isdecimal() else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isdecimal():
        return name, int(port)
    return entry, None


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
