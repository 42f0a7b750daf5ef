"""Asking the running proxy: one HTTP request, one JSON answer, every failure in plain words."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import SplitResult, urlencode, urlsplit

from proxy import __version__
from proxy.cli.exits import UNREACHABLE, USAGE, Failed

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy said.

    Args:
        document: the JSON of the body.
    """

    status: int
    document: Any  # Any: JSON


class Client:
    """Talks to one proxy, directly: HTTP proxies of the environment are for the way to providers, and not used here.

    Args:
        url: where it is; a path in it goes before every path that is asked for.
        token: for `Authorization: Bearer`.
        timeout_s: for the connection, for each silence, and for the whole answer.
    Raises:
        Failed: the URL or the token cannot be one.
    """

    def __init__(self, url: str, token: str | None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._parts = check_url(url)
        if token is not None and not (token.isascii() and token.isprintable()):
            raise Failed("the admin token has characters that no token has", USAGE)
        self._token = token
        self._timeout_s = timeout_s

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
    ) -> Answer:
        """Send one request.

        Args:
            body: sent as JSON; None sends none.
        Returns:
            The answer, whatever its status.
        Raises:
            Failed: nobody answered in time, or not in JSON.
        """
        target = self._parts.path.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        fields = {"Accept": "application/json", "User-Agent": f"switchyard/{__version__}", **(headers or {})}
        if self._token:
            fields["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            fields["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, target, data, {name: value.encode() for name, value in fields.items()})
            status, text = self._read(connection)
        except (OSError, HTTPException) as error:
            raise self._no_answer(error, method) from None
        finally:
            connection.close()
        return Answer(status, self._parse(status, text))

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)

    def _read(self, connection: HTTPConnection) -> tuple[int, bytes]:
        end_s = time.monotonic() + self._timeout_s
        data = bytearray()
        with connection.getresponse() as response:
            while piece := response.read1(1 << 16):
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise HTTPException(f"the answer is larger than {MAX_ANSWER_BYTES:,} bytes")
                if time.monotonic() > end_s:
                    raise TimeoutError
            if response.length:  # read1 ends quietly where the connection does
                raise HTTPException("the answer breaks off")
            return response.status, bytes(data)

    def _parse(self, status: int, text: bytes) -> Any:  # Any: JSON
        if 300 <= status < 400:
            raise Failed(f"{self.url} redirects elsewhere ({status}); give the proxy's own --url", UNREACHABLE)
        try:
            return json.loads(text)
        except ValueError:
            raise Failed(f"{self.url} answers {status}, but not in JSON: is it a Switchyard?", UNREACHABLE) from None

    def _no_answer(self, error: OSError | HTTPException, method: str) -> Failed:
        if isinstance(error, TimeoutError):
            message = f"the proxy at {self.url} did not answer within {self._timeout_s:g} s"
        elif isinstance(error, ConnectionRefusedError):
            return Failed(f"no proxy listens at {self.url}: connection refused", UNREACHABLE)
        else:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"no answer from {self.url}: {(reason or str(error) or type(error).__name__).lower()}"
        if method != "GET":
            message += "\nwhether it has done what was asked is not known: look at `deployments list`"
        return Failed(message, UNREACHABLE)


def check_url(url: str) -> SplitResult:
    """Take the address of a proxy apart.

    Raises:
        Failed: it is none; a password in it is not repeated.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or " " in url:
        raise Failed("the proxy's URL must be like http://127.0.0.1:8080", USAGE)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise Failed("the proxy's URL must have no user name, query or fragment; a token goes by --token", USAGE)
    return parts
