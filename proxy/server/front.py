"""The one entry of all requests: which side answers."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from proxy.errors import ClientError, HttpVersionUnsupported, MalformedHttp
from proxy.server.admin import AdminSide
from proxy.server.answers import SERVER, problem
from proxy.server.connection import ServerProtocol
from proxy.server.data import DataSide
from proxy.server.facts import HeaderFacts
from proxy.server.guard import Guard, host_name


class Front:
    """Hands each request to the admin side or the data side.

    Args:
        guard: the one of the settings in force.
    """

    def __init__(self, data: DataSide, admin: AdminSide, guard: Callable[[], Guard]) -> None:
        self._data = data
        self._quick = data.routes.quick
        self._admin = admin
        self._guard = guard

    def __call__(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        """Choose who answers a request; the known paths of the data side come first, because they are the hot ones."""
        protocol: ServerProtocol = request._protocol  # type: ignore[assignment]  # ConnectionServer makes no other kind
        protocol.begin()
        path, _, query = request.raw_path.partition("?")
        match = self._quick(request.method, path)
        if match is not None and request.version.major == 1:
            raw_query = query.encode("latin-1", "replace") if query else b""
            return self._data.handle(request, protocol, path, raw_query, match)
        return self._answer_other(request, protocol)

    async def _answer_other(self, request: web.BaseRequest, protocol: ServerProtocol) -> web.StreamResponse:
        try:
            return await self._answer(request, protocol)
        finally:
            protocol.end()

    async def _answer(self, request: web.BaseRequest, protocol: ServerProtocol) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        try:
            if request.version.major != 1:
                raise HttpVersionUnsupported("only HTTP/1.0 and HTTP/1.1 are served")
            fields = HeaderFacts(request.raw_headers).fields
            if not path.startswith("/"):
                path = own_path(path, fields)
        except ClientError as error:
            response = problem(error)
            response.force_close()
            return response
        found = self._admin.table.find(path)
        raw_query = query.encode("latin-1", "replace") if query else b""
        if found is not None:
            return await self._admin.handle(request, found, raw_query, fields, self._guard(), protocol.peer)
        if request.method == "OPTIONS" and b"access-control-request-method" in fields:
            return self._preflight(fields)
        return await self._data.handle(request, protocol, path, raw_query)

    def _preflight(self, fields: dict[bytes, bytes]) -> web.Response:
        """Answer a browser that asks before it calls (Fetch Standard, CORS-preflight)."""
        origin = self._guard().allowed_origin(fields)
        if origin is None:
            return web.Response(status=403, headers=SERVER)
        asked = fields.get(b"access-control-request-headers", b"").decode("latin-1")
        return web.Response(
            status=204,
            headers={
                **SERVER,
                "Access-Control-Allow-Origin": origin.decode("latin-1"),
                "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers": asked,
                "Access-Control-Max-Age": "600",
                "Vary": "Origin",
            },
        )


def own_path(target: str, fields: dict[bytes, bytes]) -> str:
    """Read the absolute form of a request target, if it names the same host as the Host header.

    Raises:
        MalformedHttp: another host, or no path: this proxy forwards to nobody but its providers.
    Source:
        RFC 9112, 3.2.2.
    """
    scheme, separator, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if scheme.lower() not in ("http", "https") or not separator:
        raise MalformedHttp("the request target is neither a path nor an http URL")
    if not host_name(authority) or host_name(authority) != host_name(fields.get(b"host", b"")):
        raise MalformedHttp("the request target and the Host header name different hosts")
    return slash + path if slash else "/"
