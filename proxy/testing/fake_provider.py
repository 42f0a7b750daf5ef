"""A provider for tests: a real server on loopback that speaks the vendors' recorded shapes, and misbehaves to order."""

import asyncio
import hmac
import ssl
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, Self

from proxy.events import Events
from proxy.exchange import JsonObject
from proxy.tasks import Tasks
from proxy.testing.answers import Answer, Script
from proxy.testing.changes import Changes
from proxy.testing.connection import Connection
from proxy.testing.endpoints import Format, provider_entry
from proxy.testing.requests import EarlyClose, SeenRequest
from proxy.testing.responding import refusal, refuse, respond
from proxy.testing.steps import CutKind, Step


class FakeProvider(Script):
    """Speaks OpenAI, Anthropic, Gemini and Ollama on one port, by path.

    `upstream.reply("Paris")` says what every later request gets; `upstream.once.reply_status(429)` what the next one
    gets first. What arrived stands in `requests`. Every wait has a timeout and raises TimeoutError.

    Args:
        models: what the lists of models name.
        api_key: when given, requests without it get the vendor's 401.
        tls: when given, `url` is https.
    """

    def __init__(
        self,
        *,
        models: tuple[str, ...] = ("fake-model",),
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(self._stand)
        self.models = models
        self.requests: list[SeenRequest] = []
        """Oldest first; a request is listed as soon as its head is there."""
        self.problems: list[str] = []
        """What requests violated of the vendors' rules; a test may assert that it is empty."""
        self.early_closes: list[EarlyClose] = []
        """Connections that the peer closed while a request was unanswered, oldest first."""
        self.connections_made = 0
        self.answers_before_body = False
        """When set, a request is answered as soon as its head is there, whatever becomes of its body."""
        self.body_bytes_first = 0
        """With `answers_before_body`: so much of the body comes first."""
        self._answer = Answer()
        self._next: deque[Answer] = deque()
        self.once = Script(self._next.append)
        """The same verbs for one request each, in order, before what stands."""
        self._api_key = api_key
        self._tls = tls
        self._open: set[Connection] = set()
        self._changes = Changes("fake provider")
        self._tasks = Tasks(Events())
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Where it listens, without a path; OpenAI's SDK wants `/v1` after it."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def provider(
        self,
        format: Format = "openai",
        **settings: Any,  # Any: whatever the configuration takes
    ) -> JsonObject:
        """Describe this server as an entry of `providers:`, for all models unless `models` says otherwise."""
        return provider_entry(self.url, format, {"apiKey": self._api_key or "sk-fake", **settings})

    @property
    def requests_seen(self) -> int:
        """How many requests arrived."""
        return len(self.requests)

    @property
    def connections_open(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    @property
    def last_request(self) -> SeenRequest:
        """The newest request."""
        return self.requests[-1]

    async def start(self, port: int = 0) -> None:
        """Listen; a port other than 0 lets a provider come back where it was."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "127.0.0.1", port, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_connections("rst")
        await self._tasks.close()

    def drop_connections(self, kind: CutKind = "fin") -> None:
        """Close every connection, idle ones too, as a provider does that restarts or tires of waiting."""
        for connection in list(self._open):
            connection.close(kind)

    def pause_reading(self) -> None:
        """Take no more bytes on the connections that are open now, so that an upload stalls."""
        for connection in list(self._open):
            connection.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        for connection in list(self._open):
            connection.resume_reading()

    async def wait_for_request(
        self, count: int = 1, timeout_s: float = 5.0, *, is_complete: bool = True
    ) -> SeenRequest:
        """Wait until so many requests arrived in all, and return the last of them.

        Args:
            is_complete: with its body; False is content with the head.
        """

        def is_there() -> bool:
            return len(self.requests) >= count and (self.requests[count - 1].is_complete or not is_complete)

        await self._changes.wait(is_there, timeout_s, lambda: f"{count} requests, {len(self.requests)} there")
        return self.requests[count - 1]

    async def wait_for_disconnect(self, timeout_s: float = 5.0, count: int = 1) -> float:
        """Wait until a peer has left so many requests unanswered in all.

        Returns:
            When the last of them was noticed, on `time.monotonic()`: subtract when the client left.
        """
        await self._changes.wait(lambda: len(self.early_closes) >= count, timeout_s, lambda: f"{count} early closes")
        return self.early_closes[count - 1].at_s

    async def wait_for_connections(self, count: int, timeout_s: float = 5.0) -> None:
        """Wait until exactly so many connections are open."""
        await self._changes.wait(
            lambda: len(self._open) == count, timeout_s, lambda: f"{count} connections, {len(self._open)} open"
        )

    def began(self, request: SeenRequest) -> None:
        """Called by a connection: the head of a request is there."""
        self.requests.append(request)
        self._changes.notify()

    def answers_early(self, request: SeenRequest) -> bool:
        """Called by a connection: whether to answer a request that is not whole."""
        return self.answers_before_body and len(request.body) >= self.body_bytes_first

    def completed(self, request: SeenRequest) -> None:
        """Called by a connection: a request is whole."""
        self._changes.notify()

    def steps_for(self, request: SeenRequest) -> Iterator[Step]:
        """Called by a connection: how to answer."""
        if self._api_key is not None and not _shows_key(request, self._api_key):
            return refuse(request, 401, "Incorrect API key provided.")
        answer = self._next.popleft() if self._next else self._answer
        if answer.steps is None and not answer.status and (problem := refusal(request)) is not None:
            self.problems.append(problem)
        return respond(request, answer, self.models)

    def closed_early(self, close: EarlyClose) -> None:
        """Called by a connection: its peer left."""
        self.early_closes.append(close)
        self._changes.notify()

    def lost(self, connection: Connection) -> None:
        """Called by a connection: it has ended."""
        self._open.discard(connection)
        self._changes.notify()

    def spawn(self, coro: Coroutine[Any, Any, object], *, name: str) -> asyncio.Task[Any]:  # Any: as in Tasks
        """Called by a connection: run something beside it."""
        return self._tasks.spawn(coro, name=name)

    def _stand(self, answer: Answer) -> None:
        self._answer = answer

    def _connect(self) -> Connection:
        self.connections_made += 1
        return Connection(self, self.connections_made - 1, self._opened)

    def _opened(self, connection: Connection) -> None:
        self._open.add(connection)
        self._changes.notify()


def _shows_key(request: SeenRequest, expected: str) -> bool:
    query = dict(part.partition("=")[::2] for part in request.query.split("&"))
    shown = (
        request.header("x-api-key")
        or request.header("x-goog-api-key")
        or (request.header("authorization") or "").removeprefix("Bearer ")
        or query.get("key", "")
    )
    return hmac.compare_digest(shown.encode(), expected.encode())
