"""The admin routes under `/providers`: how each does, who would be asked for a model, and taking one out by hand."""

import re
from typing import Final
from urllib.parse import quote

from proxy.config.faults import nearest
from proxy.errors import ClientError
from proxy.exchange import Exchange, JsonObject, Request
from proxy.formats.registry import FORMATS
from proxy.pipeline import Pipeline
from proxy.plugin import AdminRequest, AdminRoute
from proxy.redaction import is_secret_name
from proxy.reload.configuration import Configuration
from proxy.server.orders import FLAGS, Answers
from proxy.values import parse_size, printable

HEADER: Final = "header."
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
PARAMETERS: Final = ("model", "format", "stream", "size")
EXAMPLE: Final = "/providers/explain?model=gpt-4o"


class ProviderRoutes:
    """Answers operators about providers."""

    def __init__(self, pipeline: Pipeline, configuration: Configuration, answers: Answers) -> None:
        self._pipeline = pipeline
        self._configuration = configuration
        self._answers = answers

    def routes(self) -> list[AdminRoute]:
        """List the routes."""
        return [
            AdminRoute("GET", "/providers/status", self._status, "Each provider as real traffic finds it."),
            AdminRoute("GET", "/providers/explain", self._explain, "Who would be asked for a model, and why."),
            AdminRoute("POST", "/providers/{name}/drain", self._drain, "Have a provider take no new calls."),
            AdminRoute("POST", "/providers/{name}/enable", self._enable, "Let it take calls again, all forgotten."),
        ]

    async def _status(self, request: AdminRequest) -> JsonObject:
        return self._pipeline.overview.providers()

    async def _explain(self, request: AdminRequest) -> JsonObject:
        exchange = self._asked(request)
        return self._pipeline.overview.explain(exchange)

    async def _drain(self, request: AdminRequest) -> JsonObject:
        name, loaded = request.params["name"], self._configuration.standing.loaded
        told = self._pipeline.overview.drain(name, request.author)
        return {**told, "undo": self._answers.curl(loaded, "POST", f"/providers/{quote(name, safe='')}/enable")}

    async def _enable(self, request: AdminRequest) -> JsonObject:
        return self._pipeline.overview.enable(request.params["name"], request.author)

    # -- a request that is not made ----------------------------------------------------------------------------------

    def _asked(self, request: AdminRequest) -> Exchange:
        """Make the exchange that the query describes.

        Raises:
            ClientError: a parameter is missing, unknown or cannot be read.
        """
        query = request.query
        for name in query:
            if name not in PARAMETERS and not name.startswith(HEADER):
                raise _unknown(name)
        if not (model := query.get("model", "")):
            raise _fault("model", f"name a model, an alias or provider/model, as in {EXAMPLE}")
        format_name, streams = query.get("format", "openai"), query.get("stream", "false").lower()
        if format_name not in FORMATS:
            raise _fault("format", f"is one of {', '.join(FORMATS)}")
        if streams not in FLAGS:
            raise _fault("stream", "is true or false")
        is_streaming = FLAGS[streams]
        operation_name = ("stream_generate" if is_streaming else "generate") if format_name == "gemini" else "chat"
        operation = FORMATS[format_name].operation(operation_name)
        inner = Request(
            operation,
            method="POST",
            path=operation.path.encode("ascii"),
            headers=[_header(name, value) for name, value in query.items() if name.startswith(HEADER)],
            body=bytes(self._size(query.get("size", "0"))),  # zeros that nobody touches take no memory
            document={"model": model, "stream": is_streaming},
            model=model,
            is_streaming=is_streaming,
        )
        exchange = Exchange(inner, id="explain", received_s=0.0, peer=request.peer)
        exchange.is_dry_run = True
        return exchange

    def _size(self, text: str) -> int:
        most = self._pipeline.generation.settings.server.client_max_size
        try:
            size_bytes = parse_size(text)
        except ValueError as error:
            raise _fault("size", str(error)) from None
        if size_bytes > most:
            raise _fault("size", f"is above server.clientMaxSize, which is {most} bytes: it would get 413")
        return size_bytes


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    """Read one header that the request would have. Raises ClientError."""
    header = name.removeprefix(HEADER)
    if not HEADER_NAME.fullmatch(header):
        raise _fault(name, f"name a header, as in {EXAMPLE}&header.X-Session-Id=a")
    if is_secret_name(header):
        raise _fault(name, "a secret has no place in a URL: who may see it in a log or a history is not known")
    if not value.isprintable():
        raise _fault(name, "has control characters")
    return header.encode("ascii"), value.encode("latin-1", "replace")


def _unknown(name: str) -> ClientError:
    if name in ("key", "apiKey", "api_key", "token"):
        return _fault(name, "a caller's key is not taken: secrets have no place in a URL")
    near = nearest(name, PARAMETERS)
    meant = f" (did you mean {near}?)" if near else f"; there are {', '.join(PARAMETERS)} and header.NAME"
    return _fault(name, f"is not known here{meant}")


def _fault(name: str, message: str) -> ClientError:
    return ClientError(f"?{printable(name)}: {message}")
