"""The admin side: one table of routes, the guard in front of it, JSON in and out."""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import orjson
from aiohttp import web

from proxy.errors import (
    ClientError,
    ConfigError,
    Fault,
    MalformedBody,
    MethodNotAllowed,
    ProxyError,
    UnsupportedMedia,
    out_of_memory,
)
from proxy.events import Events
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.server.answers import SERVER, problem
from proxy.server.body import admit, collect
from proxy.server.guard import Guard

MAX_ADMIN_BODY_BYTES: Final = 1 << 20
LIMIT_NAME: Final = "of the admin side"
BODY_IDLE_S: Final = 10.0


TAIL: Final = "__tail"

JSON_TYPES: Final = frozenset({"", "application/json", "text/json"})
FORM_TYPE: Final = "application/x-www-form-urlencoded"
"""What curl -d says of any body."""
BROWSER_HEADERS: Final = (b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest")


def _group(part: str) -> str:
    """Make the part of a pattern for `name` or `name...`."""
    name = part.removesuffix("...")
    return f"(?P<{name}>[^/]+)" if name == part else f"(?P<{name}{TAIL}>.+)"


def _part(name: str, value: str) -> str:
    return value if name.endswith(TAIL) else unquote(value)


def check_media_type(fields: Mapping[bytes, bytes]) -> None:
    """Take JSON, under whatever name, and what curl -d sends; a form that a browser sends is none of ours.

    Raises:
        UnsupportedMedia: another type.
    """
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind in JSON_TYPES or (kind.startswith("application/") and kind.endswith("+json")):
        return
    if kind == FORM_TYPE and not any(name in fields for name in BROWSER_HEADERS):
        return
    raise UnsupportedMedia(f"the body is {kind[:100]!a}; this path takes application/json")


def read_query(query: bytes) -> dict[str, str]:
    """Read query parameters.

    Raises:
        ClientError: one is repeated: of `?dryRun=true&dryRun=false` nobody should have to guess which counts.
    """
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ClientError("a query parameter is repeated")
    return found


class AdminTable:
    """Finds the route of a path.

    Raises:
        ConfigError: two routes want the same method and path.
    """

    def __init__(self, routes: Iterable[AdminRoute]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, dict[str, AdminRoute]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, AdminRoute]]] = {}
        for route in self.routes:
            methods = self._methods_of(route.path)
            if route.method in methods:
                message = f"two admin routes want {route.method} {route.path}"
                raise ConfigError(message, [Fault("plugins", message)])
            methods[route.method] = route

    def _methods_of(self, path: str) -> dict[str, AdminRoute]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        if path not in self._patterns:
            parts = re.split(r"\{(\w+(?:\.\.\.)?)\}", path)
            pattern = "".join(re.escape(part) if i % 2 == 0 else _group(part) for i, part in enumerate(parts))
            self._patterns[path] = re.compile(pattern), {}
        return self._patterns[path][1]

    def find(self, path: str) -> tuple[dict[str, AdminRoute], dict[str, str]] | None:
        """Find the routes of a path by method, and what its `{name}` parts stand for; None if there are none.

        What `{name...}` stands for may hold slashes, and is left as it is on the wire.
        """
        if (methods := self._exact.get(path)) is not None:
            return methods, {}
        if path.endswith("/") and len(path) > 1:
            return self.find(path.rstrip("/"))
        for pattern, methods in self._patterns.values():
            if (found := pattern.fullmatch(path)) is not None:
                params = found.groupdict()
                return methods, {name.removesuffix(TAIL): _part(name, value) for name, value in params.items()}
        return None


class AdminSide:
    """Answers operators."""

    def __init__(self, table: AdminTable, events: Events) -> None:
        self.table = table
        self._events = events

    async def handle(
        self,
        request: web.BaseRequest,
        found: tuple[dict[str, AdminRoute], dict[str, str]],
        query: bytes,
        fields: Mapping[bytes, bytes],
        guard: Guard,
        peer: str,
    ) -> web.StreamResponse:
        """Answer one call; every error becomes problem+json."""
        methods, params = found
        try:
            route = methods.get(request.method) or (methods.get("GET") if request.method == "HEAD" else None)
            if any(one.policy == "admin" for one in methods.values()):
                guard.check_admin(peer, dict(fields))
            if route is None:
                raise MethodNotAllowed(f"{request.method} is not served here", sorted(methods))
            call = await self._call(request, params, query, fields, peer, guard.wants_token)
            return self._answer(await route.handler(call))
        except ProxyError as error:
            return problem(error)
        except MemoryError:
            return problem(out_of_memory())
        except Exception as error:  # a defect in a handler: told, never shown in detail
            path = request.raw_path.partition("?")[0]
            self._events.emit("ERROR", "admin_failed", f"{request.method} {path} failed: {error!r}")
            return problem(ProxyError("internal error; the log has more"))

    @staticmethod
    async def _call(
        request: web.BaseRequest,
        params: dict[str, str],
        query: bytes,
        fields: Mapping[bytes, bytes],
        peer: str,
        is_trusted: bool,
    ) -> AdminRequest:
        body: object = None
        if request.can_read_body:
            admit(request, dict(fields), MAX_ADMIN_BODY_BYTES, LIMIT_NAME)
            raw = await collect(request.content, MAX_ADMIN_BODY_BYTES, BODY_IDLE_S, LIMIT_NAME)
            if raw.strip():
                check_media_type(fields)
                try:
                    body = orjson.loads(raw)
                except orjson.JSONDecodeError as error:
                    raise MalformedBody(f"the body is not JSON: line {error.lineno}, column {error.colno}") from None
        return AdminRequest(
            method=request.method,
            path=request.raw_path.partition("?")[0],
            params=params,
            query=read_query(query),
            body=body,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in fields.items()},
            peer=peer,
            is_trusted=is_trusted,  # by the guard that let it in: a token may be set while the body arrives
        )

    @staticmethod
    def _answer(result: object) -> web.Response:
        reply = result if isinstance(result, AdminReply) else AdminReply(result)
        if isinstance(reply.body, bytes | str):
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        else:
            body = orjson.dumps(reply.body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        headers = {"Content-Type": reply.content_type, "Cache-Control": "no-store", **SERVER, **dict(reply.headers)}
        return web.Response(body=body, status=reply.status, headers=headers)
