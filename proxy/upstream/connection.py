"""One HTTP/1.1 connection to a provider: sends a request, reads its response, keeps its timeouts."""

import asyncio
import math
import socket
from typing import Final, Protocol, cast

from proxy.config.models import TimeoutSettings
from proxy.errors import (
    StaleConnection,
    UpstreamCut,
    UpstreamError,
    UpstreamProtocol,
    UpstreamReset,
    UpstreamTimeout,
    forget_frames,
)
from proxy.upstream.reader import ENDED, GOES_ON, HEAD_CAME, ResponseReader
from proxy.upstream.response import Receiver
from proxy.upstream.response_fields import ResponseFields
from proxy.upstream.tcpinfo import never_delivered, position

JOINED_BODY_BYTES: Final = 64 << 10
"""Up to this size head and body are one write: copying costs less than a second segment or TLS record."""

SALVAGED_BYTES: Final = 64 << 10

_GOODBYES: Final = (b"HTTP/1.1 408 ", b"HTTP/1.0 408 ")
"""With these some servers close an idle connection (RFC 9110, 15.5.9)."""

_NEVER: Final = math.inf
_CLOCK_STEP_S: Final = 0.001
"""uvloop's clock counts whole milliseconds."""


class Owner(Protocol):
    """Who keeps idle connections: a pool."""

    def give_back(self, connection: "Connection") -> None:
        """Take a connection that is ready for the next request."""
        ...

    def forget(self, connection: "Connection") -> None:
        """Note that a connection is closed; called once for each."""
        ...

    def distrust(self) -> None:
        """Note that the provider sent bytes which belong to no response."""
        ...


class Connection(asyncio.Protocol):
    """One connection, one request at a time.

    The receiver is called from inside the socket's own callback. There is one timer at most; it is left to run when
    an exchange ends and looks at the clock only when it fires, so that a busy connection arms it once a minute.

    Args:
        owner: gets it back after each clean exchange.
        sock: connected; belongs to the transport from now on.
        provider: name for messages.
        header_limit: largest response head (and largest run of chunk framing without data), in bytes.
        fields: what the provider's headers mean.
    """

    __slots__ = (
        "_active_s",
        "_behind",
        "_clock",
        "_is_lost",
        "_is_paused",
        "_is_uploading",
        "_loop",
        "_mark",
        "_owner",
        "_peer_closed",
        "_position",
        "_probe",
        "_reader",
        "_receiver",
        "_sock",
        "_started_s",
        "_timeouts",
        "_timer",
        "_timer_at_s",
        "_transport",
        "_unsent",
        "_was_cut_short",
        "exchanges",
        "idle_since_s",
        "provider",
    )

    def __init__(
        self, owner: Owner, sock: socket.socket, *, provider: str, header_limit: int, fields: ResponseFields
    ) -> None:
        self._owner = owner
        self._sock = sock
        self.provider = provider
        self.exchanges = 0
        """Requests sent on it so far."""
        self.idle_since_s = 0.0
        """Kept by the owner."""
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._transport: asyncio.Transport
        self._probe: socket.socket | None = None
        self._receiver: Receiver | None = None
        self._reader = ResponseReader(provider, header_limit, fields)
        self._is_lost = False
        self._is_uploading = False
        self._was_cut_short = False
        self._is_paused = False
        self._peer_closed = False
        self._behind: asyncio.Future[None] | None = None
        self._unsent = 0
        self._position = 0
        self._mark = 0
        self._timeouts: TimeoutSettings
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = _NEVER
        self._started_s = 0.0
        self._active_s = 0.0

    # -- what the pipeline calls ---------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Nothing can be sent on it any more."""
        return self._is_lost or self._transport.is_closing()

    @property
    def wants_body(self) -> bool:
        """Whether the rest of a streamed request is still of use: False once the response has made it pointless."""
        return self._is_uploading

    def send(
        self,
        head: bytes,
        body: bytes,
        receiver: Receiver,
        is_head_request: bool,
        timeouts: TimeoutSettings,
        *,
        is_upload: bool = False,
    ) -> None:
        """Send a request; everything else is told to the receiver.

        Args:
            head: the whole request head, its empty line included.
            body: the whole body, if not `is_upload`.
            is_upload: the body follows by `write_body` and `end_body`.
        """
        self._receiver = receiver
        self._timeouts = timeouts
        self._is_uploading = is_upload
        self._reader.begin(receiver, is_head_request)
        if self._is_lost:
            self._loop.call_soon(self._report_closed, receiver)
            return
        transport = self._transport
        if self._probe is None:
            self._mark = self._position
            self._position += len(head) + len(body)
        elif self.exchanges:
            self._mark = position(self._probe)
        self.exchanges += 1
        if not body:
            transport.write(head)
        elif len(body) <= JOINED_BODY_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        now_s = self._clock()
        self._started_s = self._active_s = now_s
        self._unsent = 0
        first_byte, total = timeouts.first_byte, timeouts.total
        limit = total if first_byte is None or (total is not None and total < first_byte) else first_byte
        if limit is not None and now_s + limit < self._timer_at_s:
            self._wake_by(now_s + limit)

    def write_body(self, data: bytes) -> bool:
        """Send the next bytes of a streamed body, framed by the caller (`headers.frame_chunk`).

        Returns:
            False when the provider is behind: `await drain()` before the next. Once `wants_body` is False it does
            nothing and returns True.
        """
        if not self._is_uploading:
            return True
        self._active_s = self._clock()
        self._position += len(data)
        self._transport.write(data)
        return self._behind is None

    def end_body(self, last: bytes = b"") -> None:
        """Send the last bytes of a streamed body (`headers.LAST_CHUNK`), after which the request is complete."""
        if self._is_uploading:
            if last:
                self.write_body(last)
            self._active_s = self._clock()
            self._is_uploading = False

    async def drain(self) -> None:
        """Wait until the provider has caught up, or the upload is pointless (`wants_body`)."""
        if self._behind is not None:
            await asyncio.shield(self._behind)

    def pause_reading(self) -> None:
        """Stop reading; the idle timeout does not run meanwhile. Bytes already read are still handed on."""
        if not self._is_paused and self._receiver is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            self._active_s = self._clock()
            if not self._is_lost:
                self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the receiver gets no further call."""
        self._receiver = None
        self._stop_upload()
        self._reader.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_lost:
            self._transport.abort()

    # -- what the loop calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: TCP and TLS are there."""
        self._transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("ssl_object") is not None:
            self._probe = self._sock.dup()  # the loop closes its own before it tells us that the connection is lost
        self._position = position(self._sock)

    def data_received(self, data: bytes) -> None:
        """Read on in the response."""
        receiver = self._receiver
        if receiver is None:  # bytes nobody asked for: what follows could be taken for the next response
            if not self._transport.is_closing():
                if not data.startswith(_GOODBYES):
                    self._owner.distrust()
                self._transport.abort()
            return
        clock, feed = self._clock, self._reader.feed  # called by way of a slot, each would cost a look-up more
        self._active_s = clock()
        try:
            progress = feed(data)
        except UpstreamProtocol as error:
            if self._reader.has_excess:
                self._owner.distrust()
            forget_frames(error)
            self._fail(error)
            return
        except Exception:  # the receiver's own; the loop reports it
            self._fail(UpstreamError(f"{self.provider}: the response could not be handled", provider=self.provider))
            raise
        if progress == GOES_ON or self._receiver is None:  # the receiver may have aborted
            return
        if progress == ENDED:
            self._finish()
            return
        self._note_begin()
        if progress == HEAD_CAME:
            receiver.on_read()

    def eof_received(self) -> None:
        """See the provider close its side; the loop closes the connection after this."""
        self._peer_closed = True
        if self._receiver is not None:
            self._break(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: nothing more can be read or written."""
        if self._receiver is not None and exc is not None and self._probe is None:
            self._salvage()
        if self._receiver is not None:
            self._peer_closed |= exc is None  # under TLS, uvloop does not call eof_received
            self._break(exc)
        self._is_lost = True
        self._stop_upload()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probe is not None:
            self._probe.close()
        self._owner.forget(self)

    def pause_writing(self) -> None:
        """Note that the provider takes our bytes too slowly."""
        if self._behind is None:
            self._behind = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that the provider has caught up."""
        self._active_s = self._clock()
        if self._behind is not None:
            if not self._behind.done():
                self._behind.set_result(None)
            self._behind = None

    def _note_begin(self) -> None:
        """Go over from waiting for the response to reading it."""
        idle = self._timeouts.idle
        if idle is not None:
            self._wake_by(self._active_s + idle)
        if self._is_uploading and self._reader.status >= 300:  # it has heard enough; a 2xx may want the rest
            self._was_cut_short = True
            self._stop_upload()

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        receiver, reader, transport = self._receiver, self._reader, self._transport
        if receiver is None:
            return
        self._receiver = None
        reader.stop()
        if (
            reader.keeps_alive
            and not self._is_uploading
            and not self._was_cut_short
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
        ):
            if self._is_paused:
                self.resume_reading()
            self._owner.give_back(self)
        else:
            self.abort()
        receiver.on_end()

    def _fail(self, error: UpstreamError, cause: BaseException | None = None) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            if cause is not None:
                error.__cause__ = cause
            receiver.on_failure(error)

    def _break(self, exc: Exception | None) -> None:
        """Judge what the end of the connection means for the response."""
        reader = self._reader
        if reader.ends_by_close and (exc is None or self._peer_closed):
            self._finish()
        elif reader.awaits_head:
            self._fail(self._reset(), exc)
        else:
            missing = f", {reader.missing} bytes short" if reader.missing else ""
            self._fail(UpstreamCut(f"{self.provider}: response cut off{missing}", provider=self.provider), exc)

    def _reset(self) -> UpstreamReset:
        provider = self.provider
        if self._reader.has_begun:
            return UpstreamReset(f"{provider}: connection closed within the response head", provider=provider)
        sock = self._sock if self._probe is None else self._probe
        if not never_delivered(sock, self._mark, peer_closed=self._peer_closed):
            return UpstreamReset(f"{provider}: connection closed before the response", provider=provider)
        if self.exchanges > 1:
            return StaleConnection(f"{provider}: kept-alive connection was closed unused", provider=provider)
        error = UpstreamReset(f"{provider}: connection closed before the request was sent", provider=provider)
        error.may_have_executed = False
        return error

    def _report_closed(self, receiver: Receiver) -> None:
        if self._receiver is receiver:
            self._fail(StaleConnection(f"{self.provider}: connection was closed unused", provider=self.provider))

    def _salvage(self) -> None:
        """Read what came before a write failed: often the reply that says why, as a 413."""
        try:
            data = self._sock.recv(SALVAGED_BYTES)
        except OSError:  # nothing there
            return
        if data:
            self.data_received(data)

    def _stop_upload(self) -> None:
        self._is_uploading = False
        if self._behind is not None and not self._behind.done():
            self._behind.set_result(None)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _wake_by(self, at_s: float) -> None:
        """See that the timer fires no later than this."""
        if self._timer_at_s <= at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer, self._timer_at_s = None, _NEVER
        if self._receiver is None:
            return
        now_s = self._clock()
        timeouts = self._timeouts
        total_s = _NEVER if timeouts.total is None else self._started_s + timeouts.total
        limit = timeouts.first_byte if self._reader.awaits_first_byte else timeouts.idle
        silent_s = _NEVER if limit is None else self._quiet_since(now_s) + limit
        due_s = min(total_s, silent_s)
        if due_s > now_s + _CLOCK_STEP_S:
            if due_s < _NEVER:
                self._wake_by(due_s)
            return
        if total_s <= silent_s:
            message = f"response not complete within {timeouts.total:g} s"
        elif self._reader.awaits_head:
            message = f"no response headers within {limit:g} s"
        else:
            message = f"no data for {limit:g} s within the response"
        self._fail(UpstreamTimeout(f"{self.provider}: {message}", provider=self.provider))

    def _quiet_since(self, now_s: float) -> float:
        """Find when the provider last owed us something and gave it; now, while it is not its turn."""
        if self._is_paused or (self._is_uploading and self._behind is None):
            return now_s  # the client is behind, or has not sent the rest of its request
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:  # a long request is still going out
            self._unsent = unsent
            self._active_s = max(self._active_s, now_s)
        return self._active_s
