"""Which address a request comes from, where proxies that are trusted stand in between."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_HOPS = 32
"""Entries of X-Forwarded-For that are looked at: what stands before them is a client's invention."""

IPV6_SITE_BITS = 64
"""A site has all addresses of a /64, so that these count as one (RFC 6177, 2)."""


def client_address(peer: str, forwarded: bytes | None, trusted: Sequence[Network]) -> str:
    """Walk from the peer through X-Forwarded-For, right to left, over proxies that are trusted.

    Args:
        peer: of the TCP connection.
        forwarded: the value of X-Forwarded-For, several lines joined; None where there is none.
    Returns:
        The first address that is no trusted proxy's: what stands left of it, the client may have made up. A network
        /64 for IPv6. Text that is no address ends the walk at the hop that sent it.
    """
    current = _parse(peer)
    if current is None:
        return peer
    if forwarded is not None and _is_trusted(current, trusted):
        for entry in reversed(forwarded.rsplit(b",", MOST_HOPS)[-MOST_HOPS:]):
            address = _parse(_without_port(entry.decode("latin-1").strip()))
            if address is None:
                break
            current = address
            if not _is_trusted(current, trusted):
                break
    return _shown(current)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _without_port(text: str) -> str:
    """Strip what some proxies add: `192.0.2.1:1234`, `[2001:db8::1]:1234`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _shown(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    site = int(address) >> (128 - IPV6_SITE_BITS) << (128 - IPV6_SITE_BITS)
    return f"{IPv6Address(site)}/{IPV6_SITE_BITS}"
