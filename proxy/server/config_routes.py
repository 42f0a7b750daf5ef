"""The admin routes under `/config`: read, check, change, and back to the file."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import unquote

import orjson

from proxy.config.edits import Edit, Keys, deleting, merging, patching, place, replacing
from proxy.config.export import MARKER, mark
from proxy.config.schema import schema
from proxy.errors import ConfigError, Fault, MalformedBody
from proxy.exchange import JsonObject
from proxy.plugin import AdminReply, AdminRequest, AdminRoute
from proxy.reload.configuration import Configuration
from proxy.server.orders import Answers, body_of, order_of

JSON_PATCH: Final = "application/json-patch+json"
CUT: Final = "cut export: PATCH to merge, PUT to replace"


class ConfigRoutes:
    """Answers operators about the configuration.

    Args:
        wall_clock: seconds since 1970.
        forget: empties what was learned, counted and kept of requests, given who says so; tells what that was.
    """

    def __init__(
        self,
        configuration: Configuration,
        answers: Answers,
        wall_clock: Callable[[], float],
        forget: Callable[[str], Awaitable[JsonObject]],
    ) -> None:
        self._forget = forget
        self._configuration = configuration
        self._answers = answers
        self._wall_clock = wall_clock

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        below = "/config/{path...}"
        return [
            AdminRoute("GET", "/config", self._show, "The configuration in force, secrets removed."),
            AdminRoute("POST", "/config", self._merge_or_restore, "Merge into it, or restore a whole export."),
            AdminRoute("PATCH", "/config", self._merge, "Merge into it (RFC 7396), or a JSON Patch (RFC 6902)."),
            AdminRoute("PUT", "/config", self._replace, "Replace it."),
            AdminRoute("GET", "/config/validate", self._validate_running, "Check the configuration in force."),
            AdminRoute("POST", "/config/validate", self._validate, "Check a whole candidate; changes nothing."),
            AdminRoute("GET", "/config/issues", self._issues, "What is worth mending, each with the call that does."),
            AdminRoute("GET", "/config/schema", self._schema, "The JSON Schema of the configuration."),
            AdminRoute("GET", below, self._show_part, "A section, or a key of it."),
            AdminRoute("PATCH", below, self._merge, "Merge into a part."),
            AdminRoute("PUT", below, self._replace, "Replace a part."),
            AdminRoute("DELETE", below, self._delete, "Take a part away: its default counts."),
            AdminRoute("POST", "/reset", self._reset, "Drop every live change and every cooldown."),
        ]

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _show(self, request: AdminRequest) -> AdminReply:
        standing = self._configuration.standing
        body = mark(standing.shown, revision=standing.revision, time_s=self._wall_clock())
        return AdminReply(body, headers=(self._etag(),))

    async def _show_part(self, request: AdminRequest) -> AdminReply:
        found = place(self._configuration.standing.shown, _path(request))
        body = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)  # text is JSON here too
        return AdminReply(body, headers=(self._etag(),))

    async def _validate_running(self, request: AdminRequest) -> AdminReply:
        standing = self._configuration.standing
        issues = await self._answers.issues(standing.loaded)
        return AdminReply({"valid": True, "revision": standing.revision, "issues": issues}, headers=(self._etag(),))

    async def _issues(self, request: AdminRequest) -> AdminReply:
        standing = self._configuration.standing
        return AdminReply({"revision": standing.revision, "issues": await self._answers.issues(standing.loaded)})

    async def _schema(self, request: AdminRequest) -> AdminReply:
        document = schema(self._configuration.standing.loaded.shape)
        return AdminReply(document, content_type="application/schema+json")

    async def _validate(self, request: AdminRequest) -> object:
        body = body_of(request)
        if not isinstance(body, dict):
            raise MalformedBody("a whole configuration is a JSON object")
        candidate = {key: value for key, value in body.items() if key != MARKER}
        order = replace(order_of(request, "api", is_trusted=request.is_trusted), is_dry_run=True)
        outcome = await self._configuration.change(replacing((), candidate), order)
        return {
            "valid": True,
            "diff": list(outcome.diff),
            "issues": await self._answers.issues(outcome.loaded),
            "restartNeeded": self._answers.restart_needed(outcome.loaded),
        }

    # -- changing ----------------------------------------------------------------------------------------------------

    async def _merge(self, request: AdminRequest) -> AdminReply:
        path, body = _path(request), body_of(request)
        if _media_type(request) == JSON_PATCH:
            return await self._change(request, patching(path, body))
        if not path and isinstance(body, dict) and MARKER in body:
            message = "an export is whole: PUT it to replace, or take $export out to merge"
            raise ConfigError(f"{MARKER}: {message}", [Fault(MARKER, message)])
        return await self._change(request, merging(path, body))

    async def _merge_or_restore(self, request: AdminRequest) -> AdminReply:
        body = request.body
        if _media_type(request) == JSON_PATCH or not isinstance(body, dict) or MARKER not in body:
            return await self._merge(request)
        marker, document = body[MARKER], {key: value for key, value in body.items() if key != MARKER}
        if not isinstance(marker, dict) or _names(marker) != sorted(document):
            raise ConfigError(f"{MARKER}: {CUT}", [Fault(MARKER, CUT)])
        return await self._change(request, replacing((), document), is_whole=True)

    async def _replace(self, request: AdminRequest) -> AdminReply:
        path, body = _path(request), body_of(request)
        if not path and isinstance(body, dict):
            body = {key: value for key, value in body.items() if key != MARKER}
        return await self._change(request, replacing(path, body), is_whole=not path)

    async def _delete(self, request: AdminRequest) -> AdminReply:
        return await self._change(request, deleting(_path(request)))

    async def _reset(self, request: AdminRequest) -> AdminReply:
        order = order_of(request, "reset", is_trusted=request.is_trusted)
        outcome = await self._configuration.reset(order)
        undo = self._answers.curl(outcome.loaded, "POST", f"/deployments/{outcome.previous}/rollback")
        forgotten = None if order.is_dry_run else await self._forget(order.author)
        return await self._answers.change(outcome, order, snapshot=outcome.previous, undo=undo, forgotten=forgotten)

    async def _change(self, request: AdminRequest, edit: Edit, *, is_whole: bool = False) -> AdminReply:
        order = replace(order_of(request, "api", is_trusted=request.is_trusted), is_whole=is_whole)
        return await self._answers.change(await self._configuration.change(edit, order), order)

    def _etag(self) -> tuple[str, str]:
        return "ETag", f'"{self._configuration.standing.revision}"'


def _names(marker: dict[str, Any]) -> list[str] | None:  # Any: JSON
    names = marker.get("sections")
    return sorted(map(str, names)) if isinstance(names, list) else None


def _path(request: AdminRequest) -> Keys:
    path: Any = request.params.get("path", "")
    return tuple(unquote(part) for part in path.split("/")) if path else ()


def _media_type(request: AdminRequest) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
