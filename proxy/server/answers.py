"""The only place that turns an error into a response."""

import math
from typing import Final

import orjson
from aiohttp import web

from proxy.errors import ConfigError, MethodNotAllowed, ProxyError, RevisionMismatch, Unauthorized

PROBLEM: Final = "application/problem+json"


SERVER: Final = {"Server": "switchyard"}
"""Instead of the versions that aiohttp would tell."""


def problem_body(error: ProxyError, request_id: str | None = None) -> bytes:
    """Write an error as the admin side tells it.

    Source: RFC 9457 (problem details); members `code`, `request_id`, `revision` and `errors` are ours.
    """
    document: dict[str, object] = {
        "type": "about:blank",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    if request_id is not None:
        document["request_id"] = request_id
    if isinstance(error, RevisionMismatch):
        document["revision"] = error.revision
    if isinstance(error, ConfigError) and error.faults:
        document["errors"] = [
            {"path": fault.path, "message": fault.message, "got": fault.got} for fault in error.faults
        ]
    return orjson.dumps(document)


def problem(error: ProxyError) -> web.Response:
    """Answer an error on the admin side."""
    headers = dict(SERVER)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allow)
    if isinstance(error, RevisionMismatch):
        headers["ETag"] = f'"{error.revision}"'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(body=problem_body(error), status=error.status, content_type=PROBLEM, headers=headers)


def plain_error(status: int, detail: str, code: str, retry_after_s: int | None = None) -> web.Response:
    """Answer what did not even become a request."""
    body = orjson.dumps(
        {"type": "about:blank", "title": code.replace("_", " "), "status": status, "detail": detail, "code": code}
    )
    headers = SERVER if retry_after_s is None else {**SERVER, "Retry-After": str(retry_after_s)}
    response = web.Response(body=body, status=status, content_type=PROBLEM, headers=headers)
    response.force_close()
    return response
