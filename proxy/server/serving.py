"""The loop over a connection's requests: aiohttp's, without the task that it makes for each of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import set_exception
from aiohttp.http import HttpVersion11, RawRequestMessage, StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD

from proxy.server.known_head import KnownHead, RawHeaders, RepeatedHead, WholeBody, learn

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MOST_UNLIKE: Final = 16
"""After so many heads that were learnt in vain, one after the other, all requests of a connection are parsed."""


class Written(web.StreamResponse):
    """What aiohttp gets back when all is written: says only whether the connection goes on. Holds no state."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._may_keep_alive = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection may carry another request."""
        return self._may_keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing: all is written."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written."""


KEEP_ALIVE: Final = Written(True)
CLOSE: Final = Written(False)


class ClientRequest(web.BaseRequest):
    """A request that has what the data side reads, as plain attributes; the rest is made when it is first asked for."""

    method = ""
    version = HttpVersion11
    raw_path = ""
    raw_headers: RawHeaders = ()
    keep_alive = False
    content: StreamReader = EMPTY_PAYLOAD

    def __init__(self, head: RawRequestMessage | RepeatedHead, payload: StreamReader, protocol: "RequestLoop") -> None:
        self.method = head.method
        self.version = head.version
        self.raw_path = head.path
        self.raw_headers = head.raw_headers
        self.keep_alive = not head.should_close
        self.content = payload
        self._head = head
        self._protocol = protocol

    def _cancel(self, exc: BaseException) -> None:
        """Let whoever reads it know that the client has left."""
        set_exception(self.content, exc)

    def __getattr__(self, name: str) -> Any:  # Any: as aiohttp has it
        """Make the rest of it: asked for what is not there yet."""
        protocol: RequestLoop | None = self.__dict__.get("_protocol")
        if protocol is None or "_loop" in self.__dict__:
            raise AttributeError(f"a request has no {name}")
        head = self._head
        message = head.message() if isinstance(head, RepeatedHead) else head
        task: Any = None  # Any: aiohttp wants one, and only its own loop reads it
        super().__init__(message, self.content, protocol, protocol.new_writer(), task, protocol.loop)
        return getattr(self, name)


class RequestLoop(web.RequestHandler):
    """Answers the requests of one connection in the connection's own task.

    A task of its own for each, with its two turns of the event loop, took a tenth of what a request costs that is
    answered from the cache. Where anything is unusual (what cannot be parsed, an upgrade, more requests at once than
    are read ahead) aiohttp's own loop takes over for the rest of the connection.

    The requests of a connection share one context, so that a context variable that a request sets is seen by the next.

    Source: `RequestHandler.start` of aiohttp 3.14.5; `tests/proxy/server/test_serving.py` tells when it has changed.
    """

    __slots__ = ("_known", "_missing", "_unlike", "has_begun")

    def __init__(self, manager: web.Server, **kwargs: Any) -> None:  # Any: as aiohttp has it
        super().__init__(manager, **kwargs)
        self.has_begun = False
        """The response to the current request has begun, past aiohttp: nothing else may be written."""
        self._known: KnownHead | None = None
        self._missing = 0
        """How many bytes of a body the parser still waits for; 0 between two requests. Below 0, for good: more has come
        than that, or it was never known, as always when aiohttp's own loop takes over."""
        self._unlike = 0
        """How many heads were learnt since one was recognised."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it runs."""
        return self._loop

    def new_writer(self) -> StreamWriter:
        """Make what aiohttp's own responses are written with."""
        return StreamWriter(self, self._loop)

    def data_received(self, data: bytes) -> None:
        """Take in what has come; a request like the last one of its connection is not parsed again."""
        if self._missing or self._messages or not data:
            super().data_received(data)
            self._missing -= len(data)
            return
        known = self._known
        size = 0 if known is None else known.size_of(data)
        if known is None or size != len(data):
            super().data_received(data)
            self._missing = (size or self._learn(data)) - len(data)
            return
        # also on a connection that is being closed, where nobody takes it any more
        self._unlike = 0
        body = WholeBody(data[known.head_bytes :], self) if size > known.head_bytes else EMPTY_PAYLOAD
        self._messages.append((known.head, body))  # type: ignore[arg-type]  # `start` below knows them
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)

    def _learn(self, data: bytes) -> int:
        """Take note of the head of a request that was parsed, and tell how long it is; 0 if that is not known."""
        message = self._messages[0][0] if self._messages and self._unlike < MOST_UNLIKE else None
        if not isinstance(message, RawRequestMessage):
            return 0
        known, size = learn(data, message)
        if known is not None:
            self._known = known
            self._unlike += 1
        return size

    async def start(self) -> None:
        """Answer one request after the other until the connection is to end."""
        while not self._force_close:
            if not self._messages:
                try:
                    self._waiter = self._loop.create_future()
                    await self._waiter
                finally:
                    self._waiter = None
            if self._parser is None or (handler := self._request_handler) is None:  # the connection is lost
                return
            kind: type = self._messages[0][0].__class__
            if kind is not RepeatedHead:
                if kind is not RawRequestMessage or self._upgraded or self._buffer_paused:
                    await super().start()
                    return
                self._parser.message_consumed()
            if not await self._answer_next(handler):
                break
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _answer_next(self, handler: Handler) -> bool:
        """Answer a request; False if it was the last one of the connection."""
        message, payload = self._messages.popleft()
        request = ClientRequest(message, payload, self)  # type: ignore[arg-type]  # `start` has seen what it is
        self._request_in_progress, self._current_request = True, request
        try:
            try:
                response = await handler(request)
            except ConnectionError:
                return False
            except Exception as error:  # foreign code, or a defect of ours
                response = self.handle_error(request, 504 if isinstance(error, TimeoutError) else 500, error)
            if response.__class__ is not Written and (await self.finish_response(request, response, None))[1]:
                return False
        except ConnectionError:
            return False
        except BaseException:
            self.force_close()
            raise
        finally:
            self._request_in_progress, self._current_request = False, None
            if (waiter := self._handler_waiter) is not None and not waiter.done():
                waiter.set_result(None)
        self.has_begun = False
        return self._goes_on(response, payload)

    def _goes_on(self, response: web.StreamResponse, payload: StreamReader) -> bool:
        """Tell whether the connection is kept for another request, and for how long."""
        self._keepalive = bool(response.keep_alive)
        if not payload.is_eof():
            payload.set_exception(ConnectionResetError("the request was answered before all of it had come"))
            self.close()
        if not self._keepalive or self._close or self._force_close:
            return False
        loop = self._loop
        self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        return True
