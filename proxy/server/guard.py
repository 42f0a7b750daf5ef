"""Who may call what: loopback, host names, browser marks, tokens."""

import hmac
import ipaddress
import re
from typing import Final

from proxy.config.models import Settings
from proxy.errors import Forbidden, Unauthorized

LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.", "ip6-localhost"})
FORWARDING_HEADERS: Final = (b"forwarded", b"x-real-ip", b"via")
FORWARDING_PREFIX: Final = b"x-forwarded-"
HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{0,5})?")
"""Host and port (RFC 9110, 7.2), without what no host name needs and two readers could read differently."""

OWN_SITES: Final = frozenset({b"same-origin", b"none"})
PREFETCH_HEADERS: Final = (b"purpose", b"sec-purpose", b"x-moz", b"x-purpose")


def is_loopback_address(address: str) -> bool:
    """Tell whether a peer's address is this machine's loopback, IPv4-mapped ones included."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def host_name(host: bytes | str) -> str:
    """Take the name out of a Host header or an authority: lower case, without port and brackets.

    Returns:
        An empty string for what is no host.
    """
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    found = HOST.fullmatch(text.lower())
    return (found[1] or found[2]) if found is not None else ""


def is_loopback_host(name: str) -> bool:
    """Tell whether a host name can only mean this machine."""
    return name in LOOPBACK_NAMES or name.endswith(".localhost") or is_loopback_address(name)


class Guard:
    """Decides for one revision of the settings; remembers peers and hosts that passed, because they repeat."""

    def __init__(self, settings: Settings) -> None:
        token = settings.admin.token
        self._token = token.get_secret_value().encode() if token is not None else None
        self._allowed_hosts = frozenset(name.lower() for name in settings.server.allowed_hosts)
        self._origins = frozenset(
            origin.lower().encode("latin-1", "replace") for origin in settings.server.allowed_origins
        )
        self._passed: set[tuple[str, bytes]] = set()

    @property
    def wants_token(self) -> bool:
        """Whether callers of the admin side must show a token."""
        return self._token is not None

    # -- the data side -----------------------------------------------------------------------------------------------

    def check_data(self, peer: str, fields: dict[bytes, bytes]) -> None:
        """Keep web pages from spending the operator's keys.

        Args:
            peer: address of the TCP peer.
            fields: request headers, names in lower case.
        Raises:
            Forbidden: the call was made by a foreign page, or under a name that is not this proxy's.
        """
        if b"origin" in fields or b"sec-fetch-site" in fields:
            self._check_browser(fields)
        host = fields.get(b"host", b"")
        if (peer, host) in self._passed:
            return
        if is_loopback_address(peer) and not self._is_own_host(host):
            raise Forbidden(
                f"the host {_shown(host)} is not this proxy's; add it to server.allowedHosts if it should be"
            )
        if len(self._passed) < 1000:
            self._passed.add((peer, host))

    def allowed_origin(self, fields: dict[bytes, bytes]) -> bytes | None:
        """Give the Origin of a call if `server.allowedOrigins` names it, for the CORS answer."""
        origin = fields.get(b"origin")
        if origin is None or not self._origins:
            return None
        return origin if origin.lower() in self._origins or b"*" in self._origins else None

    def _check_browser(self, fields: dict[bytes, bytes]) -> None:
        if self.allowed_origin(fields) is not None:
            return
        origin = fields.get(b"origin")
        if origin is not None and not self._is_same_origin(origin, fields.get(b"host", b"")):
            raise Forbidden(f"web pages of {_shown(origin)} may not call this proxy; see server.allowedOrigins")
        site = fields.get(b"sec-fetch-site")
        if site is not None and site.lower() not in OWN_SITES:
            raise Forbidden("other sites' web pages may not call this proxy; see server.allowedOrigins")

    def _is_same_origin(self, origin: bytes, host: bytes) -> bool:
        authority = origin.partition(b"://")[2]
        return authority.lower() == host.lower() and self._is_own_host(host)

    def _is_own_host(self, host: bytes) -> bool:
        name = host_name(host)
        return is_loopback_host(name) or name in self._allowed_hosts

    # -- the admin side ----------------------------------------------------------------------------------------------

    def is_admin(self, peer: str, fields: dict[bytes, bytes]) -> bool:
        """Tell whether a call may see everything, without raising."""
        try:
            self.check_admin(peer, fields)
        except (Forbidden, Unauthorized):
            return False
        return True

    def check_admin(self, peer: str, fields: dict[bytes, bytes]) -> None:
        """Let operators in: with the token, or without one from this machine.

        Raises:
            Unauthorized: a token is configured, and none or a wrong one was sent.
            Forbidden: no token is configured and the call is not from this machine, or a web page made it.
        """
        if self._token is not None:
            self._check_token(fields)
            return
        if not is_loopback_address(peer) or _is_forwarded(fields):
            raise Forbidden("without admin.token the admin side answers to callers on this machine only")
        if not self._is_own_host(fields.get(b"host", b"")):
            raise Forbidden(f"the host {_shown(fields.get(b'host', b''))} is not a loopback name (admin side)")
        origin = fields.get(b"origin")
        if origin is not None and not self._is_same_origin(origin, fields.get(b"host", b"")):
            raise Forbidden("web pages of other origins may not call the admin side")
        site = fields.get(b"sec-fetch-site")
        if (site is not None and site.lower() not in OWN_SITES) or any(name in fields for name in PREFETCH_HEADERS):
            raise Forbidden("other sites' web pages may not call the admin side")

    def _check_token(self, fields: dict[bytes, bytes]) -> None:
        scheme, _, sent = fields.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(sent.strip(), self._token or b""):
            raise Unauthorized("the admin side wants `Authorization: Bearer <admin.token>`")


def _is_forwarded(fields: dict[bytes, bytes]) -> bool:
    return any(name in FORWARDING_HEADERS or name.startswith(FORWARDING_PREFIX) for name in fields)


def _shown(value: bytes) -> str:
    return ascii(value.decode("latin-1")[:100])
