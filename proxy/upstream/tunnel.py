"""A tunnel through an HTTP proxy by CONNECT (RFC 9110, 9.3.6)."""

import asyncio
import base64
import re
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from proxy.errors import ConfigError, UpstreamConnect

MAX_ANSWER_BYTES: Final = 16 << 10
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """An HTTP proxy between us and a provider; `authorization` is the whole header line, or empty."""

    host: str
    port: int
    authorization: bytes = b""

    @staticmethod
    def parse(url: str) -> "ForwardProxy":
        """Read a URL such as `http://user:pass@proxy.example:3128`.

        Raises:
            ConfigError: not such a URL; proxies that are themselves reached by TLS are not supported.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
            parts = urlsplit("")
        if parts.scheme != "http" or not host:
            shown = f"{parts.scheme or '?'}://…"  # the rest may hold a password
            raise ConfigError(f"proxy: {shown} is not of the form http://[user:password@]host:port")
        authorization = b""
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            authorization = b"Proxy-Authorization: Basic " + base64.b64encode(user) + b"\r\n"
        return ForwardProxy(host, port or 80, authorization)


async def open_tunnel(sock: socket.socket, proxy: ForwardProxy, authority: str, provider: str) -> None:
    """Ask the proxy at the other end of `sock` for a tunnel to `authority` (`host:port`).

    Raises:
        UpstreamConnect: it refused, naming its status; or it did not answer in HTTP.
    """
    loop = asyncio.get_running_loop()
    where = f"{provider}: proxy {proxy.host}:{proxy.port}"
    target = authority.encode("idna" if not authority.isascii() else "ascii")
    try:
        await loop.sock_sendall(
            sock, b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, proxy.authorization)
        )
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            if len(answer) > MAX_ANSWER_BYTES:
                raise UpstreamConnect(
                    f"{where} answered CONNECT with more than {MAX_ANSWER_BYTES} bytes", provider=provider
                )
            data = await loop.sock_recv(sock, 4096)
            if not data:
                raise UpstreamConnect(f"{where} closed the connection instead of answering CONNECT", provider=provider)
            answer += data
    except OSError as exc:
        raise UpstreamConnect(f"{where} broke off CONNECT: {exc.strerror}", provider=provider) from exc
    line = _STATUS_LINE.match(answer)
    if line is None or (end + 4 != len(answer) and line[1].startswith(b"2")):
        raise UpstreamConnect(f"{where} did not answer CONNECT as HTTP", provider=provider)
    if not line[1].startswith(b"2"):
        raise UpstreamConnect(f"{where} answered CONNECT {authority} with {int(line[1])}", provider=provider)
