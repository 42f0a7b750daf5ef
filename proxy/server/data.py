"""The data side: from a client's request to an exchange, and into the pipeline."""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from proxy.errors import Draining, MalformedBody, Overloaded, ProxyError, out_of_memory
from proxy.exchange import Exchange, Operation, Request
from proxy.formats.json_body import parse_object
from proxy.formats.registry import FORMATS
from proxy.pipeline import Pipeline
from proxy.server.body import ClientUpload, admit, collect, discard, next_part, too_large
from proxy.server.client import NO_OPERATION, ClientSink
from proxy.server.connection import ServerProtocol
from proxy.server.facts import HeaderFacts
from proxy.server.guard import Guard
from proxy.server.memory import SMALL_BODY_BYTES, Memory
from proxy.server.models import answer_listing
from proxy.server.routes import RAW, Match, Routes

MAX_KEPT_HEADERS_BYTES: Final = 8 << 10
"""Headers up to this size are remembered for the next request of a connection."""

PEEK_BYTES: Final = 64 << 10
"""How much of a multipart form is looked at for the field that names its model."""

FORM_MODEL: Final = re.compile(rb'name="model"(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n')


class RequestIds:
    """Makes ids that no other process makes: a random beginning and a count."""

    def __init__(self) -> None:
        self._prefix = f"req_{secrets.token_hex(8)}"
        self._numbers = count(1)

    def next(self) -> str:
        """Make the next id."""
        return f"{self._prefix}{next(self._numbers):06x}"


class DataSide:
    """Handles requests of applications.

    Args:
        guard: asked at each request, because it changes with the settings.
    """

    def __init__(
        self, pipeline: Pipeline, memory: Memory, guard: Callable[[], Guard], clock: Callable[[], float]
    ) -> None:
        self._pipeline = pipeline
        self._memory = memory
        self._guard = guard
        self._clock = clock
        self._ids = RequestIds()
        self.is_draining = False
        """New requests are refused; those in work go on."""
        self.routes = Routes(FORMATS.values())

    async def handle(
        self,
        request: web.BaseRequest,
        protocol: ServerProtocol,
        path: str,
        query: bytes,
        match: Match | None = None,
    ) -> web.StreamResponse:
        """Answer one request of the data side; `path` and `query` are as on the wire.

        Args:
            match: what the path means, if that is known already.
        """
        try:
            received_s = self._clock()
            facts, guard = protocol.facts, self._guard()
            error: ProxyError | None = None
            if (
                match is None
                or facts is None
                or facts.is_admitted is not guard
                or self.is_draining
                or self._memory.is_short
                or not facts.fit(request.raw_headers)
            ):
                facts, match, error = self._look(request, protocol, path, query, match, guard)
            exchange = self._open(request.method, protocol.peer, path, query, facts, match, received_s)
            wire = FORMATS[match.operation.format]
            extra = self._extra(exchange, guard, facts.fields)
            sink = ClientSink(request, protocol, exchange, wire, self._clock, extra)
            if error is None:
                try:
                    if not self._read_at_once(exchange, request, facts.fields):
                        await self._read(exchange, request, facts.fields)
                except (ProxyError, MemoryError) as raised:
                    error = raised if isinstance(raised, ProxyError) else out_of_memory()
                except (asyncio.CancelledError, ConnectionError):
                    await self._pipeline.abandon(exchange)
                    raise
            if error is not None:
                await self._pipeline.refuse(exchange, sink, error)
            else:
                protocol.exchange = exchange
                await self._pipeline.run(exchange, sink, None if match.operation.reads_body else answer_listing)
            if protocol.is_behind or not request.content.is_eof():
                await self._see_off(request, protocol, sink)
            return sink.written
        finally:
            protocol.exchange = None
            protocol.end()

    async def _see_off(self, request: web.BaseRequest, protocol: ServerProtocol, sink: ClientSink) -> None:
        """End a request: one who asks on and reads nothing fills no memory, and what is left of a body is read over."""
        if protocol.is_behind and not sink.is_cut:
            try:
                async with asyncio.timeout(self._pipeline.generation.settings.server.write_timeout):
                    await sink.drain()
            except (TimeoutError, ConnectionError):
                sink.abort()
        if not sink.is_cut and not request.content.is_eof():
            await discard(request.content)

    def _look(
        self,
        request: web.BaseRequest,
        protocol: ServerProtocol,
        path: str,
        query: bytes,
        match: Match | None,
        guard: Guard,
    ) -> tuple[HeaderFacts, Match, ProxyError | None]:
        """Look at a request that is not like the last one of its connection.

        Returns:
            What its headers say, what its path means, and why it is refused, if it is.
        """
        facts = protocol.facts
        error: ProxyError | None = None
        try:
            if facts is None or not facts.fit(request.raw_headers):
                facts = None
                facts = self._learn(protocol, request)
            self._check(protocol, facts, guard)
            if match is None:
                match = self._find(request.method, path, query, facts.fields)
        except ProxyError as raised:
            error = raised
        facts = facts or HeaderFacts(())
        return facts, match or Match(error_operation(path, facts.fields)), error

    @staticmethod
    def _learn(protocol: ServerProtocol, request: web.BaseRequest) -> HeaderFacts:
        """Read headers that differ from the last request's, and remember them if they are of usual size."""
        protocol.facts = None
        facts = HeaderFacts(request.raw_headers)
        if facts.size_bytes <= MAX_KEPT_HEADERS_BYTES:
            protocol.facts = facts
        return facts

    def _check(self, protocol: ServerProtocol, facts: HeaderFacts, guard: Guard) -> None:
        if self.is_draining:
            raise Draining("this proxy is stopping and takes no new requests", retry_after_s=1)
        if self._memory.is_short:
            raise self._memory.refusal()
        if protocol.is_surplus:
            protocol.ends_after_reply = True
            raise Overloaded("all connections are in use (server.maxConnections)", retry_after_s=1)
        if facts.is_admitted is not guard:
            guard.check_data(protocol.peer, facts.fields)
            facts.is_admitted = guard

    def _find(self, method: str, path: str, query: bytes, fields: dict[bytes, bytes]) -> Match:
        """Find what a path means; a provider that answers in this process knows the clients' own paths only."""
        match = self.routes.find(method, path, query, fields)
        endpoint = self._pipeline.generation.endpoints.get(match.provider or "")
        if endpoint is not None and endpoint.pool is None and match.upstream_path is not None:
            inner = self.routes.find(method, match.upstream_path.decode("latin-1"), query, fields)
            return Match(inner.operation, inner.model, match.provider, inner.upstream_path or match.upstream_path)
        return match

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(
        self,
        method: str,
        peer: str,
        path: str,
        query: bytes,
        facts: HeaderFacts,
        match: Match,
        received_s: float,
    ) -> Exchange:
        inner = Request(
            match.operation,
            method=method,
            path=path.encode("latin-1", "replace") if match.upstream_path is None else match.upstream_path,
            query=query,
            headers=facts.headers,
            model=match.model,
            written_heads=facts.written_heads,
            fields=facts.fields,
            memo=facts.memo,
        )
        return Exchange(
            inner,
            id=facts.request_id or self._ids.next(),
            received_s=received_s,
            peer=peer,
            caller=facts.caller or (query_key(query) if query else None),
            trace_id=facts.trace_id,
            named_provider=match.provider,
        )

    def imagine(self, method: str, target: str, headers: Mapping[str, str], body: bytes, peer: str) -> Exchange:
        """Make the exchange that a request would be, for those who want to know what would become of it.

        Args:
            target: path and query.
        Raises:
            ProxyError: the request would be refused; not for its sender or its size, which are not looked at.
        """
        path, _, query_text = target.partition("?")
        query = query_text.encode("latin-1", "replace")
        pairs = headers.items()
        raw = tuple((name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs)
        facts = HeaderFacts(raw)
        match = self._find(method, path, query, facts.fields)
        exchange = self._open(method, peer, path, query, facts, match, self._clock())
        exchange.is_dry_run = True
        exchange.request.body = body
        if match.operation.reads_body:
            self._interpret(exchange)
        return exchange

    @staticmethod
    def _extra(exchange: Exchange, guard: Guard, fields: dict[bytes, bytes]) -> bytes:
        extra = b"X-Request-Id: %b\r\n" % exchange.id.encode("ascii")
        if exchange.request.operation.format == "anthropic":
            extra += b"request-id: %b\r\n" % exchange.id.encode("ascii")
        if b"origin" in fields and (origin := guard.allowed_origin(fields)) is not None:
            extra += b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n" % origin
        return extra

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read_at_once(self, exchange: Exchange, request: web.BaseRequest, fields: dict[bytes, bytes]) -> bool:
        """Take a JSON body that came in one piece with the head, as most do; False if it takes more than that."""
        content, inner = request.content, exchange.request
        if not inner.operation.reads_body or not content.is_eof() or b"expect" in fields:
            return False
        inner.body = content.read_nowait()
        limit_bytes = self._pipeline.generation.settings.server.client_max_size
        if len(inner.body) > limit_bytes:
            raise too_large(len(inner.body), limit_bytes)
        if len(inner.body) > SMALL_BODY_BYTES:
            self._memory.take(len(inner.body))
        self._interpret(exchange)
        return True

    async def _read(self, exchange: Exchange, request: web.BaseRequest, fields: dict[bytes, bytes]) -> None:
        """Read of the body what the operation needs."""
        server = self._pipeline.generation.settings.server
        inner = exchange.request
        operation = inner.operation
        if not request.can_read_body and b"content-length" not in fields:
            if operation.reads_body:
                raise MalformedBody("the request has no body; this path needs a JSON object")
            return
        length = admit(request, fields, server.client_max_size)
        if operation.reads_body or (operation.name == RAW and self._names_model(exchange, fields)):
            with self._memory.room(length or 0) as room:
                inner.body = await collect(request.content, server.client_max_size, server.body_idle_timeout, room=room)
            self._interpret(exchange)
            return
        first = b""
        if exchange.named_provider is None and b"multipart/form-data" in fields.get(b"content-type", b""):
            first = await self._peek(request, server.body_idle_timeout)
            if len(first) > server.client_max_size:
                raise too_large(len(first), server.client_max_size)
            if (found := FORM_MODEL.search(first)) is not None:
                inner.model = found[1].decode("utf-8", "replace")
        if request.content.is_eof() and not first:
            inner.body = await collect(request.content, server.client_max_size, server.body_idle_timeout)
        else:
            inner.upload = ClientUpload(
                request,
                first=first,
                length=length,
                limit_bytes=server.client_max_size,
                idle_s=server.body_idle_timeout,
            )

    @staticmethod
    def _names_model(exchange: Exchange, fields: dict[bytes, bytes]) -> bool:
        """On `/v1/…` paths without special handling a JSON body may name the model that chooses the provider."""
        is_json = fields.get(b"content-type", b"").lower().startswith(b"application/json")
        return exchange.named_provider is None and is_json

    @staticmethod
    async def _peek(request: web.BaseRequest, idle_s: float) -> bytes:
        parts = b""
        while len(parts) < PEEK_BYTES and not request.content.at_eof():
            parts += await next_part(request.content, idle_s)
        return parts

    @staticmethod
    def _interpret(exchange: Exchange) -> None:
        inner = exchange.request
        operation = inner.operation
        if operation.name == RAW:
            if inner.body:
                document = parse_object(inner.body)
                model = document.get("model")
                if isinstance(model, str):
                    inner.document, inner.model = document, model
                inner.is_streaming = document.get("stream") is True
            return
        inner.document = parse_object(inner.body)
        wire = FORMATS[operation.format]
        inner.model, inner.is_streaming, inner.max_output_tokens = wire.interpret(
            operation, inner.model, inner.document
        )


def query_key(query: bytes) -> str | None:
    """Find the key that Gemini's clients may put into the query."""
    if b"key" in query or b"%" in query:
        for name, text in parse_qsl(query.decode("latin-1"), encoding="latin-1"):  # as in headers, byte by byte
            if name == "key" and text:
                return text
    return None


def error_operation(path: str, fields: Mapping[bytes, bytes]) -> Operation:
    """Guess the format for an error about a path that stands for nothing."""
    if b"anthropic-version" in fields or path.startswith("/v1/messages"):
        name = "anthropic"
    elif path.startswith(("/v1beta", "/v1alpha")):
        name = "gemini"
    elif path.startswith("/api/"):
        name = "ollama"
    else:
        name = "openai" if path.startswith("/v1") else "native"
    return Operation(name, NO_OPERATION, "GET", path, reads_body=False)
