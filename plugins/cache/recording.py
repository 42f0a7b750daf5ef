"""An answer while it comes: taken down to be kept, and read by others who asked the same."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from plugins.cache.question import Question
from plugins.cache.replay import PaceRecorder
from proxy.errors import ProxyError, UpstreamCut
from proxy.exchange import Exchange, Reply

OK: Final = 200
TEMPORARY_STATUSES: Final = frozenset({429, 500, 502, 503, 504, 529})
"""Instead of these an older answer is given, where that is allowed (RFC 5861, 4)."""
KEPT_HEADERS: Final = re.compile(
    rb"^(?:content-type|content-encoding|x-provider):[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE
)
"""What of a head is given again; the rest speaks of one call."""

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
    size_bytes = 0
    is_cut_short = False
    """It is too large: its beginning is gone."""
    followers = 0
    """Requests that wait for it or read it."""
    answered = 0
    """Requests that got this answer besides the one that it was made for."""
    failures_before = 0
    """Calls for the same question that failed one after the other before this one."""
    successor: "Recording | None" = None
    """After it has failed: the call of one who waited for it."""
    _offset = 0
    """Parts that are gone already."""
    _changed: "asyncio.Future[None] | None" = None
    _unwanted: Callable[[], object] | None = None

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
        self._positions: dict[object, int] = {}
        """How many parts each follower has read."""

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
        """All of it, once it is whole and was not too large."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""

    # -- the audience ------------------------------------------------------------------------------------------------

    def start(self, status: int, headers: bytes) -> None:
        """Begin; an error counts as a failed call, and its reply is what those who wait are told in the end."""
        self.status = status
        self.head = b"".join(KEPT_HEADERS.findall(headers))
        if status == OK:
            self.state = "coming"
            self._tell()

    def write(self, data: bytes) -> bool:
        """Take down body bytes; False when followers of a large answer are too far behind."""
        self._parts.append(data)
        if self.pace is not None:
            self.pace.note(len(data), self._clock() - self._began_s)
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            self.is_cut_short = True
            self._forget_what_was_read()
        if self._changed is not None:
            self._tell()
        return not self.is_cut_short or len(self._parts) < 2 or self._held_bytes() <= self._max_bytes

    def finish(self) -> None:
        """Take the end of a whole answer."""
        self.state = "whole" if self.status == OK else "failed"
        self._tell()

    def fail(self, error: ProxyError | None) -> None:
        """Take the end of a call that came to nothing."""
        if self.state == "whole":
            return
        self.state, self.error = "failed", error
        self._tell()

    async def drain(self) -> None:
        """Wait for the slowest follower; who takes nothing for too long is let go of."""
        if not self.is_cut_short:
            return
        try:
            async with asyncio.timeout(LAG_WAIT_S):
                while self._held_bytes() > self._max_bytes:
                    await self._change()
        except TimeoutError:
            while self._positions and self._held_bytes() > self._max_bytes:
                slowest = min(self._positions.values())
                self._positions = {who: at for who, at in self._positions.items() if at > slowest}
                self._forget_what_was_read()
            self._tell()

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

    def follow(self) -> None:
        """Count one more who waits or reads."""
        self.followers += 1

    def unfollow(self) -> None:
        """Count one less; the last one ends a call whose client has left."""
        self.followers -= 1
        if not self.followers and self._unwanted is not None and self.state in ("waiting", "coming"):
            self._unwanted()

    async def begun(self, wait_s: float) -> bool:
        """Wait until it comes or has failed; False if neither happened in time."""
        try:
            async with asyncio.timeout(wait_s):
                while self.state == "waiting":
                    await self._change()
        except TimeoutError:
            return False
        return True

    async def ended(self) -> None:
        """Wait until it is whole or has failed."""
        while self.state in ("waiting", "coming"):
            await self._change()

    async def read(self) -> AsyncIterator[bytes]:
        """Give what came so far, then what comes, to one who was counted by `follow`.

        Raises:
            ProxyError: the call's own error, or UpstreamCut if this reader was let go of.
        """
        me = object()
        self._positions[me] = 0
        try:
            while True:
                at = self._positions.get(me)
                if at is None or at < self._offset:
                    raise UpstreamCut("the answer is shared, and this client did not keep up with it")
                parts = self._parts[at - self._offset :]
                if parts:
                    self._positions[me] = at + len(parts)
                    if self.is_cut_short:
                        self._forget_what_was_read()
                        self._tell()
                    yield parts[0] if len(parts) == 1 else b"".join(parts)
                elif self.state == "whole":
                    return
                elif self.state == "failed":
                    raise self.error or UpstreamCut("the call that this answer was shared with was ended")
                else:
                    await self._change()
        finally:
            self._positions.pop(me, None)
            self.unfollow()
            self._tell()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _held_bytes(self) -> int:
        return sum(map(len, self._parts))

    def _forget_what_was_read(self) -> None:
        """Drop the parts that every reader has; they are not kept, and nobody joins any more."""
        read = min(self._positions.values(), default=self._offset + len(self._parts)) - self._offset
        if read > 0:
            del self._parts[:read]
            self._offset += read

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _change(self) -> None:
        """Wait for the next change; everybody who waits shares one future, which nobody cancels."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)
