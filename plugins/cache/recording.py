"""An answer while it comes: taken down to be kept, and read by others who asked the same."""

import asyncio
import re
from collections.abc import Callable
from typing import Final, Literal

from plugins.cache.entry import Entry
from plugins.cache.question import Question
from plugins.cache.replay import PaceRecorder
from proxy.errors import ProxyError, UpstreamCut
from proxy.exchange import Exchange, Reply

OK: Final = 200
TEMPORARY_STATUSES: Final = frozenset({429, 500, 502, 503, 504, 529})
"""Instead of these an older answer is given, where that is allowed (RFC 5861, 4)."""
KEPT_HEADERS: Final = re.compile(rb"\n((?:content-type|content-encoding|x-provider):[^\r\n]*\r)", re.IGNORECASE)
"""What of a head is given again; the rest speaks of one call. Begun with `^` it would be looked for at every character,
which takes three times as long."""

RETRY_AFTER: Final = re.compile(rb"^retry-after:[ \t]*([0-9]{1,6})[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)

LAG_WAIT_S: Final = 10.0
"""How long a provider waits for the slowest follower of an answer too large to be held; then that one is let go of."""

State = Literal["waiting", "coming", "whole", "failed"]

Instead = Callable[[Exchange, ProxyError], Reply | None]
Done = Callable[[Exchange, "Recording"], None]


class Recording:
    """The audience of one upstream call.

    What most recordings never set is an attribute of the class, so that making one is cheap.

    Args:
        why: there is no kept answer, in a word.
        max_bytes: more of it is neither kept nor held for those who join late.
        pace: notes when the parts of a stream come; None for whole replies.
        instead: gives an older answer in place of an error; None if there is none.
        done: told when the exchange has ended.
    """

    state: State = "waiting"
    status = 0
    head = b""
    error: ProxyError | None = None
    retry_after_s: float | None = None
    """What an error reply says of when to come back."""
    size_bytes = 0
    is_cut_short = False
    """It is too large: its beginning is gone."""
    followers = 0
    """Requests that wait for it or read it."""
    held_bytes = 0
    """Of the parts that are still there."""
    entry: Entry | None = None
    """What it has become, once its exchange has ended."""
    answered = 0
    """Requests that got this answer besides the one that it was made for."""
    failures_before = 0
    """Calls for the same question that failed one after the other before this one."""
    successor: "Recording | None" = None
    """After it has failed, or kept others waiting for too long: the call of one who waited for it."""
    _body: bytes | None = None
    _offset = 0
    """Parts that are gone already."""
    _changed: "asyncio.Future[None] | None" = None
    _unwanted: Callable[[], object] | None = None
    _caught_up: "asyncio.Future[None] | None" = None
    """For the provider, which waits for the slowest reader."""

    def __init__(
        self,
        question: Question,
        why: str,
        max_bytes: int,
        clock: Callable[[], float],
        pace: PaceRecorder | None,
        instead: Instead | None,
        done: "Done",
    ) -> None:
        self.question = question
        self.why = why
        self.pace = pace
        self._began_s = clock()
        self._clock = clock
        self._instead = instead
        self._done = done
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._places: dict[object, int] = {}
        """How many parts each reader has."""
        self._crowds: dict[int, int] = {}
        """How many readers are at each place: a thousand are at few, and the slowest is found without asking all."""

    @property
    def is_wanted(self) -> bool:
        """Whether others than the client wait or read."""
        return self.followers > 0

    @property
    def may_be_joined(self) -> bool:
        """Whether one who comes now can still have all of it."""
        return not self.is_cut_short and self.state != "failed"

    @property
    def body(self) -> bytes:
        """All of it, once it is whole and was not too large; the parts stay, for readers in the midst of them."""
        if self._body is None:
            self._body = b"".join(self._parts)
        return self._body

    # -- the audience ------------------------------------------------------------------------------------------------

    def start(self, status: int, headers: bytes) -> None:
        """Begin; an error counts as a failed call, and its reply is what those who wait are told in the end."""
        self.status = status
        kept = KEPT_HEADERS.findall(b"\n" + headers)
        self.head = b"%b\n" % b"\n".join(kept) if kept else b""
        if status == OK:
            self.state = "coming"
            if self._changed is not None:
                self._tell()
        elif (retry_after := RETRY_AFTER.search(headers)) is not None:
            self.retry_after_s = float(retry_after[1])

    def write(self, data: bytes) -> bool:
        """Take down body bytes; False when followers of a large answer are too far behind."""
        self._parts.append(data)
        if self.pace is not None:
            self.pace.note(len(data), self._clock() - self._began_s)
        self.size_bytes += len(data)
        self.held_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            self.is_cut_short = True
            self._forget_what_was_read()
        if self._changed is not None:
            self._tell()
        return not self.is_cut_short or not self._is_behind

    def finish(self) -> None:
        """Take the end of a whole answer."""
        self.state = "whole" if self.status == OK else "failed"
        if self._changed is not None:
            self._tell()

    def fail(self, error: ProxyError | None) -> None:
        """Take the end of a call that came to nothing."""
        if self.state == "whole":
            return
        self.state, self.error = "failed", error
        self._tell()

    async def drain(self) -> None:
        """Wait for the slowest reader; who takes nothing for too long is let go of."""
        if not self.is_cut_short:
            return
        try:
            async with asyncio.timeout(LAG_WAIT_S):
                while self._is_behind:
                    self._caught_up = self._caught_up or asyncio.get_running_loop().create_future()
                    await self._caught_up
        except TimeoutError:
            while self._crowds and self._is_behind:
                slowest = min(self._crowds)
                del self._crowds[slowest]
                self._places = {who: at for who, at in self._places.items() if at > slowest}
                self._forget_what_was_read()
            self._tell()
        finally:
            self._caught_up = None

    def instead(self, exchange: Exchange, error: ProxyError) -> Reply | None:
        """Give an older answer in place of an error, if there is one that may be given."""
        return None if self._instead is None else self._instead(exchange, error)

    def when_unwanted(self, act: Callable[[], object]) -> None:
        """Have the call broken off when the last follower leaves: its client has left already."""
        self._unwanted = act

    def concluded(self, exchange: Exchange) -> None:
        """Hand it to whoever keeps answers; who waits for it hears of its end, also where no call was made."""
        if self.state in ("waiting", "coming"):
            self.fail(exchange.error)
        self._done(exchange, self)

    def covers(self, error: ProxyError) -> bool:
        """Tell whether there is an older answer for such an error."""
        return self._instead is not None and error.status in TEMPORARY_STATUSES

    # -- followers ---------------------------------------------------------------------------------------------------

    async def begun(self, wait_s: float) -> bool:
        """Wait until it comes or has failed; False if neither happened in time."""
        try:
            async with asyncio.timeout(wait_s):
                while self.state == "waiting":
                    await self._change()
        except TimeoutError:
            return False
        return True

    async def collected(self) -> None:
        """Wait until all of it is there, or never will be: it has failed, or is too large."""
        while self.state in ("waiting", "coming") and not self.is_cut_short:
            await self._change()

    def reader(self) -> "Reader":
        """Keep all parts from the first on for somebody."""
        return Reader(self)

    def join(self) -> None:
        """Count one more who waits or reads."""
        self.followers += 1

    def leave(self) -> None:
        """Count one less; the last one ends a call whose client has left before."""
        self.followers -= 1
        if not self.followers and self._unwanted is not None and self.state in ("waiting", "coming"):
            self._unwanted()

    def seat(self, who: object) -> None:
        """Let somebody begin to read."""
        self._places[who] = 0
        self._crowds[0] = self._crowds.get(0, 0) + 1
        self.join()

    def unseat(self, who: object) -> None:
        """Keep nothing for somebody any more."""
        self.leave()
        at = self._places.pop(who, None)
        if at is not None:
            self._left_place(at)

    def has(self, who: object) -> bool:
        """Tell whether what somebody reads next is still there, or will be."""
        return self._places.get(who, -1) >= self._offset

    def next_for(self, who: object) -> bytes:
        """Give somebody what has come since the last time."""
        at = self._places[who]
        parts = self._parts[at - self._offset :]
        if not parts:
            return b""
        there = at + len(parts)
        self._places[who] = there
        self._crowds[there] = self._crowds.get(there, 0) + 1
        self._left_place(at)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def more(self) -> bool:
        """Wait for the next part; False at the end of a whole answer.

        Raises:
            ProxyError: the call's own error, or UpstreamCut if it was ended.
        """
        if self.state == "whole":
            return False
        if self.state == "failed":
            raise self.error or UpstreamCut("the call that this answer was shared with was ended")
        await self._change()
        return True

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _is_behind(self) -> bool:
        """Whether more is held for readers than may be; a single part always may."""
        return len(self._parts) > 1 and self.held_bytes > self._max_bytes

    def _left_place(self, at: int) -> None:
        self._crowds[at] -= 1
        if self._crowds[at] <= 0:
            del self._crowds[at]
            if self.is_cut_short and at == self._offset:
                self._forget_what_was_read()

    def _forget_what_was_read(self) -> None:
        """Drop the parts that every reader has; they are not kept, and nobody joins any more."""
        read = min(self._crowds, default=self._offset + len(self._parts)) - self._offset
        if read > 0:
            self.held_bytes -= sum(map(len, self._parts[:read]))
            del self._parts[:read]
            self._offset += read
        if self._caught_up is not None and not self._caught_up.done() and not self._is_behind:
            self._caught_up.set_result(None)

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _change(self) -> None:
        """Wait for the next change; everybody who waits shares one future, which nobody cancels."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)


class Reader:
    """Gives what came so far, then what comes; from when it is made, all of it is held for it.

    As an iterator it raises the call's own error, or UpstreamCut where it was too slow. Whoever loses it closes it.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._seat = object()
        self._is_open = True
        recording.seat(self._seat)

    @property
    def has_all(self) -> bool:
        """Whether nothing is gone of what it has not read."""
        return self._is_open and self._recording.has(self._seat)

    def __aiter__(self) -> "Reader":
        return self

    async def __anext__(self) -> bytes:
        recording, seat = self._recording, self._seat
        while True:
            if not self.has_all:
                raise UpstreamCut("the answer is shared, and this client did not keep up with it")
            if data := recording.next_for(seat):
                return data
            if not await recording.more():
                raise StopAsyncIteration

    def close(self) -> None:
        """Let go of what is held for it."""
        if self._is_open:
            self._is_open = False
            self._recording.unseat(self._seat)

    async def aclose(self) -> None:
        """Do the same, as generators do."""
        self.close()

    def __del__(self) -> None:
        self.close()
